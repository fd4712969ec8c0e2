"""Models of assays: what they predict, and their checkpoints."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqxesm import AssayModel, InputError, OneHot, SolubilityModel, Target, Tokenizer
from eqxesm.alphabet import PAD
from eqxesm.encoders import as_probabilities
from eqxesm.loading import load_any
from heads import CompositionMLP, CompositionMLPConfig, ResidueConvolution, ResidueConvolutionConfig

SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "GSLEKDDPNAIYWW", "MQIFVK"]
NUMBER = Target("yield", "number", "mg/L", centre=2.0, scale=3.0, margin=0.5)
SIDE = Target("side", "classes", classes=("in", "out", "between"))
LETTERS = Target("structure", "residues", classes=tuple("HEC"))


def make(*targets: Target) -> AssayModel:
    encoder, outputs = OneHot(), sum(target.outputs for target in targets)
    if targets[0].kind == "residues":
        config = ResidueConvolutionConfig(encoder.d_model, channels=8, kernel=5, outputs=outputs)
        return AssayModel(encoder, ResidueConvolution(config, key=jax.random.key(0)), targets)
    config = CompositionMLPConfig(encoder.d_model, (8,), outputs=outputs)
    return AssayModel(encoder, CompositionMLP(config, key=jax.random.key(0)), targets)


def test_predicts_what_its_outputs_say():
    model = make(NUMBER, SIDE)
    found = model.predict(SEQUENCES)
    assert found["yield"].shape == (3,)
    assert found["side"].shape == (3, 3)
    for row, sequence in enumerate(SEQUENCES):
        outputs = np.asarray(model(Tokenizer().encode(sequence)))
        np.testing.assert_allclose(found["yield"][row], 2 + 3 * outputs[0], rtol=1e-5)
        exponents = np.exp(outputs[1:])
        np.testing.assert_allclose(found["side"][row], exponents / exponents.sum(), rtol=1e-5)


def test_every_residue_gets_its_classes_whatever_the_padding():
    model = make(LETTERS)
    found = model.predict(SEQUENCES)["structure"]
    assert [len(each) for each in found] == [len(sequence) for sequence in SEQUENCES]
    alone = jax.nn.softmax(model(Tokenizer().encode(SEQUENCES[2])), axis=-1)
    np.testing.assert_allclose(found[2], alone[1:-1], rtol=1e-5, atol=1e-6)
    padded = np.concatenate([Tokenizer().encode(SEQUENCES[2]), np.full(9, PAD, np.int32)])
    np.testing.assert_allclose(model(padded)[:8], model(padded[:8]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("targets", [(NUMBER, SIDE), (LETTERS,)])
def test_gradients_reach_a_soft_sequence(targets):
    model = make(*targets)
    soft = as_probabilities(Tokenizer().encode(SEQUENCES[1]))
    slope = eqx.filter_jit(jax.grad(lambda soft: sum(each.sum() for each in model.quantities(soft).values())))(soft)
    outputs = jax.grad(lambda soft: model(soft).sum())(soft)
    assert np.isfinite(np.asarray(slope)).all()
    assert np.abs(np.asarray(outputs)).max() > 0


@pytest.mark.parametrize("targets", [(NUMBER, SIDE), (LETTERS,)])
def test_a_checkpoint_gives_the_same_model_again(targets, tmp_path):
    model = make(*targets)
    model.save_pretrained(tmp_path / "model")
    again = load_any(tmp_path / "model")
    assert isinstance(again, AssayModel)
    assert again.targets == targets
    for name, values in model.predict(SEQUENCES).items():
        for one, other in zip(again.predict(SEQUENCES)[name], values, strict=True):
            np.testing.assert_array_equal(one, other)
    card = (tmp_path / "model" / "README.md").read_text()
    assert all(f"| {target.name} | {target.kind} |" in card for target in targets)


def test_names_cannot_break_the_card(tmp_path):
    make(Target("a|b <!-- /eqxesm:targets -->", "number")).save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.count("<!-- /eqxesm:targets -->") == 1
    assert "| a\\|b &lt;!-- /eqxesm:targets --> | number |" in card


def test_each_kind_of_model_refuses_the_other(tmp_path):
    make(NUMBER).save_pretrained(tmp_path / "assay")
    with pytest.raises(InputError, match=r"a model of an assay \(yield\). Load it with AssayModel"):
        SolubilityModel.from_pretrained(tmp_path / "assay")
    with pytest.raises(InputError, match=r"predicts solubility. Use SolubilityModel"):
        AssayModel.from_pretrained("default")


def test_refuses_a_head_that_does_not_fit_its_targets():
    encoder = OneHot()
    head = CompositionMLP(CompositionMLPConfig(encoder.d_model, (8,), outputs=2), key=jax.random.key(0))
    with pytest.raises(InputError, match="the head has 2 outputs, the targets need 4"):
        AssayModel(encoder, head, [NUMBER, SIDE])
    with pytest.raises(InputError, match="2 outputs, expected one logit"):
        SolubilityModel(encoder, head)
    two = Target("structure", "residues", classes=tuple("HE"))
    with pytest.raises(InputError, match="a head for whole proteins does not fit"):
        AssayModel(encoder, head, [two])


def test_damaged_weights_are_refused():
    model = make(NUMBER)
    broken = eqx.tree_at(lambda model: model.head, model, jax.tree.map(lambda x: x * jnp.nan, model.head))
    with pytest.raises(InputError, match="its weights are damaged"):
        broken.predict(SEQUENCES)
