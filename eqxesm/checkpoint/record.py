"""How a model was made and measured: what its card tells, and travels with it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from eqxesm.checkpoint.format import fingerprint
from eqxesm.checkpoint.reading import place, read_bytes, read_json
from eqxesm.checkpoint.schema import METRICS, PICTURES
from eqxesm.errors import InputError

SUBJECT = "sha256"
"""The key under which a record names the model that it is about."""


@dataclass(frozen=True, repr=False)
class Record:
    """Facts about one model, and the pictures that go with them.

    Attributes:
        text: the facts as `metrics.json` holds them, JSON.
        pictures: PNG files by name.
    """

    text: str
    pictures: tuple[tuple[str, bytes], ...] = ()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is recorded, by heading."""
        return json.loads(self.text)

    def files(self) -> dict[str, bytes]:
        """Give the files that hold the record in a checkpoint, by name."""
        return {METRICS: self.text.encode("utf-8"), **dict(self.pictures)}

    def __repr__(self):
        return f"Record({self.facts.get('summary', '')!r})"


def make_record(subject: str, facts: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Record:
    """Write down facts about a model.

    Args:
        subject: what `identify` gives for the model.
        facts: what JSON holds.
        pictures: PNG files by name.

    Returns:
        The record.

    Raises:
        ValueError: a picture has a name that no card shows.
    """
    if unknown := sorted(set(pictures) - set(PICTURES)):
        raise ValueError(f"no card shows {unknown[0]}: name pictures {' or '.join(PICTURES)}")
    named = {SUBJECT: subject, **{key: value for key, value in facts.items() if key != SUBJECT}}
    return Record(json.dumps(named, indent=2) + "\n", tuple(sorted(pictures.items())))


def read_record(folder: Path) -> Record | None:
    """Read what a checkpoint records.

    Args:
        folder: the checkpoint.

    Returns:
        The record, or None if there is none.

    Raises:
        InputError: it cannot be read.
    """
    path = place(folder, METRICS)
    paths = {name: place(folder, name) for name in sorted(PICTURES)}
    try:
        facts = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(facts, dict) or not isinstance(facts.get("summary"), str):
        raise InputError(f"{path}: has no summary: fetch or write it again")
    pictures = tuple((name, read_bytes(path)) for name, path in paths.items() if path.is_file())
    return Record(json.dumps(facts, indent=2) + "\n", pictures)


def identify(tree: PyTree, sections: Mapping[str, Any]) -> str:
    """Hash all that decides what a model says.

    A record is about one such hash: a model that was trained on since, or cast, is another one.

    Args:
        tree: the model.
        sections: of its `config.json`.

    Returns:
        The sha256 in hexadecimal digits.
    """
    kept = ("encoder", "adapter", "head", "cleaning", "calibration", "limits")
    said = {name: sections[name] for name in kept if sections.get(name) is not None}
    text = json.dumps([fingerprint(tree), said], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
