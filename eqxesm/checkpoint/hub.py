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

from eqxesm.checkpoint.hub_calls import UnreachableError, ask
from eqxesm.checkpoint.schema import CARD, COMMIT, CONFIG, METRICS, PICTURES, REPOSITORY
from eqxesm.checkpoint.tensors import INDEX, SHARDS, WEIGHTS, files_of
from eqxesm.errors import InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SMALL = (CONFIG, METRICS, CARD, *PICTURES)
FILES = (*SMALL, WEIGHTS, INDEX, SHARDS)
"""What a checkpoint of ours is made of; everything else in a repository is left where it is."""

_log = logging.getLogger(__name__)

TIMEOUT = 20.0
"""Seconds that the Hub has to say what a repository holds."""


@dataclass(frozen=True)
class Access:
    """How the Hub is reached.

    Attributes:
        token: of a login; by default that of the environment or of `hf auth login`, and False for
            none.
        cache_dir: where the client keeps what it fetched; by default below `HF_HOME`.
        local_files_only: ask nobody and take what the cache holds.
    """

    token: str | bool | None = field(default=None, repr=False)
    cache_dir: str | os.PathLike | None = None
    local_files_only: bool = False

    def __post_init__(self):
        # What is no header would come back in the error of the HTTP library, token and all.
        if isinstance(self.token, str) and not re.fullmatch(r"[!-~]+", self.token):
            raise InputError("the token is none: it has blanks, line breaks or the like in it")

    def api(self) -> "HfApi":
        """Make the client."""
        # Imported late: it costs a laptop that only predicts from a folder half a second.
        from huggingface_hub import HfApi

        return HfApi(token=self.token, library_name="eqxesm", library_version=version("eqxesm"))


USUAL = Access()
"""By the login of the environment, with the client's own cache."""


def fetch(
    source: str | os.PathLike,
    revision: str | None = None,
    access: Access = USUAL,
) -> Path:
    """Find a checkpoint of ours, downloading it from the Hub where it is not a folder.

    Args:
        source: a folder, or a repository such as `someone/solubility-esmc-300m`.
        revision: commit, tag or branch of the repository.
        access: how the Hub is reached.

    Returns:
        The folder.

    Raises:
        InputError: there is no such folder and no such repository, or the Hub cannot be reached.
    """
    try:
        folder = Path(source).expanduser()
        if folder.is_dir() and revision is None:
            return folder
        if folder.is_dir():
            raise InputError(
                f"{source}: is a folder, which has no revision {revision}: leave it out"
            )
        if folder.exists():
            raise InputError(f"{source}: is a file: name the checkpoint's folder")
    except (OSError, RuntimeError) as error:
        # A name too long, a folder that may not be looked into, '~' of nobody.
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{source}: cannot be looked up ({why}): check the name") from error
    if not REPOSITORY.fullmatch(str(source)):
        raise InputError(
            f"{source}: no such folder, and no name of a Hub repository (owner/name); "
            "an ESM-C encoder is made with python -m conversion.port"
        )
    return download(str(source), revision, FILES, access)


def download(
    repository: str, revision: str | None, patterns: Sequence[str], access: Access = USUAL
) -> Path:
    """Bring a repository of the Hugging Face Hub here, or find it in the client's cache.

    Where the Hub cannot be reached, the cache serves, if it holds all that is wanted. Files that
    were fetched before are not fetched again, and a download that was cut goes on where it was.

    Args:
        repository: such as `someone/solubility-esmc-300m`.
        revision: commit, tag or branch; the main branch by default.
        patterns: files that are wanted.
        access: how the Hub is reached.

    Returns:
        The folder; of the Hub's own files it is named after the commit.

    Raises:
        InputError: there is no such repository or revision, or the Hub cannot be reached.
    """
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
            info = ask(
                lambda: api.model_info(repository, revision=revision, timeout=TIMEOUT), where
            )
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
        raise _not_cached(where, access, unreachable) from error
    if CONFIG in patterns:
        _check_whole(folder, where)
    if unreachable is not None:
        _log.warning("%s: the Hub cannot be reached: taken from the cache, %s", where, folder.name)
    return folder


def commit_of(folder: Path) -> str | None:
    """Say which commit of a repository a folder is.

    Args:
        folder: what `fetch` gave.

    Returns:
        The commit, or None if the folder is not in the cache of the Hub's client.
    """
    known = folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name)
    return folder.name if known else None


def _is_wanted(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file is asked for, and stays inside of the folder: `*` stands for slashes too."""
    return _is_inside(name) and any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_inside(name: str) -> bool:
    return "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def _remember(folder: Path, revision: str | None) -> None:
    """Note which commit a branch or tag was, as the client does for what it resolves itself."""
    name = revision or "main"
    if commit_of(folder) and not COMMIT.fullmatch(name) and _is_inside(name):
        note = folder.parent.parent / "refs" / name
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(folder.name)
        except OSError:
            # Only finding it again without the Hub needs the note.
            return


def _not_cached(where: str, access: Access, unreachable: InputError | None) -> InputError:
    if access.local_files_only:
        return InputError(
            f"{where}: the cache does not hold all of it, and the Hub was not to be asked: fetch "
            "it once with the network on"
        )
    return InputError(f"{unreachable}; the cache does not hold all of it either")


def _check_whole(folder: Path, where: str) -> None:
    """Refuse what the cache holds in part; the older client gives it without a word."""
    wanted = [CONFIG, *files_of(folder)]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{where}: the cache holds only a part of it ({missing[0]} is missing): fetch it once "
            "with the network on"
        )
