"""Where published checkpoints come from: a file, a folder, or the Hugging Face Hub."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import ml_dtypes
import numpy as np

from eqxesm.checkpoint import tensors
from eqxesm.checkpoint.hub import download
from eqxesm.checkpoint.tensors import Spec
from eqxesm.errors import InputError


@dataclass(frozen=True)
class Release:
    """A published checkpoint that a size stands for when no source is named.

    Attributes:
        repository: on the Hugging Face Hub.
        revision: the commit that the port was reviewed against.
        license: the terms of the weights there.
    """

    repository: str
    revision: str
    license: str


RELEASES = {
    "esmc_300m": Release("biohub/ESMC-300M", "a59b831785f907e96e6a246b1d142bfb76df31ee", "mit"),
    "esmc_600m": Release("biohub/ESMC-600M", "a7e82012c83126b9eedb055fea9fa84b6c02f094", "mit"),
    "esmc_6b": Release("biohub/ESMC-6B", "45b0fa5d7fb06faefbd5e3b89bdcef35d564e79a", "mit"),
}

PATTERNS = ("*.json", "*.safetensors", "*.pth")
"""Files of a repository that a port may want."""

EXTRA_STATE = "._extra_state"
"""Empty tensors that NVIDIA's Transformer Engine leaves beside its layers."""


@runtime_checkable
class Tensor(Protocol):
    """A tensor of a source, not read yet."""

    @property
    def spec(self) -> Spec:
        """Shape and dtype."""
        ...

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read some of its rows into memory."""
        ...


@dataclass(frozen=True)
class Source:
    """A published checkpoint on this machine.

    Attributes:
        name: what to call it: the repository, or the path.
        revision: commit of the repository, if it is one.
        license: the terms of its weights, where they are known.
        files: its weights files.
        tensors: its tensors by name, without extra state.
        ignored: how many tensors of extra state stand beside them.
    """

    name: str
    revision: str | None
    license: str | None
    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor]
    ignored: int

    def hashes(self) -> tuple[str, ...]:
        """Hash the files.

        Returns:
            A line per file, as `sha256sum` writes them.
        """
        return tuple(f"{_sha256(file)}  {file.name}" for file in self.files)


def open_source(size: str, source: str | None) -> Source:
    """Find a checkpoint and list its tensors without reading them.

    Args:
        size: which release to download when no source is named.
        source: a `.safetensors` or `.pth` file, a folder, a Hub repository with an optional
            `@revision`, or None for the pinned release of the size.

    Returns:
        The source.

    Raises:
        InputError: there is none, or it is corrupt or not a checkpoint.
    """
    license_, revision = None, None
    if source is None:
        # Never a folder of the same name: what is recorded as the release must be the release.
        release = RELEASES[size]
        name, revision, license_ = release.repository, release.revision, release.license
        path = download(name, revision, PATTERNS)
    elif (local := _local(source)) is not None:
        name, path = source, local
    else:
        name, _, named = source.removeprefix("hf://").partition("@")
        if name.count("/") != 1 or Path(source).suffix in (".pth", ".safetensors"):
            raise InputError(
                f"{source}: no such file or folder, and no Hub repository (owner/name)"
            )
        revision = named or None
        path = download(name, revision, PATTERNS)
    files, found = _list(path)
    kept = {key: tensor for key, tensor in found.items() if not key.endswith(EXTRA_STATE)}
    return Source(name, revision, license_, files, kept, len(found) - len(kept))


def _local(source: str) -> Path | None:
    try:
        path = Path(source).expanduser()
        return path if source and path.exists() else None
    except (OSError, RuntimeError) as error:
        raise InputError(f"{source}: cannot be looked up ({error}): check the path") from error


def _list(path: Path) -> tuple[tuple[Path, ...], Mapping[str, Tensor]]:
    file = path if path.is_file() else _only_pth(path)
    if file is None:
        shards = tensors.open_folder(path)
        return tuple(sorted({tensor.file for tensor in shards.values()})), shards
    return (file,), _open_pth(file) if file.suffix == ".pth" else tensors.open_file(file)


def _only_pth(folder: Path) -> Path | None:
    if (folder / tensors.WEIGHTS).exists() or (folder / tensors.INDEX).exists():
        return None
    found = sorted(folder.rglob("*.pth"))
    if len(found) > 1:
        raise InputError(f"{folder}: holds {len(found)} .pth files: name one of them")
    if not found:
        raise InputError(
            f"{folder}: holds neither {tensors.WEIGHTS}, {tensors.INDEX} nor a .pth file"
        )
    return found[0]


@dataclass(frozen=True)
class TorchTensor:
    """A tensor of a `.pth` file, mapped by torch."""

    tensor: Any

    @property
    def spec(self) -> Spec:
        """Shape and dtype."""
        name = str(self.tensor.dtype).removeprefix("torch.")
        dtype = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
        return Spec(tuple(self.tensor.shape), dtype)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Give some rows as a numpy array; bfloat16 crosses as integers of its bits."""
        import torch

        tensor = self.tensor.detach()[start:stop].resolve_neg().contiguous()
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()


def _open_pth(file: Path) -> dict[str, TorchTensor]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{file}: reading .pth needs torch: install eqxesm with its extra 'convert', "
            "or name a safetensors file"
        ) from error
    known = (torch.float32, torch.bfloat16, torch.float16, torch.uint8)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        # weights_only refuses whatever is no tensor, with a dozen kinds of exception.
        raise InputError(
            f"{file}: not a plain file of weights, so it is refused unread "
            f"({type(error).__name__}): use one that torch.load(weights_only=True) opens"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise InputError(f"{file}: holds something other than tensors by name: refused")
    odd = [
        name
        for name, value in state.items()
        if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in known
    ]
    if odd:
        raise InputError(
            f"{file}: {odd[0]} is {state[odd[0]].dtype}, {state[odd[0]].layout}: refused, since "
            "weights are dense and float32, bfloat16 or float16"
        )
    return {key: TorchTensor(value) for key, value in state.items()}


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
