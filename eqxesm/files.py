"""Files that are read within bounds, and files and folders that are whole or absent."""

import glob
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eqxesm.errors import InputError, one_line

MAX_BYTES = 16 * 2**20
"""Largest file that is read whole. Cards, records and indices are far smaller."""


def expand_user(path: str | os.PathLike) -> str:
    """A path with the home folder in the place of `~`. An empty one, as of an unset variable, is refused."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise InputError(f"expected a path, got {path!r}")
    return os.path.expanduser(os.fspath(path))


def cache_folder(name: str) -> Path:
    """A folder of what is kept to save time: below `EQXESM_CACHE`, or below `eqxesm` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("EQXESM_CACHE") or Path(base) / "eqxesm") / name


def file_name(title: str) -> str:
    """A title as the name of a file or folder."""
    name = re.sub(r"[^\w-]+", "_", title)[:80]
    # Names of files have at most 255 bytes.
    return name.encode()[:200].decode(errors="ignore")


@contextmanager
def looking_up(path: str | os.PathLike) -> Generator[None, None, None]:
    """Explain a path that cannot be looked up: too long, without permission, or with a NUL in it."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be looked up ({getattr(error, 'strerror', None) or error})") from error


def check_readable(path: str | os.PathLike) -> None:
    """Refuse what is not a file, by what it is. A missing file raises `FileNotFoundError`."""
    if "\0" in os.fspath(path):
        raise InputError(f"{path}: no file has a NUL character in its name")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    # A shell's <(command) is a pipe that has a writer. Any other would be waited for.
    is_open_pipe = stat.S_ISFIFO(mode) and os.path.realpath(path).startswith(("/proc/", "/dev/"))
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder. Name a file in it.")
    if not (stat.S_ISREG(mode) or is_open_pipe):
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise InputError(f"{path}: is {kind}. Name a file.")


def check_input(path: str | os.PathLike) -> None:
    """Refuse what is not a file or not there."""
    try:
        check_readable(path)
    except FileNotFoundError:
        raise InputError(f"{path}: file not found") from None


def check_writable(path: Path) -> None:
    """Refuse a file that `write_file` could not write, before the work is done."""
    try:
        check_readable(path)
    except FileNotFoundError:
        pass
    else:
        if not os.access(path, os.W_OK):
            raise InputError(f"{path}: is read-only. Name another file, or change its permissions.")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise InputError(f"{path}: its folder does not exist. Make it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: no permission to write to its folder")


def checked_path(folder: Path, name: str) -> Path:
    """Path of a file in a folder. A link that leads out of the folder is refused."""
    path = folder / name
    if path.is_symlink():
        home, target = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
        # The Hub client's cache links its snapshots to the blobs beside them.
        in_cache = home.parent.name == "snapshots" and target.is_relative_to(home.parent.parent / "blobs")
        if not (target.is_relative_to(home) or in_cache):
            raise InputError(f"{path}: link that leads out of its folder. Replace it by the file.")
    return path


def read_bytes(path: Path) -> bytes:
    """Read a file of at most `MAX_BYTES`. A missing file raises `FileNotFoundError`."""
    check_readable(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes, over the limit of {MAX_BYTES:,}. Not read.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_text(path: Path) -> str:
    """Read a small text file; see `read_bytes`."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text. Save it as UTF-8.") from error


def read_json(path: Path) -> Any:
    """Read a small JSON file in which no key appears twice; see `read_bytes`."""
    try:
        value = json.loads(read_bytes(path).decode("utf-8"), object_pairs_hook=_refuse_repeats)
        # Half of a surrogate pair could not be written again.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({one_line(error)}). Fetch or write it again.") from error
    return value


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


@contextmanager
def replace_file(path: str | os.PathLike) -> Generator[Path, None, None]:
    """Yield a path to write to, and move the file into place when the block ends well."""
    target = Path(os.path.realpath(expand_user(path)))
    partial = _partial_path(target)
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        _copy_mode(target, partial)
        os.replace(partial, target)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise InputError(f"{path}: cannot be written ({reason}). Nothing was changed.") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def write_file(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file, whole or not at all."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replace_file(path) as partial:
        partial.write_bytes(data)


@contextmanager
def replace_folder(folder: Path) -> Generator[Path, None, None]:
    """Yield an empty folder to write to, and move it into place when the block ends well.

    What is there before is replaced as a whole. After a failure nothing has changed.
    """
    # Absolute, since the process may stand inside the folder that is replaced.
    target = Path(os.path.realpath(folder))
    partial = _partial_path(target)
    try:
        if target.exists() and not target.is_dir():
            raise InputError(f"{folder}: is a file. Choose another name for the folder.")
        target.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(target)
        partial.mkdir()
        yield partial
        _copy_mode(target, partial)
        _swap(partial, target)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}). Nothing was changed.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy_mode(earlier: Path, new: Path) -> None:
    """Keep the permissions of what is replaced. New files have those of the umask."""
    with suppress(FileNotFoundError):
        shutil.copymode(earlier, new)


def _partial_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}")


def _swap(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    aside = _partial_path(target)
    aside.mkdir()
    try:
        target.rename(aside / target.name)
        partial.rename(target)
    except BaseException:
        recover_folder(target)
        # Still there, and empty, if the first step failed.
        with suppress(OSError):
            aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Put back a folder that was being replaced when the process was killed."""
    if folder.exists():
        return
    name = glob.escape(folder.name)
    if earlier := list(folder.parent.glob(f".{name}.*/{name}")):
        latest = max(earlier, key=lambda path: path.parent.stat().st_mtime_ns)
        latest.rename(folder)
        latest.parent.rmdir()


def make_folder(folder: Path) -> None:
    """Make a folder and its parents."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror})") from error


def nearest_existing(path: str | os.PathLike) -> Path:
    """The path itself, or the nearest of its parents that exists."""
    path = Path(os.path.realpath(path))
    return next(each for each in (path, *path.parents) if each.exists())
