"""Published checkpoints as `ESMC.from_pretrained` loads them: safetensors, mostly in the cache of the Hub's client."""

import logging
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from eqxesm.checkpoint.folder import CONFIG
from eqxesm.checkpoint.licences import read_licence
from eqxesm.checkpoint.record import Provenance
from eqxesm.checkpoint.tensors import INDEX, WEIGHTS, open_folder
from eqxesm.encoders.config import ESMCConfig
from eqxesm.encoders.published.layouts import find_layout, leaf_shapes
from eqxesm.encoders.published.reader import leaf_parts, open_local, understand
from eqxesm.files import checked_path, read_bytes
from eqxesm.hub.download import commit_of
from eqxesm.hub.releases import find_release

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedEncoder:
    """A published encoder: our leaves by dotted name, and where they come from."""

    config: ESMCConfig
    leaves: dict[str, jax.Array]
    provenance: Provenance


def is_published(folder: Path) -> bool:
    """Whether a folder holds an ESM-C in safetensors as others publish it, told by the names of its tensors."""
    config = folder / CONFIG
    if config.is_file() and b'"schema_version"' in read_bytes(checked_path(folder, CONFIG)):
        return False
    has_weights = (folder / WEIGHTS).exists() or (folder / INDEX).exists()
    return has_weights and find_layout(open_folder(folder)) is not None


def load_published(folder: Path, repository: str | None, dtype: np.dtype | None) -> PublishedEncoder:
    """Load a published encoder from a folder, the snapshot of `repository` if that is given."""
    release, commit = find_release(repository), commit_of(folder) if repository else None
    # The licence of a release is known for the commit that was reviewed.
    reviewed = release is not None and release.revision == commit
    license_ = release.license if release and reviewed else read_licence(folder)
    checkpoint = open_local(folder, repository or str(folder), commit, license_)
    layout, config = understand(release.size if release else None, checkpoint)
    at = f" at {commit}" if commit else ""
    _log.info("%s%s: ESM-C as published, licence: %s", checkpoint.name, at, license_ or "not stated, look it up there")
    stored = dtype or checkpoint.dtype
    parts = leaf_parts(checkpoint, layout, config, stored)
    leaves = {}
    for name, shape in leaf_shapes(config).items():
        leaf = np.empty(shape, stored)
        rows = leaf if name.startswith("blocks.") else leaf[None]
        for layer, block in enumerate(parts(name)):
            rows[layer] = block
        leaves[name] = jax.device_put(leaf)
    return PublishedEncoder(config, leaves, Provenance(checkpoint.name, commit, checkpoint.hashes(), license_))
