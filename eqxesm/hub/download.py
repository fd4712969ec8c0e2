"""From the name of a checkpoint to a folder on this machine."""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from eqxesm.checkpoint.folder import CONFIG, FILES
from eqxesm.checkpoint.tensors import weight_files
from eqxesm.config import COMMIT, REPOSITORY
from eqxesm.errors import InputError
from eqxesm.hub.errors import UnreachableError, ask

if TYPE_CHECKING:
    from huggingface_hub import HfApi

INFO_TIMEOUT = 20.0
"""Seconds that the Hub has to say what a repository holds."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Access:
    """How the Hub is reached: the login's token, the cache, and whether to stay offline."""

    token: str | bool | None = field(default=None, repr=False)
    cache_dir: str | os.PathLike | None = None
    local_files_only: bool = False

    def __post_init__(self):
        # The HTTP library would repeat an invalid header in its error, token and all.
        if isinstance(self.token, str) and not re.fullmatch(r"[!-~]+", self.token):
            raise InputError("token is not valid: it has blanks, line breaks or the like in it")

    def api(self) -> "HfApi":
        # Imported late: it takes half a second.
        from huggingface_hub import HfApi

        return HfApi(token=self.token, library_name="eqxesm", library_version=version("eqxesm"))


def check_repository(name: str) -> None:
    """Refuse what is not the name of a repository."""
    if not REPOSITORY.fullmatch(name):
        raise InputError(f"{name}: not the name of a Hub repository. Expected owner/name.")


def find_checkpoint(source: str | os.PathLike, revision: str | None = None, access: Access = Access()) -> Path:
    """Folder of a checkpoint: `source` itself, or a Hub repository, which is downloaded."""
    try:
        folder = Path(source).expanduser()
        if folder.is_dir() and revision is None:
            return folder
        if folder.is_dir():
            raise InputError(f"{source}: is a folder, which has no revision. Leave out {revision}.")
        if folder.exists():
            raise InputError(f"{source}: is a file. Name the folder of the checkpoint.")
    except (OSError, RuntimeError) as error:
        # A name that is too long, a folder without permission, `~` of an unknown user.
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{source}: cannot be looked up ({reason})") from error
    if not REPOSITORY.fullmatch(str(source)):
        hint = "Make an ESM-C encoder with: python -m conversion.port"
        raise InputError(f"{source}: folder not found, and not the name of a Hub repository (owner/name). {hint}")
    return download(str(source), revision, FILES, access)


def download(repository: str, revision: str | None, patterns: Sequence[str], access: Access = Access()) -> Path:
    """Fetch the files of a repository that match `patterns`, or find them in the cache."""
    where = f"{repository}@{revision}" if revision else repository
    api = access.api()

    def snapshot(revision: str | None, names: Sequence[str], local: bool) -> Path:
        return Path(
            api.snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(names),
                cache_dir=None if access.cache_dir is None else os.fspath(access.cache_dir),
                local_files_only=local,
            )
        )

    unreachable = None
    if not access.local_files_only:
        try:
            info = ask(lambda: api.model_info(repository, revision=revision, timeout=INFO_TIMEOUT), where)
            names = (file.rfilename for file in info.siblings or [])
            wanted = [escape(name) for name in names if _is_wanted(name, patterns)]
            folder = ask(lambda: snapshot(info.sha, wanted, False), where)
            _remember(folder, revision)
            return folder
        except UnreachableError as error:
            unreachable = error
    try:
        folder = snapshot(revision, patterns, True)
    except Exception as error:
        missing = f"{where}: not in the cache, or not whole. Fetch it once with the network on."
        reason = f"{unreachable} It is not in the cache either." if unreachable else missing
        raise InputError(reason) from error
    if CONFIG in patterns:
        _check_whole(folder, where)
    if unreachable is not None:
        _log.warning("%s: the Hub cannot be reached, using the cached %s", where, folder.name)
    return folder


def commit_of(folder: Path) -> str | None:
    """The commit whose snapshot in the client's cache a folder is."""
    cached = folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name)
    return folder.name if cached else None


def _is_wanted(name: str, patterns: Sequence[str]) -> bool:
    # In a pattern `*` matches slashes too.
    return _is_inside(name) and any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_inside(name: str) -> bool:
    return "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def _remember(folder: Path, revision: str | None) -> None:
    """Note the commit of a branch or tag, as the client does for those that it resolves."""
    name = revision or "main"
    if commit_of(folder) and not COMMIT.fullmatch(name) and _is_inside(name):
        note = folder.parent.parent / "refs" / name
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(folder.name)
        except OSError:
            # The note is needed only to find the snapshot again offline.
            return


def _check_whole(folder: Path, where: str) -> None:
    """Refuse a partial snapshot, which the older client returns silently."""
    wanted = [CONFIG, *weight_files(folder)]
    if missing := [name for name in wanted if not (folder / name).is_file()]:
        raise InputError(f"{where}: only a part is in the cache ({missing[0]} is missing). Fetch it online once.")
