"""The model as a whole: a pure function, and predictions in order."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqxesm import ESMC, Calibration, ESMCConfig, InputError, OneHot, SolubilityModel, Tokenizer
from eqxesm.alphabet import PAD
from eqxesm.checkpoint.schema import Provenance
from eqxesm.data.cleaning import Cleaning
from eqxesm.declarations import Limits
from eqxesm.description import describe_model
from eqxesm.encoders import ENCODERS, as_probabilities, cast
from heads import HEADS, Convolution, ConvolutionConfig, MeanPoolMLP, MeanPoolMLPConfig

TOKENIZER = Tokenizer()
SEQUENCES = [
    "MKTAYIAKQRQISFVKSHFSRQ",
    "ACDEFGHIKLMNPQRSTVWYX",
    "MSHHHHHHGSENLYFQGMKTAYIAKQRQISFVKSHFSRQ",
]


def make(encoder: str = "one_hot", head: str = "convolution", **options) -> SolubilityModel:
    key = jax.random.key(0)
    parts = {"one_hot": OneHot(), "esmc": ESMC(ESMCConfig(2, 128, 2, 256), key=key)}
    config, cls = HEADS[head]
    return SolubilityModel(parts[encoder], cls(config(parts[encoder].d_model), key=key), **options)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_any_encoder_with_any_head(encoder, head):
    model = make(encoder, head)
    tokens = TOKENIZER.encode(SEQUENCES[0])
    padded = np.concatenate([tokens, np.full(17, PAD, np.int32)])
    logit = model(tokens)
    np.testing.assert_allclose(model(padded), logit, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(as_probabilities(padded)), logit, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradient_reaches_residues_and_parameters(encoder):
    model = make(encoder, "mean_pool_mlp")
    batch = jnp.asarray(TOKENIZER.encode_batch(SEQUENCES))
    soft = jax.vmap(as_probabilities)(batch)
    gradient = jax.grad(lambda p: jax.vmap(model)(p).sum())(soft)
    assert jnp.isfinite(gradient).all()
    assert (jnp.abs(gradient).sum(axis=(1, 2)) > 0).all()
    gradients = eqx.filter_grad(lambda m: jax.vmap(m)(batch).sum())(model)
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    # The LM head has no part in solubility.
    used = [leaf for path, leaf in leaves if "lm_head" not in jax.tree_util.keystr(path)]
    assert all((jnp.abs(leaf) > 0).any() for leaf in used)


def test_predict_is_the_function_one_by_one():
    model = make(calibration=Calibration(temperature=2.0))
    expected = [jax.nn.sigmoid(model(TOKENIZER.encode(sequence)) / 2.0) for sequence in SEQUENCES]
    predicted = model.predict(SEQUENCES)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, np.array(expected), rtol=1e-6)
    np.testing.assert_array_equal(model.predict(SEQUENCES[::-1]), predicted[::-1])
    assert model.predict([]).shape == (0,)


def test_predict_cleans_as_the_model_declares():
    plain, stripping = make(), make(cleaning=Cleaning(strip_tags=True, strip_initial_met=True))
    bare = SEQUENCES[0][1:]
    assert stripping.predict([SEQUENCES[2]]) == plain.predict([bare])
    assert plain.predict([SEQUENCES[2]]) != plain.predict([bare])
    assert plain.predict([SEQUENCES[0].lower() + "*"]) == plain.predict([SEQUENCES[0]])


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (["MKT", "MK-T"], "sequence 2: position 3: gap"),
        (["MK7"], "sequence 1: position 3: digit"),
        (["MKT", "", "A"], "sequence 2: empty sequence"),
        (["M" * 31], "sequence 1: 31 residues are more than the 30"),
    ],
)
def test_what_cannot_be_predicted_is_refused(sequences, message):
    with pytest.raises(InputError, match=message) as error:
        make(limits=Limits(30)).predict(sequences)
    assert "\n" not in str(error.value)


def test_the_limit_is_on_what_the_model_sees():
    model = make(cleaning=Cleaning(strip_initial_met=True), limits=Limits(30))
    assert model.predict(["M" + "A" * 30]).shape == (1,)


def test_widths_must_fit():
    head = Convolution(ConvolutionConfig(26), key=jax.random.key(0))
    with pytest.raises(ValueError, match="26 wide and the encoder makes them 25 wide"):
        SolubilityModel(OneHot(), head)


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"temperature": np.inf}, {"threshold": 1.0}])
def test_calibration_ranges(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Calibration(**bad)


def test_rematerialisation_changes_no_gradient():
    model = make("esmc", "mean_pool_mlp")
    tokens = TOKENIZER.encode(SEQUENCES[0])
    plain, remat = (
        jax.tree.leaves(eqx.filter_grad(lambda m, r=r: m(tokens, remat=r))(model))
        for r in (False, True)
    )
    for a, b in zip(plain, remat, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_description_counts_parameters():
    model = make()
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model.head, eqx.is_array)))
    assert f"{count:,} parameters" in describe_model(model)["head"]


def test_a_short_chain_is_noted_and_predicted():
    model = make(limits=Limits(30, min_residues=5))
    assert model.clean("MKTA").notes == ("shorter than any protein the model was trained on (5)",)
    assert model.clean("MKTAY").notes == ()
    assert model.predict(["MKTA"]).shape == (1,)


@pytest.mark.parametrize("limits", [(0,), (10, 0), (10, 11)])
def test_limits_that_cannot_be(limits):
    with pytest.raises(ValueError, match="min_residues"):
        Limits(*limits)


def test_one_sequence_is_no_list():
    with pytest.raises(InputError, match=r"write predict\(\[sequence\]\)"):
        make().predict("MKTAY")


def test_a_missing_sequence_is_told():
    """Without the type checks of the tests, as a user runs it."""
    code = """
