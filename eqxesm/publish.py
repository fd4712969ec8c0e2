"""Pushing and pulling checkpoints, of models and of encoders."""

import os
import shutil
from pathlib import Path
from typing import Any

from eqxesm.checkpoint.folder import FILES, read_config
from eqxesm.encoders import load_encoder
from eqxesm.errors import InputError, pluralise
from eqxesm.files import expand_user, replace_folder
from eqxesm.forms import read_sections
from eqxesm.hub.download import check_repository, commit_of, download
from eqxesm.hub.upload import push_saved
from eqxesm.loading import load_model


def push_folder(
    folder: str | os.PathLike, repository: str, *, form: str | None = None, base: str | None = None, **options: Any
) -> str:
    """Load a checkpoint folder and publish it; see `SolubilityModel.push_to_hub`.

    By default the form stays that of the folder. A person's words in its card are kept.
    """
    check_repository(repository)
    folder = Path(expand_user(folder))
    if not folder.is_dir():
        raise InputError(f"{folder}: folder not found")
    if "head" not in read_config(folder):
        if form is not None:
            raise InputError(f"{folder}: holds an encoder, which has no forms. Leave out --form.")
        encoder = load_encoder(folder)
        return push_saved(encoder.save_pretrained, repository, folder, **options)
    model = load_model(folder)
    form = form or read_sections(folder).form
    return push_saved(lambda out: model.save_pretrained(out, form=form, base=base), repository, folder, **options)


def pull_checkpoint(repository: str, revision: str | None, out: str | None) -> dict[str, str]:
    """Fetch a checkpoint, load it once, copy it to `out` if that is given, and say what it is."""
    check_repository(repository)
    out = None if out is None else expand_user(out)
    if out is not None and Path(out).exists():
        raise InputError(f"{out}: exists already. Name a new folder.")
    folder = download(repository, revision, FILES)
    kind, base = "encoder", None
    if "head" in read_config(folder):
        load_model(folder)
        sections = read_sections(folder)
        kind, base = f"model, form {sections.form}", sections.base
    else:
        load_encoder(folder)
    files = sorted(file for file in folder.iterdir() if file.is_file())
    size = sum(file.stat().st_size for file in files)
    pairs = {
        "repository": repository,
        "commit": commit_of(folder) or "unknown",
        "kind": kind,
        "files": f"{pluralise(len(files), 'file')}, {size:,} bytes",
        "folder": str(out or folder),
    }
    if base is not None:
        pairs["encoder"] = f"{base.repository} at {base.revision}"
    if out is not None:
        with replace_folder(Path(out)) as partial:
            for file in files:
                shutil.copy(file, partial / file.name)
    return pairs
