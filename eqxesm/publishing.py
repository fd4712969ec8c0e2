"""Pushing and pulling checkpoints, whatever is in them."""

import os
import shutil
from pathlib import Path
from typing import Any

from eqxesm.checkpoint.atomic import whole_folder
from eqxesm.checkpoint.folder import push_saved
from eqxesm.checkpoint.hub import FILES, commit_of, download
from eqxesm.checkpoint.publish import check_repository
from eqxesm.checkpoint.schema import read_config
from eqxesm.encoders import ESMC
from eqxesm.errors import InputError
from eqxesm.solubility import SolubilityModel


def push_folder(
    folder: str | os.PathLike,
    repository: str,
    *,
    form: str | None = None,
    base: str | None = None,
    **options: Any,
) -> str:
    """Publish a checkpoint folder, after it was loaded once.

    Args:
        folder: a model's or an encoder's.
        repository: where to.
        form: `full`, `head` or `adapter`; by default as the folder has it.
        base: the published encoder that the forms `head` and `adapter` stand on.
        options: of `eqxesm.checkpoint.publish.push`.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        InputError: the folder holds no checkpoint, the form will not do, or pushing is refused.
    """
    check_repository(repository)
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: name that of a checkpoint")
    config = read_config(folder)
    if "head" not in config:
        if form is not None:
            raise InputError(f"{folder}: holds an encoder, which has no forms: leave out --form")
        encoder = ESMC.from_folder(folder)
        return push_saved(encoder.save_pretrained, repository, folder, **options)
    model = SolubilityModel.from_pretrained(folder)
    form = form or config["form"]
    return push_saved(
        lambda out: model.save_pretrained(out, form=form, base=base), repository, folder, **options
    )


def pull(repository: str, revision: str | None, out: str | None) -> dict[str, str]:
    """Fetch a checkpoint from the Hub, and see that it loads.

    Args:
        repository: where from.
        revision: commit, tag or branch.
        out: put a copy there; it must not exist.

    Returns:
        What came, in words by heading.

    Raises:
        InputError: it is not to be had, or is no checkpoint of ours.
    """
    check_repository(repository)
    if out is not None and Path(out).exists():
        raise InputError(f"{out}: is there already: name a new folder")
    folder = download(repository, revision, FILES)
    config = read_config(folder)
    if "head" in config:
        SolubilityModel.from_pretrained(folder)
    else:
        ESMC.from_folder(folder)
    files = sorted(file for file in folder.iterdir() if file.is_file())
    pairs = {
        "repository": repository,
        "commit": commit_of(folder) or "unknown",
        "kind": f"model, form {config['form']}" if "head" in config else "encoder",
        "files": f"{len(files)}, {sum(file.stat().st_size for file in files):,} bytes",
        "folder": str(out or folder),
    }
    if config.get("base"):
        pairs["encoder"] = f"{config['base']['repository']} at {config['base']['revision']}"
    if out is not None:
        with whole_folder(Path(out)) as partial:
            for file in files:
                shutil.copy(file, partial / file.name)
    return pairs
