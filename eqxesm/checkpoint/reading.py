"""Small files of a checkpoint that nobody vouches for."""

import json
import os
from pathlib import Path
from typing import Any

from eqxesm.errors import InputError

LARGEST = 16 * 2**20
"""Bytes of the largest file that is read whole; cards, records and indices are far below."""


def place(folder: Path, name: str) -> Path:
    """Find a file of a checkpoint, and refuse a link that leads out of it.

    Args:
        folder: the checkpoint.
        name: of the file.

    Returns:
        The path, whether or not there is such a file.

    Raises:
        InputError: it is a link to something outside of the folder.
    """
    path = folder / name
    if path.is_symlink():
        home, target = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
        # The cache of the Hub's client links its snapshots to the blobs beside them.
        cached = home.parent.name == "snapshots"
        if not target.is_relative_to(home) and not (
            cached and target.is_relative_to(home.parent.parent / "blobs")
        ):
            raise InputError(
                f"{path}: is a link that leads out of its folder: put the file itself there"
            )
    return path


def read_bytes(path: Path) -> bytes:
    """Read a file of moderate size.

    Args:
        path: the file.

    Returns:
        What it holds.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it cannot be read, or is larger than any such file is.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InputError(f"{path}: has {size:,} bytes, more than {LARGEST:,}: refused unread")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check its rights") from error


def read_text(path: Path) -> str:
    """Read a text file of moderate size.

    Args:
        path: the file.

    Returns:
        What it holds.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is not UTF-8, or `read_bytes` refuses it.
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not in UTF-8: save it so") from error


def read_json(path: Path) -> Any:
    """Read a JSON file of moderate size.

    Args:
        path: the file.

    Returns:
        What it holds.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is no JSON in UTF-8, nests too deeply, repeats a key, or `read_bytes` refuses
            it.
    """
    try:
        value = json.loads(read_bytes(path).decode("utf-8"), object_pairs_hook=_without_repeats)
        # Half of a surrogate pair is no text that could be written again.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not readable as JSON ({one_line(error)}): fetch or write it again"
        ) from error
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def one_line(error: Exception) -> str:
    """Put the message of another library's error on one line.

    Args:
        error: what was raised.

    Returns:
        Its message without line breaks.
    """
    return " ".join(str(error).split())
