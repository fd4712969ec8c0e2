"""Published checkpoints: a file, a folder or a Hub repository, read tensor by tensor."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from eqxesm.checkpoint.licences import read_licence
from eqxesm.checkpoint.record import CARD
from eqxesm.checkpoint.tensors import INDEX, WEIGHTS, Parts, TensorSpec, open_file, open_folder
from eqxesm.config import REPOSITORY
from eqxesm.encoders.config import ESMCConfig
from eqxesm.encoders.published.layouts import Layout, check_size, check_tensors, infer_config, recognise
from eqxesm.encoders.published.table import TABLE, Row
from eqxesm.errors import InputError
from eqxesm.files import check_readable, expand_user, looking_up
from eqxesm.hub.download import download
from eqxesm.hub.releases import RELEASES

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
"""Precisions that an encoder is stored in."""

PATTERNS = ("*.json", "*.safetensors", "*.pth", CARD)
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

    @property
    def dtype(self) -> np.dtype:
        """The precision of every tensor."""
        found = {tensor.spec.dtype for tensor in self.tensors.values()}
        if len(found) > 1 or not found <= set(DTYPES.values()):
            names = " and ".join(sorted(dtype.name for dtype in found))
            raise InputError(f"{self.name}: is {names}. Choose a dtype: {' or '.join(DTYPES)}.")
        return found.pop()

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
    return open_local(path, name, revision, license_ or read_licence(path), open_pth)


def open_local(
    path: Path, name: str, revision: str | None, license_: str | None, open_pth: OpenPth | None = None
) -> PublishedCheckpoint:
    """List the tensors of a file or folder. The name, commit and licence are those of its source."""
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
    check_tensors(layout, config, shapes, name)
    return layout, config


def leaf_parts(checkpoint: PublishedCheckpoint, layout: Layout, config: ESMCConfig, dtype: np.dtype) -> Parts:
    """Give each of our leaves, by name, one layer after the other. What is not finite is refused."""
    table = {row.ours: row for row in TABLE}

    def parts(name: str) -> Iterator[np.ndarray]:
        row = table[name]
        for layer in range(config.layers) if row.is_stacked else (None,):
            # An overflow is reported below.
            with np.errstate(over="ignore"):
                block = checkpoint.read_leaf(layout, row, layer).astype(dtype, copy=False)
            if not np.isfinite(block).all():
                name = layout.tensor(row, layer or 0)
                raise InputError(
                    f"{checkpoint.name}: {name} holds NaN or infinity in {dtype}: damaged, or {dtype} is too narrow"
                )
            yield block

    return parts


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
