"""From a checkpoint folder to a repository of the Hugging Face Hub."""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from eqxesm.checkpoint.card import HERE
from eqxesm.checkpoint.card_edits import merge_cards, rename
from eqxesm.checkpoint.hub import FILES, SMALL, TIMEOUT, Access
from eqxesm.checkpoint.hub_calls import ask
from eqxesm.checkpoint.reading import place, read_text
from eqxesm.checkpoint.schema import CARD, COMMIT, CONFIG, REPOSITORY
from eqxesm.checkpoint.tensors import INDEX, files_of
from eqxesm.errors import InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo


def push(
    folder: str | os.PathLike,
    repository: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
) -> str:
    """Upload a checkpoint folder in one commit.

    Weights, pictures and records of an earlier checkpoint that this one has not are deleted in the
    same commit. What a person wrote into the card that stands there stays.

    Args:
        folder: the checkpoint.
        repository: where to, such as `someone/solubility-esmc-300m`; made if it is not there.
        token: of a login that may write there; by default that of the environment (`HF_TOKEN`) or
            of `hf auth login`.
        private: whether a repository that is made is private; by default as its owner has set it,
            and that is mostly public. A public one is refused, should it be there already.
        revision: branch to commit to, made if it is not there; the main branch by default.
        create_pr: propose the commit in a pull request.
        commit_message: its first line.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        InputError: the repository's name is not one, there is no checkpoint in the folder, the
            login is missing or lacks the rights, or the Hub cannot be reached or refuses.
    """
    check_repository(repository)
    if revision is not None and COMMIT.fullmatch(revision):
        raise InputError(f"{repository}: {revision} is a commit, and one pushes to a branch")
    where = f"{repository}@{revision}" if revision else repository
    files = _list(Path(folder))
    api = Access(token).api()
    _check_login(api, repository)
    ask(lambda: api.create_repo(repository, private=private, exist_ok=True), where)
    if revision is not None and not revision.startswith("refs/"):
        ask(lambda: api.create_branch(repository, branch=revision, exist_ok=True), where)
    there = ask(lambda: _look(api, repository, revision), where)
    if private and not there.private:
        raise InputError(
            f"{where}: is public already: make it private on its page, or leave private out"
        )
    names = {file.rfilename for file in there.siblings or []}
    card = rename(read_text(files[CARD]), HERE, repository)
    if CARD in names:
        card = _with_their_words(card, api, repository, there.sha, where)
    contents: dict[str, Path | bytes] = {**files, CARD: card.encode("utf-8")}
    ours = (name for name in names if any(fnmatchcase(name, pattern) for pattern in FILES))
    stale = sorted(set(ours) - set(files))

    def commit() -> str:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        # The client changes what it is given, so every try wants new ones.
        added = [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in contents.items()
        ]
        made = api.create_commit(
            repository,
            [*added, *(CommitOperationDelete(name) for name in stale)],
            commit_message=commit_message or "A checkpoint of eqxesm",
            revision=revision,
            create_pr=create_pr,
            parent_commit=None if create_pr else there.sha,
        )
        return str(made.pr_url or made.commit_url)

    def commit_unless_made() -> str:
        """Look first whether an earlier try went through, and only its answer was lost."""
        now = _look(api, repository, revision)
        if now.sha != there.sha and _holds(now, contents, stale):
            return f"{api.endpoint}/{repository}/commit/{now.sha}"
        return commit()

    # A pull request is not tried again, since a second one would be made.
    return ask(commit, where, again=commit_unless_made, repeat=not create_pr)


def _with_their_words(
    card: str, api: "HfApi", repository: str, commit: str | None, where: str
) -> str:
    theirs = ask(lambda: api.hf_hub_download(repository, CARD, revision=commit), where)
    try:
        return merge_cards(card, read_text(Path(theirs)))
    except InputError as error:
        raise InputError(f"{where}: {CARD}: {error}") from error


def _look(api: "HfApi", repository: str, revision: str | None) -> "ModelInfo":
    return api.model_info(repository, revision=revision, timeout=TIMEOUT, files_metadata=True)


def _holds(there: "ModelInfo", contents: Mapping[str, Path | bytes], stale: Sequence[str]) -> bool:
    """Whether a repository has exactly what was to be committed, by the hashes of git and LFS."""
    found = {file.rfilename: file for file in there.siblings or []}
    if set(stale) & set(found) or not set(contents) <= set(found):
        return False
    for name, content in contents.items():
        large = found[name].lfs
        digest = hashlib.sha256() if large is not None else hashlib.sha1()
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if large is None:
            digest.update(f"blob {size}\0".encode())
        with io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
        if digest.hexdigest() != (found[name].blob_id if large is None else large["sha256"]):
            return False
    return True


def check_repository(repository: str) -> None:
    """Refuse what is no name of a repository.

    Args:
        repository: to push to.

    Raises:
        InputError: it is not of the form `owner/name`.
    """
    if not REPOSITORY.fullmatch(repository):
        raise InputError(f"{repository}: no name of a Hub repository: give owner/name")


def _list(folder: Path) -> dict[str, Path]:
    """List what is uploaded; that it loads is the caller's to have checked."""
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: holds no {CONFIG}, so it is no checkpoint: name its folder")
    weights = set(files_of(folder))
    if missing := sorted(name for name in {*weights, CARD} if not (folder / name).is_file()):
        raise InputError(f"{folder}: lacks {missing[0]}: write the checkpoint again")
    small = [name for name in (*SMALL, INDEX) if (folder / name).is_file()]
    # What a link leads to outside of the folder is nobody's to publish.
    return {name: place(folder, name) for name in [*small, *sorted(weights)]}


def _check_login(api: "HfApi", repository: str) -> None:
    from huggingface_hub import get_token

    if api.token is False or (not isinstance(api.token, str) and get_token() is None):
        raise InputError(
            f"{repository}: pushing wants a login: 'hf auth login', or HF_TOKEN in the environment"
        )
