"""The model as a whole: a pure function, and predictions in order."""

import dataclasses
import functools
import json
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord
from head_kinds import head_config
from paths import FIXTURES

from eqxesm import ESMC, About, Calibration, ESMCConfig, InputError, OneHot, SolubilityModel, Tokenizer
from eqxesm.alphabet import MASK, PAD
from eqxesm.checkpoint.leaves import named_leaves
from eqxesm.checkpoint.record import Base, Provenance, Record, with_about
from eqxesm.data.cleaning import Cleaning
from eqxesm.description import describe_model
from eqxesm.encoders import ENCODERS, as_probabilities, cast
from eqxesm.encoders.lora import LoRAConfig, add_lora, merge_lora, remove_lora
from eqxesm.forms import Limits
from heads import HEADS, Convolution, ConvolutionConfig, MeanPoolMLP, MeanPoolMLPConfig

TOKENIZER = Tokenizer()
ENCODER_TYPES = [config.type for config in ENCODERS]
SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "ACDEFGHIKLMNPQRSTVWYX", "MSHHHHHHGSENLYFQGMKTAYIAKQRQISFVKSHFSRQ"]


@functools.cache
def make_esmc() -> ESMC:
    return ESMC(ESMCConfig(2, 128, 2, 256), key=jax.random.key(0))


def make(encoder: str = "one_hot", head: str = "convolution", **options) -> SolubilityModel:
    key = jax.random.key(0)
    part = make_esmc() if encoder == "esmc" else OneHot()
    config = head_config(head, part.d_model)
    return SolubilityModel(part, HEADS[type(config)](config, key=key), **options)


@pytest.mark.parametrize("head", [config.type for config, head in HEADS.items() if not head.per_residue])
@pytest.mark.parametrize("encoder", ENCODER_TYPES)
def test_any_encoder_with_any_head(encoder, head):
    model = make(encoder, head)
    tokens = TOKENIZER.encode(SEQUENCES[0])
    padded = np.concatenate([tokens, np.full(17, PAD, np.int32)])
    call = eqx.filter_jit(model)
    logit = call(tokens)
    np.testing.assert_allclose(call(padded), logit, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(call(as_probabilities(padded)), logit, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoder", ENCODER_TYPES)
def test_gradient_reaches_residues_and_parameters(encoder):
    model = make(encoder, "mean_pool_mlp")
    batch = jnp.asarray(TOKENIZER.encode_batch(SEQUENCES))
    soft = jax.vmap(as_probabilities)(batch)
    gradient = jax.jit(jax.grad(lambda p: jax.vmap(model)(p).sum()))(soft)
    assert jnp.isfinite(gradient).all()
    assert (jnp.abs(gradient).sum(axis=(1, 2)) > 0).all()
    gradients = eqx.filter_jit(eqx.filter_grad(lambda m: jax.vmap(m)(batch).sum()))(model)
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    # The LM head has no part in solubility, and calibration and limits are not for training.
    names = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    used = {name for name in names if name.startswith(("encoder.", "head.")) and "lm_head" not in name}
    assert used
    assert all((jnp.abs(names[name]) > 0).any() == (name in used) for name in names)


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
        (["MKT", "", "A"], "sequence 2: '' is a missing value. Leave it out."),
        (["MKT", "*"], "sequence 2: empty sequence"),
        (["NaN"], "sequence 1: 'NaN' is a missing value"),
        (["M" * 31], "sequence 1: 31 residues; this model accepts at most 30"),
    ],
)
def test_refuses_what_cannot_be_predicted(sequences, message):
    with pytest.raises(InputError, match=message) as error:
        make(limits=Limits(30)).predict(sequences)
    assert "\n" not in str(error.value)


def test_the_limit_is_on_what_the_model_sees():
    model = make(cleaning=Cleaning(strip_initial_met=True), limits=Limits(30))
    assert model.predict(["M" + "A" * 30]).shape == (1,)


