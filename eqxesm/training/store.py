"""What a run keeps on disk: its state, so that it can go on, and the best model so far."""

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from eqxesm.checkpoint import tensors
from eqxesm.checkpoint.atomic import recover, whole_folder
from eqxesm.checkpoint.format import fill, named_leaves
from eqxesm.errors import InputError
from eqxesm.solubility import SolubilityModel
from eqxesm.training.devices import gather, is_first, wait

PROGRESS = "progress.json"


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well a set is told apart.

    Attributes:
        loss: mean binary cross-entropy, in nats.
        accuracy: share that is called rightly at a probability of one half.
    """

    loss: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What came of one pass over the training proteins.

    Attributes:
        number: from 1.
        step: batches so far.
        training: over the pass, with dropout, while the parameters changed.
        validation: after it.
        tests: the same on further sets, by name.
        learning_rate: at the end of it.
        gradient_norm: mean over the batches, before clipping.
        seconds: how long it took; two runs that did the same are equal whatever it is.
    """

    number: int
    step: int
    training: Scores
    validation: Scores
    tests: Mapping[str, Scores]
    learning_rate: float
    gradient_norm: float
    seconds: float = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: batches so far.
        epochs: those that are over.
        loss: sum over the proteins of the epoch under way.
        correct: number of them that were called rightly.
        count: number of them.
        norm: sum of the gradient's norms over the batches of the epoch under way.
        best_loss: least validation loss.
        best_number: epoch of it.
        done: whether the run is over.
    """

    step: int = 0
    epochs: tuple[Epoch, ...] = ()
    loss: float = 0.0
    correct: int = 0
    count: int = 0
    norm: float = 0.0
    best_loss: float = math.inf
    best_number: int = 0
    done: bool = False

    def add_step(self) -> "Progress":
        """Count a batch that was sent to the devices."""
        return dataclasses.replace(self, step=self.step + 1)

    def add_measured(self, loss: float, correct: int, count: int, norm: float) -> "Progress":
        """Add what a batch measured.

        Args:
            loss: mean over the batch.
            correct: proteins called rightly.
            count: proteins.
            norm: of the gradient.

        Returns:
            The new progress.
        """
        return dataclasses.replace(
            self,
            loss=self.loss + loss * count,
            correct=self.correct + correct,
            count=self.count + count,
            norm=self.norm + norm,
        )

    @property
    def training(self) -> Scores:
        """Scores of the epoch under way."""
        count = max(1, self.count)
        return Scores(self.loss / count, self.correct / count)

    def add_epoch(self, epoch: Epoch, patience: int, last: bool) -> "Progress":
        """Close an epoch.

        Args:
            epoch: what came of it.
            patience: epochs without a better validation loss before the run stops.
            last: whether the recipe ends here.

        Returns:
            The new progress.
        """
        improved = epoch.validation.loss < self.best_loss
        best_number = epoch.number if improved else self.best_number
        return Progress(
            step=self.step,
            epochs=(*self.epochs, epoch),
            best_loss=epoch.validation.loss if improved else self.best_loss,
            best_number=best_number,
            done=last or epoch.number - best_number >= patience,
        )


class Store:
    """A folder in which a run keeps its state and its best model.

    States are written beside each other and put in place whole, the old one going after the new
    one has come: a run that is killed at any moment finds one of them.
    """

    def __init__(self, folder: Path):
        """Look at the folder, and clear away what a killed run left unfinished.

        Args:
            folder: of the run; it exists.
        """
        self._folder = folder
        if is_first():
            recover(self.model)
            for left in (*folder.glob(".state-*"), *folder.glob(".model.*")):
                shutil.rmtree(left, ignore_errors=True)
        wait("store")

    @property
    def model(self) -> Path:
        """Where the best model is."""
        return self._folder / "model"

    def epochs(self) -> list[Epoch]:
        """Read the epochs of the last state.

        Returns:
            Those that are over; none before the first state.
        """
        states = self._states()
        return list(_read_progress(states[-1]).epochs) if states else []

    def load(self, skeleton: PyTree) -> tuple[PyTree, Progress] | None:
        """Read the last state.

        Args:
            skeleton: a state of the same shapes.

        Returns:
            The state and how far the run had come, or None before the first one.

        Raises:
            InputError: the state belongs to another model or optimiser.
        """
        states = self._states()
        if not states:
            return None
        folder = states[-1]
        stored = tensors.open_folder(folder)
        wanted = named_leaves(skeleton)
        shapes = {name: (leaf.shape, np.dtype(leaf.dtype)) for name, leaf in wanted.items()}
        if shapes != {name: (each.spec.shape, each.spec.dtype) for name, each in stored.items()}:
            raise InputError(f"{folder}: is the state of another run: choose another folder")
        state = fill(skeleton, {name: jnp.array(stored[name].view()) for name in wanted})
        return state, _read_progress(folder)

    def save(self, state: PyTree, progress: Progress, mesh: Mesh) -> None:
        """Write a state, whole or not at all; every process has to take part.

        Args:
            state: what a step changes.
            progress: how far the run has come.
            mesh: the devices.

        Raises:
            InputError: it cannot be written; the last one is still there.
        """
        leaves = {name: gather(leaf, mesh) for name, leaf in named_leaves(state).items()}
        if is_first():
            specs = {name: tensors.Spec(leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
            folder = self._folder / f"state-{progress.step:09}"
            with whole_folder(folder) as partial:
                tensors.write_folder(partial, specs, lambda name: [leaves[name]])
                (partial / PROGRESS).write_text(json.dumps(dataclasses.asdict(progress)))
            for old in self._states()[:-1]:
                shutil.rmtree(old)
        wait("state")

    def keep(self, model: SolubilityModel, mesh: Mesh) -> None:
        """Write the best model so far; every process has to take part.

        Args:
            model: the best one.
            mesh: the devices.

        Raises:
            InputError: it cannot be written; the last one is still there.
        """
        whole = jax.tree.map(
            lambda leaf: gather(leaf, mesh) if isinstance(leaf, jax.Array) else leaf, model
        )
        if is_first():
            whole.save_pretrained(self.model)
        wait("model")

    def best(self) -> SolubilityModel:
        """Read the best model.

        Returns:
            The model.
        """
        return SolubilityModel.from_pretrained(self.model)

    def _states(self) -> list[Path]:
        return sorted(self._folder.glob("state-*"))


def _read_progress(folder: Path) -> Progress:
    values: dict[str, Any] = json.loads((folder / PROGRESS).read_text())

    def scores(values: dict[str, float]) -> Scores:
        return Scores(**values)

    def epoch(values: dict[str, Any]) -> Epoch:
        tests = {name: scores(test) for name, test in values.pop("tests").items()}
        training, validation = (scores(values.pop(name)) for name in ("training", "validation"))
        return Epoch(training=training, validation=validation, tests=tests, **values)

    epochs = tuple(map(epoch, values.pop("epochs")))
    return Progress(epochs=epochs, **values)
