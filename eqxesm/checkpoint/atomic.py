"""Folders that are whole or absent."""

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from eqxesm.errors import InputError


@contextmanager
def whole_folder(folder: Path) -> Generator[Path, None, None]:
    """Write a folder beside its place, and put it there when it is whole.

    Args:
        folder: where it shall be; what was there is replaced in the end.

    Yields:
        An empty folder to write into.

    Raises:
        InputError: the folder cannot be made, or writing into it failed; then nothing has changed.
    """
    # Of an absolute path, since the process may stand inside of what is replaced.
    folder = Path(os.path.realpath(folder))
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file: choose another name for the folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}): choose another"
        ) from error
    try:
        yield partial
        partial.chmod(0o755)
        _put_in_place(partial, folder)
    except OSError as error:
        raise InputError(
            f"{folder}: writing failed ({error.strerror}) and changed nothing: "
            "make room or choose another"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Args:
        path: the file; an earlier one is replaced.
        text: what it shall hold.

    Raises:
        InputError: it cannot be written; then nothing has changed.
    """
    try:
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}) and is as it was: make room, or choose "
            "another folder"
        ) from error


def recover(folder: Path) -> None:
    """Put a folder back that was on its way out when the process was killed.

    Args:
        folder: where it belongs.
    """
    if not folder.exists():
        for earlier in folder.parent.glob(f".{folder.name}.*/{folder.name}"):
            earlier.rename(folder)
            earlier.parent.rmdir()
            return


def _put_in_place(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    earlier = old / folder.name
    try:
        folder.rename(earlier)
        partial.rename(folder)
    except BaseException:
        if os.path.lexists(earlier):
            earlier.rename(folder)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