def test_refuses_a_head_of_another_width():
    head = Convolution(ConvolutionConfig(26), key=jax.random.key(0))
    with pytest.raises(ValueError, match="takes features of width 26, the encoder makes 25"):
        SolubilityModel(OneHot(), head)


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"temperature": np.inf}, {"threshold": 1.0}])
def test_refuses_a_calibration_out_of_range(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Calibration(**bad)


def test_rematerialisation_changes_no_gradient():
    model = make("esmc", "mean_pool_mlp")
    tokens = TOKENIZER.encode(SEQUENCES[0])
    plain, remat = (
        jax.tree.leaves(eqx.filter_jit(eqx.filter_grad(lambda m, remat=remat: m(tokens, remat=remat)))(model))
        for remat in (False, True)
    )
    for a, b in zip(plain, remat, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_description_counts_parameters():
    model = make()
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model.head, eqx.is_array)))
    assert f"{count:,} parameters" in describe_model(model)["head"]


def test_a_short_chain_is_noted_and_predicted():
    model = make(limits=Limits(30, min_residues=5))
    assert model.clean("MKTA").notes == ("shorter than any protein the model was trained on (5 residues)",)
    assert model.clean("MKTAY").notes == ()
    assert model.predict(["MKTA"]).shape == (1,)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((0,), "max_residues is 0"),
        ((10, 0), "min_residues is 0"),
        ((10, 11), "min_residues 11 is above max_residues 10"),
    ],
)
def test_refuses_limits_out_of_range(limits, message):
    with pytest.raises(ValueError, match=message):
        Limits(*limits)


def test_any_container_of_sequences_is_taken():
    expected = make().predict(SEQUENCES).tolist()
    for given in (
        tuple(SEQUENCES),
        np.array(SEQUENCES),
        np.array(SEQUENCES, object),
        pandas.Series(SEQUENCES, index=range(9, 9 + len(SEQUENCES))),
        iter(SEQUENCES),
        dict(enumerate(SEQUENCES)).values(),
        [Seq(sequence) for sequence in SEQUENCES],
        [SeqRecord(Seq(sequence), id="x") for sequence in SEQUENCES],
    ):
        assert make().predict(given).tolist() == expected, type(given)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("MKTAY", "got str. For one, put it into a list."),
        (Seq("MKTAY"), "got Seq. For one, put it into a list."),
        (SeqRecord(Seq("MKTAY")), "got SeqRecord. For one, put it into a list."),
        (b"MKTAY", "got bytes."),
        ({"a": "MKTAY"}, "got dict. Pass its values as a list."),
        (pandas.DataFrame({"sequence": ["MKTAY"]}), "got DataFrame. Pass one of its columns."),
        ({"MKTAY"}, "got set. A set has no order."),
        (np.array("MKTAY"), "got ndarray. For one, put it into a list."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refuses_what_is_no_container_of_sequences(given, part):
    with pytest.raises(InputError) as error:
        make().predict(given)
    assert str(error.value).startswith("expected a list of sequences, got ")
    assert part in str(error.value)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (None, "sequence 2 is missing (None). Leave it out."),
        (float("nan"), "sequence 2 is missing (nan). Leave it out."),
        (pandas.NA, "sequence 2 is missing (<NA>). Leave it out."),
        (b"MKT", "sequence 2: expected a string, got bytes. Decode it first."),
        (["MKT"], "sequence 2: expected a string, got list"),
    ],
)
def test_refuses_what_is_no_sequence(value, part):
    with pytest.raises(InputError) as error:
        make().predict(["MKT", value])
    assert str(error.value) == part


@pytest.mark.parametrize("tokens", [[0, 99, 2], [0, -1, 2], [0, 64, 2]])
def test_a_token_outside_the_vocabulary_gives_no_number(tokens):
    model, tokens = make(), np.array(tokens, np.int32)
    with pytest.raises(InputError, match="is outside the vocabulary, 0 to 63"):
        model(tokens)
    with pytest.raises(InputError, match="is outside the vocabulary, 0 to 63"):
        model.predict_tokens([tokens])
    assert np.isnan(eqx.filter_jit(model)(tokens))
    assert np.isfinite(eqx.filter_jit(model)(np.array([0, 63, 2])))
    filled = eqx.filter_jit(lambda encoder, tokens: encoder.fill(tokens))(make_esmc(), np.array([*tokens, MASK]))
    assert filled[-1] == MASK


