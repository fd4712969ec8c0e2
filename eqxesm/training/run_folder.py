"""The folder of a run: what may be in it before, and what the run writes as it goes."""

import dataclasses
import json
import os
import shutil
import tomllib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from tqdm import tqdm

from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.data.hygiene_report import Hygiene
from eqxesm.encoders import AbstractLanguageModel
from eqxesm.encoders.lora import find_adapters
from eqxesm.errors import InputError
from eqxesm.files import make_folder, nearest_existing, read_json, write_file
from eqxesm.protein_model import ProteinModel
from eqxesm.training.config import TrainConfig
from eqxesm.training.filters import prepare, trainable
from eqxesm.training.recipe import BaseRecipe, Pretrained, find_differences, read_recipe

RECIPE = "config.toml"
EPOCHS = "metrics.jsonl"
REPORT = "report"
RESULT = "metrics.json"
MODEL = "model"
DIGESTS = "digests.json"


def check_run_folder(folder: Path, recipe: BaseRecipe, resume: bool) -> None:
    """Refuse a folder that a run cannot be written to. Nothing changes."""
    try:
        existing = nearest_existing(folder)
        if not existing.is_dir():
            raise InputError(f"{existing}: is a file. Choose another folder.")
        path = folder / RECIPE
        earlier = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        if earlier is None and folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder}: not empty, and not a run. Choose another folder.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise InputError(f"{folder}: no permission to write there")
    except OSError as error:
        raise InputError(f"{folder}: cannot be used ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged. Choose another folder.") from error
    if earlier is None:
        return
    if not resume:
        raise InputError(f"{folder}: holds a run. Add --resume, or choose another folder.")
    # Read as a recipe, since another version may have left out a key that this one writes.
    written, now = (tomllib.loads(each.to_toml()) for each in (read_recipe(path, kind=type(recipe)), recipe))
    if found := find_differences(written, now):
        raise InputError(f"{folder}: holds a run of another recipe: {'; '.join(found)}. Choose another folder.")


def make_digests(encoder: Any, data_digest: str, model: ProteinModel) -> dict[str, str]:
    """Hashes of what a run depends on besides its recipe, which names the encoder."""
    digests = {"data": data_digest}
    if isinstance(encoder, Pretrained):
        digests["encoder"] = fingerprint(model.encoder)
    return digests


def check_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Refuse to go on with other data, or from another encoder."""
    path = folder / DIGESTS
    if not path.exists():
        return
    earlier = read_json(path)
    if not isinstance(earlier, dict):
        raise InputError(f"{path}: damaged. Choose another folder.")
    for what, digest in digests.items():
        if earlier.get(what) != digest:
            change = f"digest {str(earlier.get(what, 'unknown'))[:12]}, now {digest[:12]}"
            raise InputError(f"{folder}: holds a run whose {what} differed ({change}). Choose another folder.")


def check_disk_space(folder: Path, model: ProteinModel, config: TrainConfig, folds: int) -> None:
    """Refuse a disk that the checkpoints do not fit on, before the work is done."""

    def size(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    skeleton = eqx.filter_eval_shape(lambda: prepare(model, config))
    params = eqx.filter(skeleton, trainable(skeleton, config.strategy))
    copies = 3 + bool(config.ema) + (config.accumulate > 1)
    # The old checkpoint is deleted when the new one is whole.
    needed = (folds + 1) * (size(eqx.filter((model.encoder, model.head), eqx.is_array)) + copies * size(params))
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < needed:
        need, have = (tqdm.format_sizeof(size, "B") for size in (needed, free))
        raise InputError(f"{folder}: checkpoints need {need}, and {have} are free. Choose another folder.")


def write_hygiene(folder: Path, digests: Mapping[str, str], hygiene: Hygiene) -> None:
    """Write what a run is about to learn from."""
    report = folder / REPORT
    make_folder(report)
    write_file(report / "hygiene.json", json.dumps(dataclasses.asdict(hygiene), indent=1) + "\n")
    write_file(report / "hygiene.md", hygiene.to_markdown())
    write_digests(folder, digests)


def write_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Write hashes of what a run depends on; see `check_digests`."""
    write_file(folder / DIGESTS, json.dumps(digests) + "\n")


def write_lines(path: Path, items: Sequence[Any]) -> None:
    """Write one JSON line for each dataclass."""
    write_file(path, "".join(json.dumps(dataclasses.asdict(each)) + "\n" for each in items))


def choose_form(model: ProteinModel, config: TrainConfig) -> str:
    """What a run stores: of a frozen encoder that is published, the name."""
    bare = isinstance(model.encoder, AbstractLanguageModel) and not find_adapters(model.encoder)
    return "head" if config.strategy == "frozen" and bare and model.about.base is not None else "full"


@contextmanager
def writing_report(folder: Path) -> Generator[Path, None, None]:
    """The folder of a run's report, to write into; what fails says how to go on."""
    try:
        make_folder(folder / REPORT)
        yield folder / REPORT
    except OSError as error:
        raise InputError(
            f"{folder}: the report cannot be written ({error.strerror}). Free space, and go on with --resume."
        ) from error
