"""Targets: losses and quantities against torch and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eqxesm import InputError, Target
from eqxesm.targets import check_targets, split_outputs

RNG = np.random.default_rng(0)
LEVELS = ("low", "middle", "high")
TARGETS = {
    "binary": Target("y", "binary", classes=("no", "yes")),
    "number": Target("y", "number", "mg/L", centre=3.0, scale=2.0),
    "fraction": Target("y", "fraction"),
    "classes": Target("y", "classes", classes=LEVELS),
    "ordinal": Target("y", "ordinal", classes=LEVELS),
    "residues": Target("y", "residues", classes=tuple("HEC")),
}


def outputs_of(target: Target, rows: int = 7) -> np.ndarray:
    return (2 * RNG.normal(size=(rows, target.outputs))).astype(np.float32)


def values_of(target: Target, rows: int = 7) -> np.ndarray:
    if target.is_number:
        return RNG.uniform(size=rows).astype(np.float32)
    return RNG.integers(len(target.classes), size=rows).astype(np.float32)


def torch_loss(target: Target, outputs: np.ndarray, values: np.ndarray) -> np.ndarray:
    x, y = torch.tensor(outputs), torch.tensor(values)
    if target.kind == "number":
        return (0.5 * (x[:, 0] - (y - target.centre) / target.scale) ** 2).numpy()
    if target.kind in ("classes", "residues"):
        return F.cross_entropy(x, y.long(), reduction="none").numpy()
    if target.kind == "ordinal":
        # A yes or no for each step: is it above this level?
        steps = torch.stack([(y > step).float() for step in range(target.outputs)], dim=1)
        return F.binary_cross_entropy_with_logits(x, steps, reduction="none").sum(1).numpy()
    return F.binary_cross_entropy_with_logits(x[:, 0], y, reduction="none").numpy()


@pytest.mark.parametrize("kind", TARGETS)
def test_losses_are_those_of_torch(kind):
    target = TARGETS[kind]
    outputs, values = outputs_of(target), values_of(target)
    ours = target.losses(jnp.asarray(outputs), jnp.asarray(values))
    np.testing.assert_allclose(ours, torch_loss(target, outputs, values), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", TARGETS)
def test_an_unknown_value_gives_a_finite_loss_and_gradient(kind):
    target = TARGETS[kind]
    outputs, values = jnp.asarray(outputs_of(target)), jnp.asarray(values_of(target)).at[2].set(jnp.nan)
    loss, slope = jax.value_and_grad(lambda x: target.losses(x, values).sum())(outputs)
    assert np.isfinite(loss)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("kind", ["classes", "ordinal", "residues"])
def test_probabilities_of_classes_are_probabilities(kind):
    target = TARGETS[kind]
    found = target.quantity(jnp.asarray(5 * outputs_of(target, 50)))
    assert found.shape == (50, 3)
    assert (np.asarray(found) >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_quantities_are_in_the_units_of_the_assay():
    number = TARGETS["number"].quantity(jnp.array([[0.5]]))
    np.testing.assert_allclose(number, [4.0])
    chances = TARGETS["ordinal"].quantity(jnp.array([[0.0, -np.log(3.0)]], jnp.float32))
    # Above low with 1/2, above middle with 1/4.
    np.testing.assert_allclose(chances, [[0.5, 0.25, 0.25]], rtol=1e-6)
    cool = Target("y", "binary", classes=("no", "yes"), temperature=2.0)
    np.testing.assert_allclose(cool.quantity(jnp.array([[2.0]])), 1 / (1 + np.exp(-1.0)), rtol=1e-6)


def test_a_table_names_the_target_its_unit_and_its_interval():
    target = Target("yield", "number", "mg/L", margin=1.5)
    assert target.columns() == ["yield (mg/L)", "yield_low", "yield_high"]
    assert target.cells(np.float32(2.0)) == [2.0, 0.5, 3.5]
    share = Target("soluble part", "fraction", margin=0.3)
    assert share.interval(0.9) == (pytest.approx(0.6), 1.0)
    assert TARGETS["binary"].cells(np.float32(0.25)) == ["no", 0.25]
    assert TARGETS["classes"].cells(np.array([0.1, 0.7, 0.2])) == ["middle", 0.7]
    assert TARGETS["residues"].cells(np.eye(3)[[0, 0, 2]]) == ["HHC"]


def test_targets_split_the_outputs_in_their_order():
    targets = [TARGETS["classes"], Target("n", "number"), TARGETS["ordinal"]]
    parts = [own.tolist() for _, own in split_outputs(targets, np.arange(6))]
    assert parts == [[0, 1, 2], [3], [4, 5]]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"kind": "classes"}, "classes has 0 names, expected two or more"),
        ({"kind": "binary", "classes": LEVELS}, "classes has 3 names, expected 2"),
        ({"kind": "classes", "classes": ("a", "a")}, "two classes have the same name"),
        ({"kind": "number", "classes": ("a", "b")}, "a target of kind number has no classes"),
        ({"kind": "residues", "classes": ("helix", "coil")}, "classes of residues are single letters"),
        ({"kind": "number", "scale": 0.0}, "scale"),
        ({"kind": "size"}, "kind"),
        ({"kind": "number", "unit": "mg\x1b]0;L"}, "letters that can be printed alone"),
    ],
)
def test_refuses_targets_that_make_no_sense(values, fault):
    with pytest.raises(InputError, match=fault):
        Target("y", **values)


def test_refuses_targets_that_cannot_be_predicted_together():
    with pytest.raises(ValueError, match="two targets have the same name"):
        check_targets([TARGETS["number"], TARGETS["number"]])
    for other in (Target("id", "number"), Target("y_low", "fraction"), Target("y_probability", "number")):
        with pytest.raises(ValueError, match=r"two columns .* Rename the target"):
            check_targets([Target("y", "binary", classes=("no", "yes")), other])
    with pytest.raises(ValueError, match="predicted alone"):
        check_targets([TARGETS["residues"], Target("n", "number")])
