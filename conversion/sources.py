"""Published checkpoints, `.pth` files included: those are read by torch's restricted reader."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from eqxesm.checkpoint.tensors import TensorSpec
from eqxesm.encoders.published.reader import PublishedCheckpoint, open_published
from eqxesm.errors import InputError, missing_extra, one_line

MAX_PICKLE = 2**20
"""Bytes of the pickled names and shapes of tensors. Those of the 6B are a tenth of it."""


def open_source(size: str, source: str | None) -> PublishedCheckpoint:
    """Find a published checkpoint; see `open_published`."""
    return open_published(size, source, open_pth)


@dataclass(frozen=True)
class TorchTensor:
    """A tensor of a `.pth` file, mapped by torch."""

    tensor: Any

    @property
    def spec(self) -> TensorSpec:
        name = str(self.tensor.dtype).removeprefix("torch.")
        dtype = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
        return TensorSpec(tuple(self.tensor.shape), dtype)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        import torch

        tensor = self.tensor.detach()[start:stop].resolve_neg().contiguous()
        if tensor.dtype == torch.bfloat16:
            # numpy has no bfloat16: the bits cross as integers.
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()


def open_pth(file: Path) -> dict[str, TorchTensor]:
    """List the tensors of a `.pth` file. Nothing else is unpickled."""
    try:
        import torch
    except ImportError as error:
        raise missing_extra("torch", "convert") from error
    _check_archive(file)
    known = (torch.float32, torch.bfloat16, torch.float16, torch.uint8)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        # weights_only refuses what is not a tensor with a dozen kinds of exception.
        reason = f"torch.load(weights_only=True) raises {type(error).__name__}"
        raise InputError(f"{file}: not a plain file of weights ({reason})") from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise InputError(f"{file}: holds something other than tensors by name")
    odd = [
        name
        for name, value in state.items()
        if value.layout != torch.strided
        or value.device.type != "cpu"
        or value.dtype not in known
        # Strides of zero make a huge tensor of a small one.
        or value.nbytes > value.untyped_storage().nbytes()
    ]
    if odd:
        kind = f"{state[odd[0]].dtype}, {state[odd[0]].layout}"
        raise InputError(f"{file}: {odd[0]} is {kind}, expected dense float32, bfloat16 or float16")
    return {key: TorchTensor(value) for key, value in state.items()}


def _check_archive(file: Path) -> None:
    """Refuse what torch would need much more memory for than the file has bytes."""
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        reason = f"not a zip archive, as torch.save writes: {one_line(error)}"
        raise InputError(f"{file}: not a plain file of weights ({reason})") from error
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED:
            raise InputError(f"{file}: {record.filename} is compressed, which torch.save does not do. Not read.")
        if record.filename.endswith(".pkl") and record.file_size > MAX_PICKLE:
            raise InputError(
                f"{file}: {record.filename} has {record.file_size:,} bytes, over {MAX_PICKLE:,}. Not read."
            )
