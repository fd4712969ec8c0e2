"""What a run keeps on disk: its state, so that it can go on, and the best model so far."""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree
from pydantic import TypeAdapter, ValidationError

from eqxesm.checkpoint.leaves import fill_leaves, named_leaves
from eqxesm.checkpoint.record import About
from eqxesm.checkpoint.tensors import TensorSpec, open_folder, write_tensors
from eqxesm.errors import InputError
from eqxesm.files import read_bytes, recover_folder, replace_folder
from eqxesm.training.devices import fetch, is_first, wait_for_all

PROGRESS = "progress.json"


@dataclasses.dataclass(frozen=True)
class Scores:
    """Mean loss of a set, for classes in nats, and the accuracy where the model predicts solubility."""

    loss: float
    accuracy: float | None = None


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What came of one pass over the training proteins.

    `step` counts batches of the run; `ended` is in seconds since 1970.
    """

    number: int
    step: int
    training: Scores
    validation: Scores
    tests: Mapping[str, Scores]
    learning_rate: float
    gradient_norm: float
    seconds: float = dataclasses.field(compare=False)
    ended: float = dataclasses.field(default_factory=time.time, compare=False)


@dataclasses.dataclass(frozen=True)
class AtStep:
    """How far a run has come."""

    step: int = 0


Reached = TypeVar("Reached", bound=AtStep)


@dataclasses.dataclass(frozen=True)
class Progress(AtStep):
    """How far training has come, with sums over the epoch under way."""

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

    def add_metrics(self, loss: float, correct: int, count: int, norm: float) -> "Progress":
        """Add what a batch of `count` proteins measured."""
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
        """Close an epoch, and the run if it was the last or patience is used up."""
        improved = epoch.validation.loss < self.best_loss
        best_number = epoch.number if improved else self.best_number
        return Progress(
            step=self.step,
            epochs=(*self.epochs, epoch),
            best_loss=epoch.validation.loss if improved else self.best_loss,
            best_number=best_number,
            done=last or epoch.number - best_number >= patience,
        )


class StateFolder(Generic[Reached]):
    """A folder in which a run keeps its state, with its progress of type `kind`, and its best model.

    Every process of a run makes one and calls its methods; the first one writes.
    """

    def __init__(self, folder: Path, kind: type[Reached]):
        self._folder = folder
        self._kind = kind
        if is_first():
            recover_folder(self.model)
            for left in (*folder.glob(".state-*"), *folder.glob(".model.*")):
                shutil.rmtree(left, ignore_errors=True)
        wait_for_all("state folder")

    @property
    def model(self) -> Path:
        """Folder of the best model."""
        return self._folder / "model"

    def progress(self) -> Reached:
        """How far the last state has come."""
        states = self._states()
        return self._read_progress(states[-1]) if states else self._kind()

    def load(self, skeleton: PyTree) -> tuple[PyTree, Reached] | None:
        """Read the last state, if there is one, into a tree like `skeleton`."""
        states = self._states()
        if not states:
            return None
        folder = states[-1]
        stored = open_folder(folder)
        wanted = named_leaves(skeleton)
        shapes = {name: (leaf.shape, np.dtype(leaf.dtype)) for name, leaf in wanted.items()}
        if shapes != {name: (each.spec.shape, each.spec.dtype) for name, each in stored.items()}:
            raise InputError(f"{folder}: state of another run. Choose another folder.")
        state = fill_leaves(skeleton, {name: jnp.array(stored[name].map()) for name in wanted})
        return state, self._read_progress(folder)

    def save(self, state: PyTree, progress: Reached, mesh: Mesh) -> None:
        """Write a state, whole or not at all, and delete the one before."""
        leaves = {name: fetch(leaf, mesh) for name, leaf in named_leaves(state).items()}
        if is_first():
            specs = {name: TensorSpec(leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
            folder = self._folder / f"state-{progress.step:09}"
            with replace_folder(folder) as partial:
                write_tensors(partial, specs, lambda name: [leaves[name]])
                (partial / PROGRESS).write_text(json.dumps(dataclasses.asdict(progress)))
            for old in self._states()[:-1]:
                shutil.rmtree(old)
        wait_for_all("state")

    def keep(self, model: Any, about: About, mesh: Mesh) -> None:
        """Write the best model or encoder so far."""
        whole = jax.tree.map(lambda leaf: fetch(leaf, mesh) if isinstance(leaf, jax.Array) else leaf, model)
        if is_first():
            whole.save_pretrained(self.model, about=about)
        wait_for_all("model")

    def _states(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("state-*") if path.is_dir())

    def _read_progress(self, folder: Path) -> Reached:
        path = folder / PROGRESS
        try:
            return TypeAdapter(self._kind).validate_json(read_bytes(path))
        except (ValidationError, FileNotFoundError) as error:
            raise InputError(f"{path}: missing or damaged, so the run cannot go on. Choose another folder.") from error


class RunState(StateFolder[Progress]):
    """The folder in which training keeps its state and its best model."""

    def __init__(self, folder: Path):
        super().__init__(folder, Progress)