CALLS = """
import jax, numpy as np
from Bio.Seq import Seq
from eqxesm import ESMC, ESMCConfig, InputError, SolubilityModel, Tokenizer
model = SolubilityModel.from_pretrained("default")
encoder = ESMC(ESMCConfig(1, 32, 2, 64), key=jax.random.key(0))
tokens = Tokenizer().encode("MKT")
for call in (
    lambda: model("MKT"),
    lambda: model(np.zeros((3, 4))),
    lambda: model(np.zeros((2, 5), int)),
    lambda: model.predict(None),
    lambda: model.predict_tokens("MKT"),
    lambda: model.predict_tokens([np.array([0.5, 20.0])]),
    lambda: model.predict_tokens(tokens),
    lambda: model.clean(None),
    lambda: model.tokenize("MKT"),
    lambda: SolubilityModel.from_pretrained(None),
    lambda: model.save_pretrained(""),
    lambda: model.predict(["MKT"], tokens_per_batch=0),
    lambda: Tokenizer()("MKT"),
    lambda: Tokenizer().encode_batch("MKT"),
    lambda: Tokenizer().encode(None),
    lambda: Tokenizer().encode_batch(["MKT", float("nan")]),
    lambda: model.predict([Seq(None, 5)]),
    lambda: encoder(tokens, hidden_states=(0.5,)),
    lambda: encoder(tokens, hidden_states=1),
    lambda: encoder(tokens, np.zeros(5)),
):
    try:
        print("gave", call())
    except InputError as error:
        print(error)
"""


def test_natural_mistakes_are_refused():
    """Without the type checks of the tests, as a user runs it."""
    done = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True, check=True)
    expected = "expected tokens [length] or probabilities [length 64] of one protein, got"
    assert done.stdout.splitlines() == [
        f"{expected} str. Use predict for sequences, and Tokenizer().encode for tokens.",
        f"{expected} float64 [3, 4]. Use jax.vmap for a batch.",
        f"{expected} int64 [2, 5]. Use jax.vmap for a batch.",
        "expected a list of sequences, got NoneType. Pass a list.",
        "expected a list of token arrays, got str. For one, put it into a list.",
        "protein 1: expected the tokens of one protein, integers [length], got float64 [2]",
        "protein 1: expected the tokens of one protein, integers [length], got int32 []",
        "sequence is missing (None). Leave it out.",
        "expected what clean returns, got str",
        "expected a path, got None",
        "expected a path, got ''",
        "tokens_per_batch is 0, expected a number of at least 1",
        "a Tokenizer is not called. Use encode(sequence) or encode_batch(sequences).",
        "expected a list of sequences, got str. For one, put it into a list.",
        "sequence is missing (None). Leave it out.",
        "sequence 2: sequence is missing (nan). Leave it out.",
        "sequence 1 is missing (Sequence content is undefined). Leave it out.",
        "hidden_states is (0.5,), expected numbers of layers, as (0, -1)",
        "hidden_states is 1, expected numbers of layers, as (0, -1)",
        "sequence_id is float32 [5], expected integers [5]",
    ]


def test_a_soft_sequence_off_the_simplex_is_taken():
    soft = 1.3 * jax.nn.one_hot(Tokenizer().encode("MKTAY"), 64) - 0.01
    assert np.isfinite(make()(soft))


@pytest.mark.parametrize("column", [5, 1, 40])
@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_what_is_not_finite_in_a_soft_sequence_reaches_the_result(column, value):
    soft = jax.nn.one_hot(Tokenizer().encode("MKTAY"), 64).at[2, column].set(value)
    assert np.isnan(make()(soft))
    for model in (make(), SolubilityModel.from_pretrained("default")):
        value, slope = value_and_slope(model, soft)
        assert np.isnan(value)
        assert np.isnan(slope).any()


@eqx.filter_jit
def value_and_slope(model, soft):
    return jax.value_and_grad(model)(soft)


@pytest.mark.parametrize("tokens", [[], [0, 2], [1, 1], [0, 40, 2]])
def test_a_protein_without_a_residue_has_no_probability(tokens):
    with pytest.raises(InputError, match="protein 2 has no residue"):
        make().predict_tokens([np.array([0, 20, 2]), np.array(tokens, np.int32)])


@pytest.mark.parametrize("inputs", [np.zeros(0, np.int32), np.zeros((0, 64), np.float32)])
def test_no_tokens_are_refused(inputs):
    with pytest.raises(InputError, match="got none at all"):
        make()(inputs)


