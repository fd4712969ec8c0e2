"""A checkpoint folder: `config.json`, weights, record and card, read and written as one."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree

from eqxesm.checkpoint.card import render_card
from eqxesm.checkpoint.card_edits import merge_cards
from eqxesm.checkpoint.leaves import named_leaves
from eqxesm.checkpoint.record import CARD, METRICS, PICTURES, SUBJECT, Record, hash_model, make_record
from eqxesm.checkpoint.tensors import (
    INDEX,
    SHARD_BYTES,
    SHARDS,
    WEIGHTS,
    Parts,
    TensorSpec,
    weight_files,
    write_tensors,
)
from eqxesm.errors import InputError, at
from eqxesm.files import checked_path, expand_user, read_bytes, read_json, read_text, replace_folder

CONFIG = "config.json"
SCHEMA_VERSION = 1
SMALL_FILES = (CONFIG, METRICS, CARD, *PICTURES)
FILES = (*SMALL_FILES, WEIGHTS, INDEX, SHARDS)
"""Names and patterns of the files of a checkpoint; no other file is fetched or replaced."""

_log = logging.getLogger(__name__)


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` and check its versions. Returns the sections, unchecked."""
    path = checked_path(folder, CONFIG)
    try:
        config = read_json(path)
    except FileNotFoundError as error:
        raise InputError(f"{folder}: not a checkpoint of eqxesm: {CONFIG} is missing") from error
    if not isinstance(config, dict) or "schema_version" not in config:
        raise InputError(f"{path}: not a checkpoint of eqxesm: schema_version is missing")
    schema, writer = config.pop("schema_version"), config.pop("library_version", "unknown")
    if type(schema) is not int or schema != SCHEMA_VERSION:
        advice = f"It was written by eqxesm {writer!r}: use that or a later version."
        raise InputError(f"{path}: schema_version is {schema!r}, expected {SCHEMA_VERSION}. {advice}")
    return config


def save_checkpoint(
    folder: str | os.PathLike,
    tree: PyTree,
    sections: Mapping[str, Any],
    known: Record | None,
    facts: Mapping[str, Any] | None = None,
    pictures: Mapping[str, bytes] | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
    is_stored: Callable[[str], bool] = lambda _: True,
) -> None:
    """Write a model as a checkpoint folder with its record and card, whole or not at all.

    Args:
        sections: the content of `config.json`, versions excepted.
        known: the record that the model was loaded with; dropped if the model is not that any more.
        facts: a new record in the place of `known`, with its pictures.
        is_stored: which leaves are written, by dotted name.
    """
    if pictures and facts is None:
        raise InputError("pictures belong to a record. Pass both.")
    record = None
    if facts is not None:
        record = make_record(hash_model(tree, sections), facts, pictures)
    elif known is not None:
        record = known if known.facts.get(SUBJECT) == hash_model(tree, sections) else None
        if record is None:
            _log.warning("the model changed since it was measured, so its figures are left out")
    leaves = {name: leaf for name, leaf in named_leaves(tree).items() if is_stored(name)}
    specs = {name: TensorSpec(leaf.shape, np.dtype(leaf.dtype)) for name, leaf in leaves.items()}

    def parts(name: str) -> list[np.ndarray]:
        return [np.asarray(leaves[name])]

    write_checkpoint(folder, specs, parts, sections, record, shard_bytes)


def write_checkpoint(
    folder: str | os.PathLike,
    specs: Mapping[str, TensorSpec],
    parts: Parts,
    sections: Mapping[str, Any],
    record: Record | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a checkpoint folder from blocks of tensors; see `save_checkpoint`."""
    folder = Path(expand_user(folder))
    card = keep_words(folder, render_card(sections, record))
    config = {"schema_version": SCHEMA_VERSION, "library_version": version("eqxesm"), **sections}
    files = {CARD: card.encode("utf-8"), **(record.files() if record else {})}
    with replace_folder(folder) as partial:
        _check_replaceable(Path(os.path.realpath(folder)), partial)
        write_tensors(partial, specs, parts, shard_bytes)
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        for name, content in files.items():
            (partial / name).write_bytes(content)


def keep_words(folder: Path, card: str) -> str:
    """Merge a new card into the one in a folder, whose words by a person are kept."""
    if not os.path.isfile(folder / CARD):
        return card
    path = checked_path(folder, CARD)
    earlier = read_text(path)
    with at(path):
        return merge_cards(card, earlier)


def _check_replaceable(folder: Path, partial: Path) -> None:
    """Refuse a folder that holds anything but a checkpoint of ours."""
    if not folder.is_dir():
        return
    items = {item.name: item for item in folder.iterdir() if item != partial}
    # Checkpoints of other libraries have files of the same names.
    config = folder / CONFIG
    if items and not (config.is_file() and b'"schema_version"' in read_bytes(config)):
        raise InputError(f"{folder}: holds {min(items)} but no checkpoint of eqxesm. Choose another folder.")
    ours = {CONFIG, CARD, *([INDEX] if INDEX in items else []), *weight_files(folder)}
    if METRICS in items:
        ours |= {METRICS, *PICTURES}
    if foreign := sorted(name for name, item in items.items() if name not in ours or item.is_dir()):
        raise InputError(f"{folder}: holds {foreign[0]}, which is no part of the checkpoint. Choose another folder.")
