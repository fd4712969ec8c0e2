"""What a model predicts: the kind of value, its unit, and how the numbers of a head become it."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Lt, MaxLen, MinLen
from jaxtyping import Array, Float
from pydantic import AfterValidator, Strict, model_serializer

from eqxesm.config import configuration
from heads.fields import NotNegative, Positive, leave_out_unset

Kind = Literal["binary", "number", "fraction", "classes", "ordinal", "residues"]

UNKNOWN = "-"
"""The class of a residue without one."""

COVERED = 0.9
"""Share of the held-out proteins whose value is within the margin of a target."""


def _check_name(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("expected at least one letter, and letters that can be printed alone")
    return name


Name = Annotated[str, MaxLen(200), AfterValidator(_check_name)]
Bounded = Annotated[float, Gt(-1e30), Lt(1e30)]
Classes = Annotated[tuple[Name, ...], Strict(False), MaxLen(1000)]


@configuration
class Target:
    """A value that a model predicts for every protein, or for every residue.

    - `binary`: the probability of the second of two `classes`.
    - `number`: any real number, in `unit`. `centre` and `scale` are those of the training proteins.
    - `fraction`: 0 to 1.
    - `classes`: one of `classes`, with a probability for each.
    - `ordinal`: the same, with classes from low to high.
    - `residues`: one of `classes` for every residue, a letter each; `UNKNOWN` is not trained on.

    `temperature` divides the logits of classes, and `margin` reaches to both sides of a number or fraction; both were
    fitted on held-out proteins.
    """

    name: Name
    kind: Kind
    unit: Name | None = None
    classes: Classes = ()
    centre: Bounded = 0.0
    scale: Annotated[Positive, Lt(1e30)] = 1.0
    temperature: Annotated[Positive, Ge(1e-3), Lt(1e3)] = 1.0
    margin: Annotated[NotNegative, Lt(1e30)] | None = None
    _serialiser = model_serializer(mode="wrap")(leave_out_unset)

    def __post_init__(self):
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have the same name")
        fewest = {"binary": 2, "classes": 2, "ordinal": 2, "residues": 2}.get(self.kind, 0)
        if len(self.classes) < fewest or (self.kind == "binary" and len(self.classes) > 2):
            raise ValueError(
                f"classes has {len(self.classes)} names, expected {'2' if self.kind == 'binary' else 'two or more'}"
            )
        if not fewest and self.classes:
            raise ValueError(f"a target of kind {self.kind} has no classes")
        if self.kind == "residues" and any(len(each) != 1 for each in self.classes):
            raise ValueError("classes of residues are single letters")

    @property
    def outputs(self) -> int:
        """How many numbers of the head it takes."""
        if self.kind in ("classes", "residues"):
            return len(self.classes)
        return len(self.classes) - 1 if self.kind == "ordinal" else 1

    @property
    def is_number(self) -> bool:
        return self.kind in ("number", "fraction")

    @property
    def title(self) -> str:
        """The name, with the unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def losses(self, outputs: Float[Array, "*axes outputs"], values: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
        """The loss of each value: cross-entropy in nats, or for numbers half the squared error in units of `scale`.

        Classes are given by their number. What a value that is NaN gives must not be used, but is finite.
        """
        known = jnp.where(jnp.isnan(values), 0, values)
        if self.kind == "number":
            return 0.5 * (outputs[..., 0] - (known - self.centre) / self.scale) ** 2
        if self.kind in ("classes", "residues"):
            wanted = jax.nn.one_hot(known.astype(jnp.int32), self.outputs, dtype=outputs.dtype)
            return -(wanted * jax.nn.log_softmax(outputs, axis=-1)).sum(axis=-1)
        # Of every step up to the highest class; of one for the others.
        steps = jnp.arange(self.outputs).astype(outputs.dtype).reshape((1,) * known.ndim + (-1,))
        reached = (known[..., None] > steps).astype(outputs.dtype) if self.kind == "ordinal" else known[..., None]
        return (jax.nn.softplus(outputs) - reached * outputs).sum(axis=-1)

    def quantity(self, outputs: Float[Array, "*axes outputs"]) -> Float[Array, "..."]:
        """What is predicted: a number, a fraction, the probability of the second class, or that of every class."""
        if self.kind == "number":
            return self.centre + self.scale * outputs[..., 0]
        scaled = outputs / self.temperature
        if self.kind in ("binary", "fraction"):
            return jax.nn.sigmoid(scaled[..., 0])
        if self.kind in ("classes", "residues"):
            return jax.nn.softmax(scaled, axis=-1)
        reached = jax.lax.cummin(jax.nn.sigmoid(scaled), axis=scaled.ndim - 1)
        ends = [jnp.ones_like(reached[..., :1]), reached, jnp.zeros_like(reached[..., :1])]
        return -jnp.diff(jnp.concatenate(ends, axis=-1), axis=-1)

    def interval(self, quantity: float) -> tuple[float, float] | None:
        """The interval around a number or fraction, if there is one."""
        if self.margin is None:
            return None
        low, high = quantity - self.margin, quantity + self.margin
        return (max(low, 0.0), min(high, 1.0)) if self.kind == "fraction" else (low, high)

    def columns(self) -> list[str]:
        """Names of the columns of a table of predictions."""
        if self.is_number:
            return [self.title] + [f"{self.name}_low", f"{self.name}_high"] * (self.margin is not None)
        if self.kind == "residues":
            return [self.name]
        return [self.name, f"{self.name}_probability"]

    def cells(self, quantity: Any) -> list[Any]:
        """What a table says of a protein, by column."""
        if self.is_number:
            value = float(quantity)
            return [value, *(self.interval(value) or ())]
        if self.kind == "residues":
            return ["".join(self.classes[each] for each in np.argmax(quantity, axis=-1))]
        if self.kind == "binary":
            return [self.classes[int(quantity >= 0.5)], float(quantity)]
        best = int(np.argmax(quantity))
        return [self.classes[best], float(quantity[best])]


Targets = Annotated[tuple[Target, ...], Strict(False), MinLen(1), MaxLen(100)]


def check_targets(targets: Sequence[Target]) -> None:
    """Refuse targets that cannot be predicted together."""
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        raise ValueError("two targets have the same name")
    taken = ["id", "length", "note"]
    for target in targets:
        ends = (target.title, *(f"{target.name}_{end}" for end in ("low", "high", "probability")))
        if name := next((each for each in ends if each in taken), None):
            raise ValueError(
                f"a table of predictions would have two columns {name!r}. Rename the target {target.name!r}."
            )
        taken += ends
    if len(targets) > 1 and any(target.kind == "residues" for target in targets):
        raise ValueError("a target of residues is predicted alone")


def split_outputs(targets: Sequence[Target], outputs: Any) -> Iterator[tuple[Target, Any]]:
    """Each target with its part of the last axis."""
    start = 0
    for target in targets:
        yield target, outputs[..., start : start + target.outputs]
        start += target.outputs
