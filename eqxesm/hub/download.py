"""From the name of a checkpoint to a folder on this machine."""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from eqxesm.checkpoint.folder import CONFIG, FILES
from eqxesm.checkpoint.tensors import weight_files
from eqxesm.config import COMMIT, REPOSITORY
from eqxesm.errors import InputError
from eqxesm.files import expand_user, looking_up, recover_folder
from eqxesm.hub.errors import UnreachableError, ask
from eqxesm.hub.releases import RELEASES, find_release
from eqxesm.hub.session import foreign_answer

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

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
    """Folder of a checkpoint: `source` itself, or a Hub repository, which is downloaded.

    A published ESM-C is named by its size or repository, and is fetched at the commit that was reviewed.
    """
    release = find_release(source)
    with looking_up(source):
        folder = Path(expand_user(source))
        recover_folder(folder)
        if folder.is_dir() and revision is None:
            if release or (isinstance(source, str) and REPOSITORY.fullmatch(source)):
                _log.info("%s: read from the folder here, not from the Hub", source)
            return folder
        if folder.is_dir():
            raise InputError(f"{source}: is a folder, which has no revision. Leave out {revision}.")
        if folder.exists():
            raise InputError(f"{source}: is a file. Name the folder of the checkpoint.")
    if release:
        source, revision = release.repository, revision or release.revision
    if not isinstance(source, str) or not REPOSITORY.fullmatch(source):
        hint = f"ESM-C as published is {', '.join(RELEASES)}."
        raise InputError(f"{source}: folder not found, and not the name of a Hub repository (owner/name). {hint}")
    return download(source, revision, FILES, access)


def download(repository: str, revision: str | None, patterns: Sequence[str], access: Access = Access()) -> Path:
    """Fetch the files of a repository that match `patterns`, or find them in the cache."""
    where = f"{repository}@{revision}" if revision else repository
    api = access.api()
    cache = None if access.cache_dir is None else expand_user(access.cache_dir)
    unreachable = None
    if not access.local_files_only:
        try:
            info = ask(lambda: api.model_info(repository, revision=revision, timeout=INFO_TIMEOUT), where)
            folder = _fetch(api, repository, info, patterns, cache, where)
            _remember(folder, revision)
            return folder
        except UnreachableError as error:
            unreachable = error
    try:
        folder = Path(
            api.snapshot_download(
                repository, revision=revision, allow_patterns=list(patterns), cache_dir=cache, local_files_only=True
            )
        )
    except Exception as error:
        missing = f"{where}: not in the cache, or not whole. Fetch it once with the network on."
        reason = f"{unreachable} It is not in the cache either." if unreachable else missing
        raise InputError(reason) from error
    if CONFIG in patterns:
        _check_whole(folder, where)
    if unreachable is not None:
        _log.warning("%s: the Hub cannot be reached, using the cached %s", where, folder.name)
    return folder


def _fetch(
    api: "HfApi", repository: str, info: "ModelInfo", patterns: Sequence[str], cache: str | None, where: str
) -> Path:
    """Fetch the files of a commit that match `patterns`, and return their folder in the cache."""
    commit = info.sha or ""
    if not COMMIT.fullmatch(commit):
        raise foreign_answer(where, commit)
    every = [file.rfilename for file in info.siblings or []]
    names = [name for name in every if _is_wanted(name, patterns)]
    pickled = [name for name in every if name.endswith(".pth")]
    if pickled and not any(name.endswith((".safetensors", ".pth")) for name in names):
        raise InputError(
            f"{where}: has weights as {pickled[0]} only. Use python -m conversion.port --source {repository}"
        )
    if not names:
        raise InputError(f"{where}: holds no file of a checkpoint")
    # One by one: `snapshot_download` would ask once more for commit and names, unchecked.
    for name in names:
        path = ask(lambda name=name: api.hf_hub_download(repository, name, revision=commit, cache_dir=cache), where)
    return Path(path.removesuffix(name))


def repository_of(source: str | os.PathLike, folder: Path) -> str | None:
    """The repository that `find_checkpoint` fetched a folder from; None if `source` is the folder."""
    if folder == Path(expand_user(source)):
        return None
    release = find_release(source)
    return release.repository if release else str(source)


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