def test_the_limits_are_those_of_training():
    limits = Limits.of(longest=30, shortest=5)
    assert limits == Limits(2046, 5, 30)
    assert Limits.of(longest=3000, shortest=5) == Limits(3000, 5)
    model = make(limits=limits)
    assert model.limits == limits
    assert model.clean("MKTAY" * 6).notes == ()
    assert model.clean("MKTAY" * 7).notes == ("longer than any protein the model was trained on (30 residues)",)
    with pytest.raises(InputError, match="2,050 residues; this model accepts at most 2,046"):
        model.clean("MKTAY" * 410)


@pytest.mark.slow
def test_a_bfloat16_model_still_ranks_proteins():
    """Its logits are float32, so that few proteins get the same one."""
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 40)) for _ in range(200)]
    model = make()
    half = cast(model, jnp.bfloat16).predict(sequences)
    assert len(np.unique(half)) > 190
    np.testing.assert_allclose(half, model.predict(sequences), atol=5e-3)


@pytest.mark.parametrize("encoder", ENCODER_TYPES)
@pytest.mark.parametrize("shape", [(2, 9), (9, 33), (1, 9, 64), ()])
def test_refuses_what_is_not_one_protein(encoder, shape):
    dtype = jnp.float32 if shape[-1:] in ((33,), (64,)) else jnp.int32
    # Below the type checks of the tests, which would refuse it too.
    with pytest.raises((ValueError, TypeError), match=r"expected tokens|shape|Type-check"):
        make(encoder).encoder.features(jnp.zeros(shape, dtype))


def test_a_model_has_the_licence_of_its_encoder(tmp_path):
    provenance = Provenance("biohub/ESMC-300M", "a59b", ("0f  model.safetensors",), "mit")
    encoder = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0), about=About(provenance))
    head = MeanPoolMLP(MeanPoolMLPConfig(64), key=jax.random.key(0))
    model = SolubilityModel(encoder, head)
    model.save_pretrained(tmp_path / "model")
    again = SolubilityModel.from_pretrained(tmp_path / "model")
    assert describe_model(model)["source"] == "trained on top of biohub/ESMC-300M"
    assert describe_model(again) == describe_model(model)
    assert "license: mit" in (tmp_path / "model" / "README.md").read_text()


def test_rematerialisation_keeps_less_for_the_backward_pass():
    model = make("esmc", "mean_pool_mlp")
    probabilities = jax.nn.one_hot(TOKENIZER.encode(SEQUENCES[0]), 64)

    def kept(remat: bool) -> int:
        _, pull_back = jax.vjp(lambda soft: model(soft, remat=remat), probabilities)
        return sum(leaf.size for leaf in jax.tree.leaves(pull_back))

    parameters = sum(leaf.size for leaf in named_leaves(model).values())
    assert kept(True) - parameters < (kept(False) - parameters) / 2


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.float16])
def test_the_encoder_is_cast_as_it_is_loaded(dtype, tmp_path):
    model = make("esmc", "mean_pool_mlp")
    model.save_pretrained(tmp_path / "model")
    again = SolubilityModel.from_pretrained(tmp_path / "model", dtype=dtype)
    assert eqx.tree_equal(named_leaves(again.encoder), named_leaves(cast(model.encoder, dtype)))
    assert eqx.tree_equal(named_leaves(again.head), named_leaves(model.head))


@pytest.mark.parametrize("dtype", ["int8", "float64", "nonsense"])
def test_refuses_a_precision_that_is_none(dtype):
    with pytest.raises(InputError, match=r"dtype is .*, expected a floating-point type of at most 32 bits"):
        SolubilityModel.from_pretrained(dtype=dtype)


# What is known of a model


PROVENANCE = Provenance("biohub/ESMC-300M", "a59b", ("0f  model.safetensors",), "mit")
ABOUT = About(PROVENANCE, Base("me/esmc", "a" * 40), Record({"summary": "A model."}))


def tiny(about: About = ABOUT, **options) -> SolubilityModel:
    encoder, head = tiny_parts()
    return SolubilityModel(with_about(encoder, about), head, about=about, **options)


@functools.cache
def tiny_parts() -> tuple[ESMC, MeanPoolMLP]:
    encoder = ESMC(ESMCConfig(1, 16, 1, 24), key=jax.random.key(0))
    return encoder, MeanPoolMLP(MeanPoolMLPConfig(16, (4,)), key=jax.random.key(1))


OTHER = About(Provenance("elsewhere"), None, Record({"summary": "Another."}))


