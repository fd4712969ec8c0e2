"""What training minimises, by the kind of model."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from eqxesm.assay import AssayModel
from eqxesm.data.labels import as_labels
from eqxesm.errors import InputError
from eqxesm.protein_model import ProteinModel
from eqxesm.targets import Target, split_outputs
from eqxesm.training.state import Scores


@dataclass(frozen=True)
class SolubilityObjective:
    """Binary cross-entropy, in nats, of every member of the head."""

    label_smoothing: float

    def check(self, labels: np.ndarray) -> None:
        as_labels(labels, len(labels))

    def losses(self, scores: Float[Array, "rows members"], labels: Float[Array, " rows"]) -> Float[Array, " rows"]:
        targets = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        return optax.sigmoid_binary_cross_entropy(scores, targets[:, None]).mean(axis=1)

    def is_right(self, scores: Float[Array, " rows"], labels: Float[Array, " rows"]) -> Bool[Array, " rows"]:
        return (scores > 0) == (labels > 0.5)

    def score(self, logits: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> Scores:
        return Scores(cross_entropy(logits, labels), float(((logits > 0) == labels).mean()))


@dataclass(frozen=True)
class AssayObjective:
    """The mean loss of the targets that are known: see `Target.losses`. There is no accuracy."""

    targets: tuple[Target, ...]

    def check(self, labels: np.ndarray) -> None:
        places = ["length"] if any(target.kind == "residues" for target in self.targets) else []
        if labels.dtype.kind != "f" or labels.ndim != len(places) + 2 or labels.shape[-1] != len(self.targets):
            wanted = ", ".join(map(str, [len(labels), *places, len(self.targets)]))
            found = f"{labels.dtype} {list(labels.shape)}"
            raise InputError(f"labels of this model's targets are floats of the shape [{wanted}], not {found}")

    def losses(
        self, scores: Float[Array, "rows members *places outputs"], labels: Float[Array, "rows *places targets"]
    ) -> Float[Array, " rows"]:
        own = split_outputs(self.targets, scores)
        losses = [
            target.losses(each, jnp.broadcast_to(labels[:, None, ..., number], each.shape[:-1])).mean(axis=1)
            for number, (target, each) in enumerate(own)
        ]
        known = ~jnp.isnan(labels)
        counted = jnp.where(known, jnp.stack(losses, axis=-1), 0)
        axes = tuple(range(1, labels.ndim))
        return counted.sum(axis=axes) / jnp.maximum(known.sum(axis=axes, dtype=counted.dtype), 1)

    def is_right(self, scores: Any, labels: Any) -> Bool[Array, " rows"]:  # noqa: ARG002
        return jnp.zeros(labels.shape[0], bool)

    def score(
        self, outputs: Float[np.ndarray, "n *places outputs"], labels: Float[np.ndarray, "n *places targets"]
    ) -> Scores:
        losses = self.losses(jnp.asarray(outputs[:, None]), jnp.asarray(labels, jnp.float32))
        return Scores(float(np.asarray(losses, np.float64).mean()))


Objective = SolubilityObjective | AssayObjective


def choose_objective(model: ProteinModel, label_smoothing: float) -> Objective:
    """What a model is trained by."""
    return AssayObjective(model.targets) if isinstance(model, AssayModel) else SolubilityObjective(label_smoothing)


def cross_entropy(logits: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean binary cross-entropy in nats."""
    signs = 1.0 - 2.0 * labels
    return float(np.logaddexp(0.0, signs * logits.astype(np.float64)).mean())
