"""From a checkpoint folder to a repository of the Hugging Face Hub."""

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from eqxesm.checkpoint.card import HERE
from eqxesm.checkpoint.card_edits import merge_cards
from eqxesm.checkpoint.hub import FILES, SMALL, TIMEOUT, Access
from eqxesm.checkpoint.hub_calls import ask
from eqxesm.checkpoint.reading import read_bytes
from eqxesm.checkpoint.schema import CARD, COMMIT, CONFIG, REPOSITORY
from eqxesm.checkpoint.tensors import INDEX, files_of
from eqxesm.errors import InputError


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
            and that is mostly public.
        revision: branch to commit to, made if it is not there; the main branch by default.
        create_pr: propose the commit in a pull request.
        commit_message: its first line.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        InputError: the repository's name is not one, there is no checkpoint in the folder, the
            login is missing or lacks the rights, or the Hub cannot be reached or refuses.
    """
    folder = Path(folder)
    check_repository(repository)
    if revision is not None and COMMIT.fullmatch(revision):
        raise InputError(f"{repository}: {revision} is a commit, and one pushes to a branch")
    where = f"{repository}@{revision}" if revision else repository
    files = _list(folder)
    api = Access(token).api()
    _check_login(api, repository)
    ask(lambda: api.create_repo(repository, private=private, exist_ok=True), where)
    if revision is not None and not revision.startswith("refs/"):
        ask(lambda: api.create_branch(repository, branch=revision, exist_ok=True), where)
    info = ask(lambda: api.model_info(repository, revision=revision, timeout=TIMEOUT), where)
    there = {file.rfilename for file in info.siblings or []}
    card = read_bytes(folder / CARD).decode("utf-8")
    card = card.replace(HERE, repository)
    if CARD in there:
        theirs = ask(lambda: api.hf_hub_download(repository, CARD, revision=info.sha), where)
        card = merge_cards(card, read_bytes(Path(theirs)).decode("utf-8", "replace"))
    stale = [
        name
        for name in sorted(there - set(files))
        if any(fnmatchcase(name, pattern) for pattern in FILES)
    ]

    def commit() -> str:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        # The client changes what it is given, so a second try wants new ones.
        contents: Mapping[str, Path | bytes] = {**files, CARD: card.encode("utf-8")}
        made = api.create_commit(
            repository,
            [
                *(
                    CommitOperationAdd(
                        name, content if isinstance(content, bytes) else str(content)
                    )
                    for name, content in contents.items()
                ),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message=commit_message or "A checkpoint of eqxesm",
            revision=revision,
            create_pr=create_pr,
            parent_commit=None if create_pr else info.sha,
        )
        return str(made.pr_url or made.commit_url)

    return ask(commit, where)


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
    return {name: folder / name for name in [*small, *sorted(weights)]}


def _check_login(api: object, repository: str) -> None:
    from huggingface_hub import get_token

    token = getattr(api, "token", None)
    if token is False or (not isinstance(token, str) and get_token() is None):
        raise InputError(
            f"{repository}: pushing wants a login: 'hf auth login', or HF_TOKEN in the environment"
        )