def test_trees_of_models_with_different_records_and_settings_match():
    one = tiny(calibration=Calibration(2.0, 0.25), limits=Limits(30))
    two = tiny(OTHER, calibration=Calibration(0.5), limits=Limits(2000, 5))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    mean = jax.tree.map(lambda a, b: (a + b) / 2 if eqx.is_inexact_array(a) else a, one, two)
    assert mean.calibration == Calibration(1.25, 0.375)
    np.testing.assert_array_equal(mean.encoder.embedding, one.encoder.embedding)
    assert mean.predict(SEQUENCES[:1]).shape == (1,)


def test_models_with_different_records_and_settings_share_a_compiled_function():
    traces = []

    @eqx.filter_jit
    def probability(model, tokens):
        traces.append(tokens.shape)
        return model.probability(tokens)

    tokens = TOKENIZER.encode(SEQUENCES[0])
    models = [
        tiny(calibration=Calibration(2.0, 0.25), limits=Limits(30)),
        tiny(OTHER, calibration=Calibration(0.5), limits=Limits(2000, 5)),
        tiny(About()),
    ]
    found = [float(probability(model, tokens)) for model in models]
    assert len(traces) == 1
    expected = [float(model.probability(tokens)) for model in models]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(set(found)) == 3


@pytest.mark.slow
def test_predictions_of_models_that_differ_in_settings_compile_once():
    jax.clear_caches()
    assert count_compilations(lambda: tiny(calibration=Calibration(3.0)).predict(SEQUENCES)) > 0
    assert count_compilations(lambda: tiny(OTHER, limits=Limits(100)).predict(SEQUENCES)) == 0


def count_compilations(call) -> int:
    """How often JAX compiles while a function runs."""
    events = []

    def listen(event: str, _: float, **__) -> None:
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        call()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return sum(event == "/jax/core/compile/backend_compile_duration" for event in events)


def test_the_representation_of_a_model_is_short():
    model = tiny(About(PROVENANCE, None, Record({"summary": "x", "figures": list(range(10_000))})))
    arrays = jax.tree.leaves(eqx.filter([model.encoder, model.head], eqx.is_array))
    count = sum(array.size for array in arrays)
    assert count == 4777
    assert repr(model) == "SolubilityModel(esmc encoder, mean_pool_mlp head, 4,777 parameters)"


def test_the_temperature_and_the_limits_get_no_gradient():
    model = tiny(calibration=Calibration(2.0, 0.25), limits=Limits(30))
    tokens = TOKENIZER.encode(SEQUENCES[0])
    gradient = eqx.filter_grad(lambda model: model.probability(tokens))(model)
    assert gradient.temperature == gradient.threshold == 0
    assert gradient.max_residues is gradient.min_residues is None
    assert (jnp.abs(gradient.head.mlp.layers[0].weight) > 0).any()


@pytest.mark.parametrize(
    "change",
    [
        lambda model: jax.tree.map(lambda leaf: leaf, model),
        lambda model: eqx.tree_at(lambda model: model.head, model, model.head),
        lambda model: eqx.combine(*eqx.partition(model, eqx.is_array)),
    ],
    ids=["tree.map", "tree_at", "combine"],
)
@pytest.mark.parametrize("kind", ["model", "encoder"])
def test_tree_functions_drop_what_is_known(change, kind):
    tree = tiny() if kind == "model" else tiny().encoder
    changed = change(tree) if kind == "model" else change(tiny()).encoder
    assert tree.about == ABOUT
    assert changed.about == About()
    assert eqx.tree_equal(changed, tree)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree, _: cast(tree, jnp.bfloat16),
        lambda _, adapted: merge_lora(adapted),
        lambda _, adapted: remove_lora(adapted),
        lambda _, adapted: adapted,
    ],
    ids=["cast", "merge_lora", "remove_lora", "add_lora"],
)
def test_casts_and_adapters_keep_what_is_known(change):
    model = tiny()
    adapted = add_lora(model.encoder, LoRAConfig(rank=2), key=jax.random.key(2))
    assert change(model.encoder, adapted).about == ABOUT
    whole = change(model, model.replace(encoder=adapted))
    assert whole.about == ABOUT
    assert whole.encoder.about == ABOUT


