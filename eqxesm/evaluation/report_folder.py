"""Report folders: one JSON file, and pictures beside it."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqxesm.errors import InputError
from eqxesm.files import expand_user, nearest_existing, replace_folder


@dataclass(frozen=True)
class ReportType:
    """The command that writes a report, its JSON file, and the names of its pictures."""

    command: str
    summary: str
    pictures: tuple[str, ...]


def check_report_folder(folder: str | os.PathLike, kind: ReportType) -> Path:
    """Refuse a folder that a report could not be written to, before the work is done."""
    folder = Path(expand_user(folder))
    target = Path(os.path.realpath(folder))
    try:
        if target.exists() and not target.is_dir():
            raise InputError(f"{folder}: is a file. Name a folder.")
        if target.is_dir():
            _check_replaceable(folder, target, kind)
        parent = nearest_existing(target.parent)
        os.rmdir(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    return folder


def write_report(folder: Path, kind: ReportType, report: Mapping[str, Any], draw: Callable[[Path], None]) -> None:
    """Write a report, whole or not at all."""
    with replace_folder(folder) as partial:
        whole = {"report": kind.command, "pictures": kind.pictures, **report}
        (partial / kind.summary).write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        draw(partial)


def _check_replaceable(folder: Path, target: Path, kind: ReportType) -> None:
    names = sorted(item.name for item in target.iterdir())
    earlier = _read_report(target / kind.summary, kind)
    pictures = {*kind.pictures, *map(str, earlier.get("pictures", ()))}
    own = {f"{name}{ending}" for name in pictures for ending in (".png", ".svg")}
    foreign = [name for name in names if name not in own | {kind.summary}]
    if names and (foreign or not earlier):
        first = (foreign or names)[0]
        raise InputError(f"{folder}: holds {first}, which {kind.command} did not write. Choose another folder.")


def _read_report(summary: Path, kind: ReportType) -> dict[str, Any]:
    """The report in a file, or an empty one if another command wrote it or it is damaged."""
    try:
        report = json.loads(summary.read_text("utf-8"))
        return report if report["report"] == kind.command else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
