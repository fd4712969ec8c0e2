"""A small recipe with made-up data, and `eqxesm train` on it."""

import csv
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest
from training_sets import LETTERS

from eqxesm.cli.main import main
from eqxesm.training import loop
from eqxesm.training import run as run_module
from eqxesm.training.optimiser import make_optimiser

RECIPE = """
name = "tried"
summary = "A recipe that is tried out."
license = "mit"
[data]
[[data.training]]
path = "training.csv"
source_column = "origin"
license = "MIT"
[[data.validation]]
path = "validation.csv"
[[data.test]]
path = "test.csv"
name = "test set"
[model]
cleaning = { strip_initial_met = true }
encoder = { type = "one_hot" }
head = { type = "composition_mlp", hidden = [8] }
[training]
epochs = 3
learning_rate = 1e-2
tokens_per_batch = 1024
"""
SIZES = {"training": 60, "validation": 30, "test": 40}
FOLDS = (
    "data.validation=[]", "data.test=[]", "data.cross_validation=true",
    "data.training.0.fold_column=fold", "data.training.0.cluster_column=cluster",
    "training.epochs=2",
)  # fmt: skip
"""Settings that turn the recipe into a cross-validation."""


def rows(name: str) -> list[dict]:
    """Proteins whose composition decides their label; every fifth one has a tag.

    Padded, all have 40 tokens, so there is one shape to compile.
    """
    rng = np.random.default_rng(list(SIZES).index(name))
    made = []
    for number in range(SIZES[name]):
        label = int(rng.integers(2))
        weights = np.where(np.isin(LETTERS, ["K" if label else "L"]), 4.0, 1.0)
        tag = "HHHHHH" if number % 5 == 0 else ""
        length = rng.integers(31, 39) - len(tag)
        body = "".join(rng.choice(LETTERS, length, p=weights / weights.sum()))
        origin = "one" if number % 2 else "other"
        made.append({"sequence": "M" + tag + body, "label": label, "origin": origin,
                     "fold": number % 3, "cluster": number})  # fmt: skip
    return made


def write(path: Path, made: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(made[0]))
        writer.writeheader()
        writer.writerows(made)


def make_data(folder: Path) -> Path:
    """Write the recipe and its data, and return the recipe's path."""
    for name in SIZES:
        write(folder / f"{name}.csv", rows(name))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


def proteins(name: str) -> tuple[list[str], np.ndarray]:
    made = rows(name)
    return [row["sequence"] for row in made], np.array([row["label"] for row in made])


def train(recipe: Path, out: Path, *words: str, settings: Sequence[str] = ()) -> int:
    """Run `eqxesm train`, and return its exit status."""
    given = [word for setting in settings for word in ("--set", setting)]
    return main(["train", str(recipe), "--out", str(out), *words, *given])


def refused(capsys, recipe: Path, out: Path, *words: str, settings: Sequence[str] = ()) -> str:
    """Run `eqxesm train`, check that it answers with one line and nothing else, and return the line."""
    capsys.readouterr()
    status = train(recipe, out, *words, settings=settings)
    printed, error = capsys.readouterr()
    assert status == 2
    assert printed == ""
    assert error.startswith("eqxesm: error: ")
    assert error.endswith("\n")
    assert len(error.splitlines()) == 1
    return error


def epochs(folder: Path) -> list[dict]:
    """The epochs of a run, without their times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "ended")} for line in lines]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def resample(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Set the number of bootstrap resamples."""
    # The name `eqxesm.evaluation.assess` is the function.
    monkeypatch.setattr(import_module("eqxesm.evaluation.assess"), "RESAMPLES", count)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples, no pictures, and one compilation for runs with the same shapes."""
    resample(monkeypatch, 3)
    for name in ("draw_evaluation", "draw_curves"):
        monkeypatch.setattr(run_module, name, lambda *_: None)

    def make(config, steps, params):
        # A step is compiled for its optimiser, and every run makes a new one.
        key = config, steps, eqx.tree_pformat(params)
        if key not in _OPTIMISERS:
            _OPTIMISERS[key] = make_optimiser(config, steps, params)
        return _OPTIMISERS[key]

    monkeypatch.setattr(loop, "make_optimiser", make)


_OPTIMISERS = {}


def stop_after(number: int):
    """Make a function that interrupts a run after an epoch, as Ctrl-C does."""

    def interrupt(epoch) -> None:
        if epoch.number == number:
            raise KeyboardInterrupt

    return interrupt
