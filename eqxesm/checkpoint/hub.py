"""From the name of a checkpoint to a folder on this machine."""

import os
import re
from pathlib import Path

from eqxesm.errors import InputError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def fetch(
    source: str | os.PathLike,
    revision: str | None = None,
    patterns: tuple[str, ...] = ("*.json", "*.safetensors", "README.md"),
) -> Path:
    """Find a checkpoint, downloading it from the Hugging Face Hub where it is not a folder.

    Args:
        source: a folder, or a repository such as `someone/solubility-esmc-300m`.
        revision: commit, tag or branch of the repository.
        patterns: files of the repository that are wanted.

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
        raise InputError(f"{source}: cannot be looked up ({error}): check the name") from error
    if not _REPOSITORY.fullmatch(str(source)):
        raise InputError(
            f"{source}: no such folder, and no name of a Hub repository (owner/name); "
            "an ESM-C encoder is made with python -m conversion.port"
        )
    return download(str(source), revision, patterns)


def download(repository: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """Bring a repository of the Hugging Face Hub here, or find it in the client's cache.

    Args:
        repository: such as `someone/solubility-esmc-300m`.
        revision: commit, tag or branch; the main branch by default.
        patterns: files that are wanted.

    Returns:
        The folder.

    Raises:
        InputError: there is no such repository or revision, or the Hub cannot be reached.
    """
    # Imported late: the client costs a laptop that only predicts from a folder half a second.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    where = f"{repository}@{revision}" if revision else repository
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except RevisionNotFoundError as error:
        raise InputError(f"{where}: the repository has no such revision") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{where}: no such folder here and no such repository on the Hub, or it is private: "
            "check the name, and log in with 'hf auth login' if it is yours"
        ) from error
    except Exception as error:
        # Errors of the HTTP library come through too, and which one that is depends on the version.
        raise InputError(
            f"{where}: no such folder here, and the Hub did not give it "
            f"({type(error).__name__}): check the name and the network, or download it elsewhere "
            "and name the folder"
        ) from error


def push(folder: str | os.PathLike, repository: str, message: str) -> None:
    """Upload a checkpoint folder to the Hugging Face Hub, in one commit.

    A card that stands there already is left as it is. The login is that of the client:
    `hf auth login`, or the environment's `HF_TOKEN`.

    Args:
        folder: the checkpoint.
        repository: where to, such as `someone/esmc-300m-jax`; made, private, if it is not there.
        message: of the commit.

    Raises:
        InputError: the repository's name is not one, the login is missing or lacks the rights, or
            the Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if not _REPOSITORY.fullmatch(repository):
        raise InputError(f"{repository}: no name of a Hub repository (owner/name)")
    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        # Shards of an earlier upload would be read before the file that replaces them, and a card
        # that stands there may hold a person's words.
        written = api.file_exists(repository, "README.md")
        api.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            commit_message=message,
            delete_patterns=["*.safetensors", "*.index.json"],
            ignore_patterns=["README.md"] if written else None,
        )
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no status")
        raise InputError(
            f"{repository}: the Hub refused the upload (HTTP {status}): log in with "
            f"'hf auth login' and check your rights; {folder} is whole and can be pushed again"
        ) from error
    except Exception as error:
        raise InputError(
            f"{repository}: the upload failed ({type(error).__name__}): check the network; "
            f"{folder} is whole and can be pushed again"
        ) from error
