"""Safetensors files, read without copies and written without holding them in memory."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from eqxesm.errors import InputError, one_line, pluralise
from eqxesm.files import MAX_BYTES, check_readable, checked_path, read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = f"model-{'[0-9]' * 5}-of-{'[0-9]' * 5}.safetensors"
SHARD_BYTES = 5 * 10**9

# XLA takes over a buffer without a copy only where it starts at a multiple of this.
ALIGNMENT = 64

MAX_HEADER = 100_000_000
"""Bytes of names and shapes that safetensors reads: https://github.com/huggingface/safetensors#format."""

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

Parts = Callable[[str], Iterable[np.ndarray]]
"""Gives a tensor, by name, as consecutive blocks of its rows, so that it is never whole."""


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file, not read yet."""

    file: Path
    offset: int
    spec: TensorSpec

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read some rows into memory, as a new, writable array."""
        start, stop, _ = slice(start, stop).indices(self.spec.shape[0])
        rows = TensorSpec((stop - start, *self.spec.shape[1:]), self.spec.dtype)
        row_bytes = self.spec.nbytes // max(1, self.spec.shape[0])
        # numpy cannot read bfloat16, so bytes are read and then viewed.
        raw = np.fromfile(self.file, np.uint8, rows.nbytes, offset=self.offset + start * row_bytes)
        if raw.nbytes < rows.nbytes:
            raise self._became_shorter()
        return raw.view(rows.dtype).reshape(rows.shape)

    def map(self) -> np.ndarray:
        """Map the tensor into memory, read-only. Pages are read as they are touched."""
        if not self.spec.nbytes:
            return np.empty(self.spec.shape, self.spec.dtype)
        try:
            raw = np.memmap(self.file, np.uint8, "r", self.offset, (self.spec.nbytes,))
        except ValueError as error:
            raise self._became_shorter() from error
        return np.asarray(raw).view(self.spec.dtype).reshape(self.spec.shape)

    def _became_shorter(self) -> InputError:
        return InputError(f"{self.file}: became shorter while it was read. Fetch or write it again.")


def open_file(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of one safetensors file."""
    try:
        check_readable(path)
        with open(path, "rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > MAX_BYTES:
            raise SafetensorError(f"header of {header_bytes:,} bytes, over {MAX_BYTES:,}")
        # The library checks the header against the file: its size, offsets and overlaps.
        with safe_open(path, framework="np") as checked:
            names = list(checked.keys())
    except InputError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        reason = "file not found" if isinstance(error, FileNotFoundError) else one_line(error)
        raise InputError(f"{path}: not a readable safetensors file ({reason}). Fetch or write it again.") from error
    with open(path, "rb") as file:
        header = json.loads(file.read(8 + header_bytes)[8:])
    tensors = {}
    for name in names:
        entry = header[name]
        if entry["dtype"] not in _DTYPES:
            raise InputError(f"{path}: tensor {name} has the unsupported dtype {entry['dtype']}")
        spec = TensorSpec(tuple(entry["shape"]), _DTYPES[entry["dtype"]])
        tensors[name] = StoredTensor(path, 8 + header_bytes + entry["data_offsets"][0], spec)
    return tensors


def open_folder(folder: Path) -> dict[str, StoredTensor]:
    """List the tensors of a checkpoint folder, in one file or in shards with an index."""
    index = checked_path(folder, INDEX)
    if not index.exists():
        return open_file(checked_path(folder, WEIGHTS))
    if (folder / WEIGHTS).exists():
        raise InputError(f"{folder}: holds both {WEIGHTS} and {INDEX}. Delete one.")
    weight_map = _read_index(index)
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        found = open_file(checked_path(folder, shard))
        if repeated := sorted(set(found) & set(tensors)):
            raise InputError(f"{folder / shard}: tensor {repeated[0]} is in another shard too")
        tensors |= found
    found_map = {name: tensor.file.name for name, tensor in tensors.items()}
    if differing := sorted(dict(set(found_map.items()) ^ set(weight_map.items()))):
        count = pluralise(len(differing), "tensor")
        raise InputError(f"{index}: index and shards disagree about {count}, first {differing[0]}. Fetch it again.")
    return tensors


def weight_files(folder: Path) -> list[str]:
    """Names of the files that hold the weights of a folder, whether or not they are there."""
    index = checked_path(folder, INDEX)
    return sorted(set(_read_index(index).values())) if index.exists() else [WEIGHTS]


def _read_index(index: Path) -> dict[str, str]:
    try:
        weight_map = read_json(index)["weight_map"]
        shards = set(weight_map.values())
        plain = all(re.fullmatch(r"\w[\w.-]{0,200}", shard) for shard in shards)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: not an index of shards. Fetch or write it again.") from error
    if not plain:
        raise InputError(f"{index}: names a shard that is no plain file name")
    return weight_map


def write_tensors(folder: Path, specs: Mapping[str, TensorSpec], parts: Parts, shard_bytes: int = SHARD_BYTES) -> None:
    """Write tensors to a folder, in shards of at most `shard_bytes` where one file is too small."""
    shards = _shard(specs, shard_bytes)
    if len(shards) == 1:
        write_file(folder / WEIGHTS, shards[0], parts)
        return
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_file(folder / name, shard, parts)
        weight_map |= dict.fromkeys(shard, name)
    index = {
        "metadata": {"total_size": sum(spec.nbytes for spec in specs.values())},
        "weight_map": dict(sorted(weight_map.items())),
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _shard(specs: Mapping[str, TensorSpec], shard_bytes: int) -> list[dict[str, TensorSpec]]:
    shards: list[dict[str, TensorSpec]] = [{}]
    used = 0
    for name, spec in specs.items():
        if shards[-1] and used + spec.nbytes > shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = spec
        used += spec.nbytes
    return shards


def write_file(
    path: Path, specs: Mapping[str, TensorSpec], parts: Parts, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to one file."""
    # safetensors' own writer wants every tensor in memory and aligns to 8 bytes only. The format:
    # https://github.com/huggingface/safetensors#format
    # Tensors whose size keeps the next one aligned come first.
    ordered = sorted(specs, key=lambda name: specs[name].nbytes % ALIGNMENT != 0)
    # transformers opens no file without this entry.
    header: dict[str, dict] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name in ordered:
        spec = specs[name]
        offsets = [end, end + spec.nbytes]
        dtype = _NAMES[spec.dtype]
        header[name] = {"dtype": dtype, "shape": list(spec.shape), "data_offsets": offsets}
        end = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    if len(text) > MAX_HEADER:
        raise InputError(f"{len(specs):,} tensors are more than a safetensors file can name. Use another format.")
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            written = 0
            for part in _checked(parts(name), specs[name].dtype, name):
                file.write(part.reshape(-1).view(np.uint8).data)
                written += part.nbytes
            if written != specs[name].nbytes:
                raise ValueError(f"{name}: got {written} bytes, expected {specs[name].nbytes}")
        file.flush()
        os.fsync(file.fileno())


def _checked(parts: Iterable[np.ndarray], dtype: np.dtype, name: str) -> Iterator[np.ndarray]:
    for part in parts:
        if part.dtype != dtype:
            raise ValueError(f"{name}: got {part.dtype}, expected {dtype}")
        yield np.ascontiguousarray(part)
