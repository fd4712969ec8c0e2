"""Report folders: one JSON file, and pictures beside it."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqxesm.checkpoint.atomic import whole_folder
from eqxesm.errors import InputError


@dataclass(frozen=True)
class Kind:
    """A kind of report.

    Attributes:
        command: what makes it; its JSON file says so under `report`.
        summary: the name of the JSON file.
        pictures: the names of its pictures, each a PNG and an SVG.
    """

    command: str
    summary: str
    pictures: tuple[str, ...]


def check_folder(folder: str | os.PathLike, kind: Kind) -> Path:
    """Refuse a folder that a report could not be written to, before the work is done.

    Args:
        folder: where the report shall go.
        kind: of the report.

    Returns:
        The folder.

    Raises:
        InputError: it is a file, holds something other than an earlier report of the kind, or
            cannot be written.
    """
    folder = Path(folder)
    place = Path(os.path.realpath(folder))
    try:
        if place.exists() and not place.is_dir():
            raise InputError(f"{folder}: is a file: name a folder")
        if place.is_dir():
            _refuse_strangers(folder, place, kind)
        parent = next(each for each in place.parents if each.exists())
        os.rmdir(tempfile.mkdtemp(prefix=f".{place.name}.", dir=parent))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}): choose another"
        ) from error
    return folder


def write_folder(
    folder: Path, kind: Kind, report: Mapping[str, Any], draw: Callable[[Path], None]
) -> None:
    """Write a report, whole or not at all; see `check_folder`.

    Args:
        folder: where to; an earlier report there is replaced.
        kind: of the report.
        report: what JSON holds.
        draw: puts the pictures into a folder.

    Raises:
        InputError: the folder cannot be written.
    """
    with whole_folder(folder) as partial:
        text = json.dumps({"report": kind.command, **report}, indent=1, allow_nan=False) + "\n"
        (partial / kind.summary).write_text(text, encoding="utf-8")
        draw(partial)


def _refuse_strangers(folder: Path, place: Path, kind: Kind) -> None:
    names = sorted(item.name for item in place.iterdir())
    own = {f"{name}{ending}" for name in kind.pictures for ending in (".png", ".svg")}
    strangers = [name for name in names if name not in own | {kind.summary}]
    if names and (strangers or not _is_report(place / kind.summary, kind)):
        raise InputError(
            f"{folder}: holds {(strangers or names)[0]}, which no earlier {kind.command} wrote: "
            "choose another folder"
        )


def _is_report(summary: Path, kind: Kind) -> bool:
    try:
        return json.loads(summary.read_text("utf-8"))["report"] == kind.command
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