def test_a_cast_leaves_calibration_and_limits():
    """In half precision they would be other numbers, which a saved model would then have."""
    model = tiny(calibration=Calibration(1.2345678901, 0.3), limits=Limits(2047, 3))
    half = cast(model, jnp.bfloat16)
    assert (half.calibration, half.limits) == (model.calibration, model.limits)
    assert half.head.mlp.layers[0].weight.dtype == half.encoder.embedding.dtype == jnp.bfloat16


def test_replacing_a_part_keeps_the_rest():
    model = tiny(calibration=Calibration(2.0, 0.25), limits=Limits(30), cleaning=Cleaning(strip_tags=True))
    other = model.replace(calibration=Calibration(3.0))
    assert other.calibration == Calibration(3.0)
    assert (other.limits, other.cleaning, other.about) == (Limits(30), Cleaning(strip_tags=True), ABOUT)
    assert other.head is model.head
    assert other.encoder is model.encoder
    assert model.replace(about=OTHER).about == OTHER
    assert model.replace(limits=Limits(31)).limits == Limits(31)
    with pytest.raises(InputError, match="features of width 25"):
        model.replace(head=make().head)


FACTS = {
    "summary": "Made up.",
    "training": {"data": [], "hygiene": "", "calibrated_on": "nothing", "recipe": {}},
    "evaluation": {"intervals": "", "sets": []},
    "limits": [],
}


def test_what_is_known_travels_through_a_checkpoint(tmp_path):
    base = Base("me/esmc", "a" * 40)
    about = About(dataclasses.replace(PROVENANCE, source=f"trained on top of {PROVENANCE.source}"), base)
    tiny(about).save_pretrained(tmp_path / "first", FACTS)
    first = SolubilityModel.from_pretrained(tmp_path / "first")
    assert (first.about.provenance, first.about.base) == (about.provenance, base)
    assert first.about.record.facts["summary"] == "Made up."
    first.save_pretrained(tmp_path / "second")
    assert SolubilityModel.from_pretrained(tmp_path / "second").about == first.about
    card = (tmp_path / "second" / "README.md").read_text()
    assert card == (tmp_path / "first" / "README.md").read_text()
    assert "license: mit" in card
    assert "Made up." in card
    assert "- Licence: mit" in card
    # A changed model is another one, unless somebody says what it is.
    changed = eqx.tree_at(lambda model: model.head, first, first.head)
    changed.save_pretrained(tmp_path / "bare")
    bare = (tmp_path / "bare" / "README.md").read_text()
    assert "Not recorded." in bare
    assert "Made up." not in bare
    assert "license: mit" not in bare
    changed.save_pretrained(tmp_path / "told", about=first.about)
    assert SolubilityModel.from_pretrained(tmp_path / "told").about == first.about


def test_a_model_without_anything_known_says_so_on_its_card(tmp_path):
    tiny(About()).save_pretrained(tmp_path / "model")
    model = SolubilityModel.from_pretrained(tmp_path / "model")
    assert model.about == About()
    assert "Not recorded." in (tmp_path / "model" / "README.md").read_text()
    described = describe_model(model)
    assert [described[name] for name in ("source", "revision", "licence", "record")] == ["not recorded"] * 4


# Version 0.1.0


def test_a_model_of_0_1_0_gives_its_probabilities():
    expected = json.loads((FIXTURES / "0.1.0" / "expected.json").read_text())
    model = SolubilityModel.from_pretrained(FIXTURES / "0.1.0" / "model")
    np.testing.assert_allclose(model.predict(expected["sequences"]), expected["probabilities"], rtol=1e-6)
    config = json.loads((FIXTURES / "0.1.0" / "model" / "config.json").read_text())
    assert model.calibration == Calibration(**config["calibration"])
    assert model.limits == Limits(**config["limits"])
    assert model.about.provenance == Provenance(**config["provenance"])
    assert model.about.record.facts["name"] == "default"


def test_an_encoder_of_0_1_0_gives_its_embedding_and_logits():
    expected = json.loads((FIXTURES / "0.1.0" / "expected.json").read_text())
    encoder = ESMC.from_pretrained(FIXTURES / "0.1.0" / "encoder")
    output = encoder(TOKENIZER.encode(expected["sequences"][0]))
    np.testing.assert_allclose(output.embedding[1], expected["embedding"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output.logits[1], expected["logits"], rtol=1e-5, atol=1e-6)
    assert encoder.about.provenance.license == "mit"
    assert encoder.about.record.facts["summary"] == "A tiny encoder, drawn at random."
