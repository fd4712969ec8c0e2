"""The folder of a run: what may be there before it, and what the run writes down as it goes."""

import dataclasses
import json
import os
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from eqxesm.checkpoint.atomic import write_text
from eqxesm.checkpoint.format import fingerprint
from eqxesm.data.hygiene import Splits
from eqxesm.data.hygiene_report import Hygiene
from eqxesm.errors import InputError
from eqxesm.solubility import SolubilityModel
from eqxesm.training.config import TrainConfig
from eqxesm.training.partition import prepare, trainable
from eqxesm.training.plan import Pretrained, Recipe, differences
from eqxesm.training.store import Epoch

RECIPE = "config.toml"
EPOCHS = "metrics.jsonl"
REPORT = "report"
RESULT = "metrics.json"
MODEL = "model"
DIGESTS = "digests.json"


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse a folder that a run cannot be written to; nothing changes.

    Args:
        folder: of the run.
        recipe: what shall be trained.
        resume: whether a run that is there goes on.

    Raises:
        InputError: it is a file, holds something else, cannot be written, holds a run that is not
            to go on, or one of another recipe.
    """
    try:
        place = _existing(folder)
        if not place.is_dir():
            raise InputError(f"{place}: is a file: choose another folder")
        there = folder / RECIPE
        earlier = tomllib.loads(there.read_text(encoding="utf-8")) if there.exists() else None
        if earlier is None and folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder}: holds something, but no run: choose another folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise InputError(f"{folder}: no permission to write there: choose another folder")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be used ({error.strerror}): choose another folder"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{folder}: the recipe of its run is broken: choose another folder"
        ) from error
    if earlier is None:
        return
    if not resume:
        raise InputError(f"{folder}: holds a run: add --resume, or choose another folder")
    found = differences(earlier, tomllib.loads(recipe.to_toml()))
    if found:
        raise InputError(
            f"{folder}: holds a run of another recipe: {'; '.join(found)}: choose another folder"
        )


def make_digests(recipe: Recipe, splits: Splits, model: SolubilityModel) -> dict[str, str]:
    """Sum up what a run depends on beside its recipe.

    Args:
        recipe: what is trained.
        splits: its data.
        model: where it starts.

    Returns:
        Digests in hexadecimal digits: of the data, and of a pretrained encoder.
    """
    digests = {"data": splits.report.data_digest}
    if isinstance(recipe.encoder, Pretrained):
        digests["encoder"] = fingerprint(model.encoder)
    return digests


def check_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Refuse to go on with other data, or from another encoder.

    Args:
        folder: of a run that may be there.
        digests: what `make_digests` gives now.

    Raises:
        InputError: they are others than those of the run.
    """
    there = folder / DIGESTS
    if not there.exists():
        return
    earlier = json.loads(there.read_text())
    for what, digest in digests.items():
        if earlier.get(what) != digest:
            raise InputError(
                f"{folder}: holds a run with other {what} (digest "
                f"{earlier.get(what, 'not known')[:12]} there, {digest[:12]} now): choose another "
                "folder"
            )


def check_room(folder: Path, model: SolubilityModel, config: TrainConfig, folds: int) -> None:
    """Refuse a disk that the checkpoints do not fit, before the work is done.

    Args:
        folder: of the run; it need not exist.
        model: where it starts.
        config: how it is trained.
        folds: how many times.

    Raises:
        InputError: the disk is too small.
    """

    def size(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    skeleton = eqx.filter_eval_shape(lambda: prepare(model, config))
    params = eqx.filter(skeleton, trainable(skeleton, config.strategy))
    copies = 3 + bool(config.ema) + (config.accumulate > 1)
    # The old one goes when the new one has come.
    needed = (folds + 1) * (size(eqx.filter(model, eqx.is_array)) + copies * size(params))
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise InputError(
            f"{folder}: checkpoints need {_spell(needed)} and {_spell(free)} are free: make room, "
            "or choose another folder"
        )


def write_hygiene(folder: Path, digests: Mapping[str, str], hygiene: Hygiene) -> None:
    """Write down what a run is about to learn from.

    Args:
        folder: of the run, or of a fold in it.
        digests: what `make_digests` gives.
        hygiene: the report on the data.

    Raises:
        InputError: the folder cannot be written.
    """
    report = folder / REPORT
    make_folder(report)
    write_text(report / "hygiene.json", json.dumps(hygiene.to_plain(), indent=1) + "\n")
    write_text(report / "hygiene.md", hygiene.to_markdown())
    write_text(folder / DIGESTS, json.dumps(digests) + "\n")


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it stands in.

    Args:
        folder: which.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made ({error.strerror}): choose another folder"
        ) from error


def write_epochs(folder: Path, epochs: Sequence[Epoch]) -> None:
    """Write a line for every epoch.

    Args:
        folder: of the run.
        epochs: all of them so far.

    Raises:
        InputError: the file cannot be written.
    """
    lines = (json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in epochs)
    write_text(folder / EPOCHS, "".join(lines))


def _existing(folder: Path) -> Path:
    """Find the folder, or the nearest of those that it would stand in."""
    folder = Path(os.path.abspath(folder))
    return next(each for each in (folder, *folder.parents) if each.exists())


def _spell(size: int) -> str:
    power = min(3, (len(str(size)) - 1) // 3)
    return f"{size / 1000**power:.1f} {('bytes', 'kB', 'MB', 'GB')[power]}"