from eqxesm import SolubilityModel
try:
    SolubilityModel.from_pretrained("default").predict(["MKT", None])
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "sequence 2: None is no text: leave it out\n"


def test_bfloat16_still_ranks():
    """Its logits are of float32, so that proteins do not fall together."""
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 40)) for _ in range(200)]
    model = make()
    half = cast(model, jnp.bfloat16).predict(sequences)
    assert len(np.unique(half)) > 190
    np.testing.assert_allclose(half, model.predict(sequences), atol=5e-3)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("shape", [(2, 9), (9, 33), (1, 9, 64), ()])
def test_what_is_not_one_protein_is_refused(encoder, shape):
    dtype = jnp.float32 if shape[-1:] in ((33,), (64,)) else jnp.int32
    # Below the type checks of the tests, which would refuse it too.
    with pytest.raises((ValueError, TypeError), match=r"shape|Type-check"):
        make(encoder).encoder.features(jnp.zeros(shape, dtype))


def test_a_model_on_a_published_encoder_stands_under_its_terms(tmp_path):
    provenance = Provenance("biohub/ESMC-300M", "a59b", ("0f  model.safetensors",), "mit")
    encoder = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0), provenance=provenance)
    head = MeanPoolMLP(MeanPoolMLPConfig(64), key=jax.random.key(0))
    model = SolubilityModel(encoder, head)
    model.save_pretrained(tmp_path / "model")
    again = SolubilityModel.from_pretrained(tmp_path / "model")
    assert describe_model(model)["source"] == "trained on top of biohub/ESMC-300M"
    assert describe_model(again) == describe_model(model)
    assert "license: mit" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("remat", [False, True])
def test_rematerialisation_reaches_the_encoder(remat):
    model = make("esmc", "mean_pool_mlp")
    tokens = jnp.asarray(TOKENIZER.encode(SEQUENCES[0]))
    jaxpr = str(jax.make_jaxpr(lambda t: model(t, remat=remat))(tokens))
    assert ("checkpoint" in jaxpr or "remat" in jaxpr) == remat
