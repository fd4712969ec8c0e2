"""Published checkpoints: a file, a folder or a Hub repository, read tensor by tensor."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from eqxesm.checkpoint.leaves import named_leaves
from eqxesm.checkpoint.tensors import INDEX, WEIGHTS, TensorSpec, open_file, open_folder
from eqxesm.config import REPOSITORY
from eqxesm.encoders.config import ESMCConfig
from eqxesm.encoders.esmc import ESMC
from eqxesm.encoders.published.layouts import Layout, check_size, check_tensors, infer_config, recognise
from eqxesm.encoders.published.table import Row
from eqxesm.errors import InputError
from eqxesm.files import check_readable, expand_user, looking_up
from eqxesm.hub.download import download


@dataclass(frozen=True)
class Release:
    """A repository, the commit of it that was reviewed, and its licence."""

    repository: str
    revision: str
    license: str


RELEASES = {
    "esmc_300m": Release("biohub/ESMC-300M", "a59b831785f907e96e6a246b1d142bfb76df31ee", "mit"),
    "esmc_600m": Release("biohub/ESMC-600M", "a7e82012c83126b9eedb055fea9fa84b6c02f094", "mit"),
    "esmc_6b": Release("biohub/ESMC-6B", "45b0fa5d7fb06faefbd5e3b89bdcef35d564e79a", "mit"),
}
"""What a size stands for when no source is named."""

PATTERNS = ("*.json", "*.safetensors", "*.pth")
"""Files of a repository that are fetched."""

EXTRA_STATE = "._extra_state"
"""Empty tensors that NVIDIA's Transformer Engine writes beside its layers."""

_log = logging.getLogger(__name__)


@runtime_checkable
class ReadableTensor(Protocol):
    """A tensor that is not read yet."""

    @property
    def spec(self) -> TensorSpec: ...

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read some of its rows into memory."""
        ...


Tensors = Mapping[str, ReadableTensor]
OpenPth = Callable[[Path], Tensors]


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A published checkpoint on this machine, its extra state left out and counted."""

    name: str
    revision: str | None
    license: str | None
    files: tuple[Path, ...]
    tensors: Tensors
    ignored: int

    def hashes(self) -> tuple[str, ...]:
        """SHA-256 and name of each file."""
        return tuple(f"{_sha256(file)}  {file.name}" for file in self.files)

    def read_leaf(self, layout: Layout, row: Row, layer: int | None) -> np.ndarray:
        """Read one layer of one of our leaves."""
        tensor = self.tensors[layout.tensor(row, layer or 0)]
        rows = row.part(layout.name).rows(tensor.spec.shape[0])
        return tensor.read(rows.start, rows.stop)


def open_published(size: str, source: str | None, open_pth: OpenPth | None = None) -> PublishedCheckpoint:
    """Find a checkpoint and list its tensors.

    Args:
        size: a name of `RELEASES`, used when there is no source.
        source: a file, a folder, or `REPOSITORY[@REVISION]`.
        open_pth: reader of `.pth` files, which needs torch.
    """
    license_, revision = None, None
    if source is None:
        # Never a folder of the same name: what is recorded as the release must be the release.
        release = RELEASES[size]
        name, revision, license_ = release.repository, release.revision, release.license
        path = download(name, revision, PATTERNS)
    elif (local := _find_local(source)) is not None:
        name, path = source, local
        if REPOSITORY.fullmatch(source):
            _log.info("%s: read from what is here, not from the Hub", source)
    else:
        name, _, named = source.removeprefix("hf://").partition("@")
        if name.count("/") != 1 or Path(source).suffix in (".pth", ".safetensors"):
            raise InputError(f"{source}: not found, and not the name of a Hub repository")
        revision = named or None
        path = download(name, revision, PATTERNS)
    files, found = _list_tensors(path, open_pth)
    kept = {key: tensor for key, tensor in found.items() if not key.endswith(EXTRA_STATE)}
    return PublishedCheckpoint(name, revision, license_, files, kept, len(found) - len(kept))


def understand(size: str | None, checkpoint: PublishedCheckpoint) -> tuple[Layout, ESMCConfig]:
    """Tell layout and architecture of a checkpoint, and check that all of it is there."""
    name = checkpoint.name
    layout = recognise(checkpoint.tensors, name)
    for key, tensor in checkpoint.tensors.items():
        if not jnp.issubdtype(tensor.spec.dtype, jnp.floating):
            kind = tensor.spec.dtype.name
            raise InputError(f"{name}: {key} is {kind}, not floating point. Quantised checkpoints cannot be read.")
    shapes = {key: tensor.spec.shape for key, tensor in checkpoint.tensors.items()}
    config = infer_config(layout, shapes, name)
    if size is not None:
        check_size(size, config, name)
    check_tensors(layout, config, shapes, leaf_shapes(config), name)
    return layout, config


@cache
def leaf_shapes(config: ESMCConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the leaves of an encoder, without making it."""
    tree = eqx.filter_eval_shape(lambda: ESMC(config, key=jax.random.key(0)))
    return {name: tuple(leaf.shape) for name, leaf in named_leaves(tree).items()}


def _find_local(source: str) -> Path | None:
    with looking_up(source):
        path = Path(expand_user(source))
        return path if path.exists() else None


def _list_tensors(path: Path, open_pth: OpenPth | None) -> tuple[tuple[Path, ...], Tensors]:
    file = _find_pth(path) if path.is_dir() else path
    if file is None:
        shards = open_folder(path)
        return tuple(sorted({tensor.file for tensor in shards.values()})), shards
    if file.suffix != ".pth":
        return (file,), open_file(file)
    if open_pth is None:
        raise InputError(f"{file}: .pth files are read by python -m conversion.port")
    check_readable(file)
    return (file,), open_pth(file)


def _find_pth(folder: Path) -> Path | None:
    if (folder / WEIGHTS).exists() or (folder / INDEX).exists():
        return None
    found = sorted(folder.rglob("*.pth"))
    if len(found) > 1:
        raise InputError(f"{folder}: holds {len(found)} .pth files. Name one of them.")
    if not found:
        raise InputError(f"{folder}: holds neither {WEIGHTS}, {INDEX} nor a .pth file")
    return found[0]


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
