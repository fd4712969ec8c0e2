"""Load a checkpoint, whatever it holds."""

import os

from jax.typing import DTypeLike

from eqxesm.assay import AssayModel
from eqxesm.checkpoint.folder import read_config
from eqxesm.encoders import AbstractEncoder, is_published, load_encoder
from eqxesm.errors import InputError
from eqxesm.forms import is_model
from eqxesm.hub.download import repository_of
from eqxesm.model import SolubilityModel
from eqxesm.protein_model import locate_model


def load_model(
    source: str | os.PathLike, revision: str | None = None, dtype: DTypeLike | None = None
) -> SolubilityModel | AssayModel:
    """Load a model of either kind, its encoder cast to `dtype`."""
    folder = locate_model(source, revision)
    if is_published(folder):
        raise InputError(f"{source}: holds an encoder, not a model with a head. Use ESMC.from_pretrained and a head.")
    values = read_config(folder)
    kind = AssayModel if "targets" in values else SolubilityModel
    return kind.from_pretrained(source, revision=revision, dtype=dtype)


def load_any(
    source: str | os.PathLike, revision: str | None = None, dtype: DTypeLike | None = None
) -> SolubilityModel | AssayModel | AbstractEncoder:
    """Load a checkpoint: a model of either kind, or an encoder."""
    folder = locate_model(source, revision)
    if not is_published(folder) and is_model(read_config(folder)):
        return load_model(source, revision, dtype)
    return load_encoder(folder, repository_of(source, folder), dtype)
