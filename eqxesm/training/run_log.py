"""What was asked of a run, and what it says as it goes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from eqxesm.training.curves import format_epoch
from eqxesm.training.devices import is_first
from eqxesm.training.recipe import BaseRecipe
from eqxesm.training.run_folder import EPOCHS, write_lines
from eqxesm.training.state import Epoch

OnEpoch = Callable[[Epoch], None]

Asked = TypeVar("Asked", bound=BaseRecipe)


@dataclass(frozen=True)
class Run(Generic[Asked]):
    """What was asked for; see `train`."""

    recipe: Asked
    folder: Path
    command: str
    on_epoch: OnEpoch | None
    progress: bool

    def say(self, text: str) -> None:
        if self.progress and is_first():
            print(text, flush=True)


class EpochLog:
    """Says what came of epochs, and writes it down."""

    def __init__(self, folder: Path, say: Callable[[str], None], on_epoch: OnEpoch | None):
        self._folder, self._say, self._on_epoch = folder, say, on_epoch
        self._seen: list[Epoch] = []

    def show(self, epochs: Iterable[Epoch]) -> None:
        """Say what came of epochs that were written down before."""
        for epoch in epochs:
            best = all(epoch.validation.loss < each.validation.loss for each in self._seen)
            self._seen.append(epoch)
            self._say(format_epoch(epoch, best))

    def __call__(self, epoch: Epoch) -> None:
        self.show([epoch])
        write_lines(self._folder / EPOCHS, self._seen)
        if self._on_epoch is not None:
            self._on_epoch(epoch)
