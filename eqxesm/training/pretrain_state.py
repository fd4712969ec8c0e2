"""What pretraining measures as it goes, and how far it has come."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from eqxesm.training.masked_lm import LossSums
from eqxesm.training.state import AtStep, Scores


@dataclasses.dataclass(frozen=True)
class Look:
    """What was measured at a step: on the batches since the last look, and on the validation proteins.

    `tokens` were read so far, without padding.
    """

    step: int
    tokens: int
    training: Scores
    validation: Scores
    learning_rate: float
    gradient_norm: float
    seconds: float = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class PretrainProgress(AtStep):
    """How far pretraining has come, with sums over the steps since the last look."""

    tokens: int = 0
    looks: tuple[Look, ...] = ()
    stream: Mapping[str, Any] | None = None
    loss: float = 0.0
    correct: int = 0
    count: int = 0
    norm: float = 0.0
    batches: int = 0

    def add(self, sums: LossSums, norm: float, tokens: int) -> "PretrainProgress":
        """Add a step: what its batch measured, the norm of its gradient, and the tokens that it read."""
        return dataclasses.replace(
            self,
            step=self.step + 1,
            tokens=self.tokens + tokens,
            loss=self.loss + float(sums.loss),
            correct=self.correct + int(sums.correct),
            count=self.count + int(sums.count),
            norm=self.norm + norm,
            batches=self.batches + 1,
        )

    @property
    def training(self) -> Scores:
        """Scores since the last look."""
        return to_scores(LossSums(self.loss, self.correct, self.count))

    def add_look(self, validation: Scores, learning_rate: float, seconds: float) -> "PretrainProgress":
        """Close the stretch since the last look."""
        norm = self.norm / max(1, self.batches)
        look = Look(self.step, self.tokens, self.training, validation, learning_rate, norm, seconds)
        return PretrainProgress(self.step, self.tokens, (*self.looks, look), self.stream)


def best_look(looks: Sequence[Look]) -> Look:
    """The look with the smallest validation loss."""
    return min(looks, key=lambda look: look.validation.loss)


def to_scores(sums: LossSums) -> Scores:
    """Mean cross-entropy and accuracy of all hidden residues."""
    loss, correct, count = (float(each.sum()) if hasattr(each, "sum") else each for each in sums)
    return Scores(loss / max(1, count), correct / max(1, count))
