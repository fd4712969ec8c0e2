"""From a checkpoint to a repository of the Hugging Face Hub, in one commit."""

import hashlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from eqxesm.checkpoint.card import HERE
from eqxesm.checkpoint.card_edits import merge_cards, replace_name
from eqxesm.checkpoint.folder import CONFIG, FILES, SMALL_FILES, keep_words
from eqxesm.checkpoint.record import CARD
from eqxesm.checkpoint.tensors import INDEX, weight_files
from eqxesm.config import COMMIT
from eqxesm.errors import InputError, at
from eqxesm.files import checked_path, read_text, write_file
from eqxesm.hub.download import INFO_TIMEOUT, Access, check_repository
from eqxesm.hub.errors import ask

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import CommitOperation, ModelInfo

Contents = Mapping[str, Path | bytes]


def push_saved(save: Callable[[Path], None], repository: str, words_from: Path | None = None, **options) -> str:
    """Publish the checkpoint that `save` writes; see `upload` for the options.

    A person's words in the card of the folder `words_from` are kept.
    """
    with tempfile.TemporaryDirectory(prefix="eqxesm-") as parent:
        folder = Path(parent) / "checkpoint"
        save(folder)
        if words_from is not None:
            write_file(folder / CARD, keep_words(words_from, read_text(folder / CARD)))
        return upload(folder, repository, **options)


def upload(
    folder: Path,
    repository: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
) -> str:
    """Upload a checkpoint folder in one commit, and return the commit's or pull request's URL.

    The repository and the branch `revision` are made where they do not exist. Files of an earlier
    checkpoint are deleted, other files stay, and so do a person's words in the card.
    """
    check_repository(repository)
    if revision is not None and COMMIT.fullmatch(revision):
        raise InputError(f"{repository}: {revision} is a commit. Name a branch.")
    where = f"{repository}@{revision}" if revision else repository
    files = _list_files(folder)
    api = Access(token).api()
    _check_login(api, repository)
    ask(lambda: api.create_repo(repository, private=private, exist_ok=True), where)
    if revision is not None and not revision.startswith("refs/"):
        ask(lambda: api.create_branch(repository, branch=revision, exist_ok=True), where)
    before = ask(lambda: _look(api, repository, revision), where)
    if private and not before.private:
        raise InputError(f"{where}: is public. Make it private on its page, or drop private.")
    names = {file.rfilename for file in before.siblings or []}
    card = replace_name(read_text(files[CARD]), HERE, repository)
    if CARD in names:
        theirs = ask(lambda: api.hf_hub_download(repository, CARD, revision=before.sha), where)
        with at(f"{where}: {CARD}"):
            card = merge_cards(card, read_text(Path(theirs)))
    contents: dict[str, Path | bytes] = {**files, CARD: card.encode("utf-8")}
    ours = (name for name in names if any(fnmatchcase(name, pattern) for pattern in FILES))
    stale = sorted(set(ours) - set(files))

    def commit() -> str:
        made = api.create_commit(
            repository,
            _operations(contents, stale),
            commit_message=commit_message or "A checkpoint of eqxesm",
            revision=revision,
            create_pr=create_pr,
            parent_commit=None if create_pr else before.sha,
        )
        return str(made.pr_url or made.commit_url)

    def commit_unless_made() -> str:
        """Check first whether an earlier try succeeded and only its answer was lost."""
        now = _look(api, repository, revision)
        if now.sha != before.sha and _holds(now, contents, stale):
            return f"{api.endpoint}/{repository}/commit/{now.sha}"
        return commit()

    # A second try of a pull request would open a second one.
    return ask(commit, where, again=commit_unless_made, retry=not create_pr)


def _operations(contents: Contents, stale: Sequence[str]) -> list["CommitOperation"]:
    """What a commit does. The client changes these, so every try needs new ones."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added = (
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in contents.items()
    )
    return [*added, *(CommitOperationDelete(name) for name in stale)]


def _look(api: "HfApi", repository: str, revision: str | None) -> "ModelInfo":
    return api.model_info(repository, revision=revision, timeout=INFO_TIMEOUT, files_metadata=True)


def _holds(repository: "ModelInfo", contents: Contents, stale: Sequence[str]) -> bool:
    """Whether a repository has exactly what was to be committed, by the hashes of git and LFS."""
    found = {file.rfilename: file for file in repository.siblings or []}
    if set(stale) & set(found) or not set(contents) <= set(found):
        return False
    return all(_has_content(found[name], content) for name, content in contents.items())


def _has_content(file, content: Path | bytes) -> bool:
    digest = hashlib.sha256() if file.lfs is not None else hashlib.sha1()
    if file.lfs is None:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        digest.update(f"blob {size}\0".encode())
    with io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest() == (file.blob_id if file.lfs is None else file.lfs["sha256"])


def _list_files(folder: Path) -> dict[str, Path]:
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: not a checkpoint: {CONFIG} is missing")
    weights = set(weight_files(folder))
    if missing := sorted(name for name in {*weights, CARD} if not (folder / name).is_file()):
        raise InputError(f"{folder}: {missing[0]} is missing. Write the checkpoint again.")
    small = [name for name in (*SMALL_FILES, INDEX) if (folder / name).is_file()]
    # What a link outside the folder leads to must not be published.
    return {name: checked_path(folder, name) for name in [*small, *sorted(weights)]}


def _check_login(api: "HfApi", repository: str) -> None:
    from huggingface_hub import get_token

    if api.token is False or (not isinstance(api.token, str) and get_token() is None):
        raise InputError(f"{repository}: not logged in. Run 'hf auth login', or set HF_TOKEN.")
