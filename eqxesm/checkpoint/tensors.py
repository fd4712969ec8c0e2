"""Safetensors files, read without copies and written without holding them in memory."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from eqxesm.checkpoint.reading import LARGEST, one_line, place, read_json
from eqxesm.errors import InputError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = f"model-{'[0-9]' * 5}-of-{'[0-9]' * 5}.safetensors"
SHARD_BYTES = 5 * 10**9

# A multiple of what XLA asks of a buffer that it takes over without a copy.
ALIGNMENT = 64

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


@dataclass(frozen=True)
class Spec:
    """The shape and dtype of a tensor that is about to be written."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file, not read yet."""

    file: Path
    offset: int
    spec: Spec

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read some rows of the tensor into memory, and no more of the file than those.

        Args:
            start: first row.
            stop: row after the last one; all that are left by default.

        Returns:
            A new, writable array.
        """
        start, stop, _ = slice(start, stop).indices(self.spec.shape[0])
        rows = Spec((stop - start, *self.spec.shape[1:]), self.spec.dtype)
        row_bytes = self.spec.nbytes // max(1, self.spec.shape[0])
        # numpy reads no bfloat16, so the bytes come first and their meaning after.
        raw = np.fromfile(self.file, np.uint8, rows.nbytes, offset=self.offset + start * row_bytes)
        return raw.view(rows.dtype).reshape(rows.shape)

    def view(self) -> np.ndarray:
        """Map the tensor into memory, where its pages are read as they are touched.

        Returns:
            A read-only array on top of the file.
        """
        if not self.spec.nbytes:
            return np.empty(self.spec.shape, self.spec.dtype)
        raw = np.memmap(self.file, np.uint8, "r", self.offset, (self.spec.nbytes,))
        return np.asarray(raw).view(self.spec.dtype).reshape(self.spec.shape)


def open_file(path: Path) -> dict[str, Tensor]:
    """List the tensors of one safetensors file.

    Args:
        path: the file.

    Returns:
        Tensors by name.

    Raises:
        InputError: the file is missing, truncated, corrupt or holds a dtype nobody here reads.
    """
    try:
        if path.exists() and not path.is_file():
            raise SafetensorError("it is no file")
        with open(path, "rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > LARGEST:
            raise SafetensorError(f"its header of {header_bytes:,} bytes is more than {LARGEST:,}")
        # The library checks the header against the file: its size, offsets and overlaps.
        with safe_open(path, framework="np") as checked:
            names = list(checked.keys())
    except (SafetensorError, OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else one_line(error)
        raise InputError(
            f"{path}: not a readable safetensors file ({reason}): fetch or write it again"
        ) from error
    with open(path, "rb") as file:
        header = json.loads(file.read(8 + header_bytes)[8:])
    tensors = {}
    for name in names:
        entry = header[name]
        if entry["dtype"] not in _DTYPES:
            raise InputError(f"{path}: tensor {name} has dtype {entry['dtype']}, which is not read")
        spec = Spec(tuple(entry["shape"]), _DTYPES[entry["dtype"]])
        tensors[name] = Tensor(path, 8 + header_bytes + entry["data_offsets"][0], spec)
    return tensors


def open_folder(folder: Path) -> dict[str, Tensor]:
    """List the tensors of a checkpoint folder, in one file or in shards with an index.

    Args:
        folder: holds `model.safetensors`, or shards and `model.safetensors.index.json`.

    Returns:
        Tensors by name.

    Raises:
        InputError: there is neither, the index names a shard outside the folder or an absent one,
            or the shards hold other tensors than the index says.
    """
    index = place(folder, INDEX)
    if not index.exists():
        return open_file(place(folder, WEIGHTS))
    if (folder / WEIGHTS).exists():
        raise InputError(
            f"{folder}: holds {WEIGHTS} and {INDEX}, and only one can count: delete one"
        )
    weight_map = _read_index(index)
    tensors = {}
    for shard in sorted(set(weight_map.values())):
        found = open_file(place(folder, shard))
        if repeated := sorted(set(found) & set(tensors)):
            raise InputError(
                f"{folder / shard}: {repeated[0]} stands in another shard too: refused"
            )
        tensors |= found
    differing = sorted(set(tensors) ^ set(weight_map)) + sorted(
        name
        for name in set(tensors) & set(weight_map)
        if tensors[name].file.name != weight_map[name]
    )
    if differing:
        raise InputError(
            f"{index}: index and shards disagree about {len(differing)} tensors, "
            f"{differing[0]} first: fetch or write the folder again"
        )
    return tensors


def files_of(folder: Path) -> list[str]:
    """Name the files that the weights of a folder are in.

    Args:
        folder: holds an index of shards, or has `model.safetensors` or shall have it.

    Returns:
        Names of files, which need not all be there.

    Raises:
        InputError: the index is none.
    """
    index = place(folder, INDEX)
    return sorted(set(_read_index(index).values())) if index.exists() else [WEIGHTS]


def _read_index(index: Path) -> dict[str, str]:
    """Read which tensor is in which shard, every shard a plain name of a file."""
    try:
        weight_map = read_json(index)["weight_map"]
        shards = set(weight_map.values())
        plain = all(
            os.path.basename(shard) == shard and shard not in ("", ".", "..") for shard in shards
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: not an index of shards: fetch or write it again") from error
    if not plain:
        raise InputError(f"{index}: names a shard outside of its folder: refused")
    return weight_map


def write_folder(
    folder: Path,
    specs: Mapping[str, Spec],
    parts: Callable[[str], Iterable[np.ndarray]],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write tensors to a folder, sharded when they do not fit one file.

    Args:
        folder: an existing folder.
        specs: shape and dtype of every tensor, by name.
        parts: gives a tensor as consecutive pieces of its rows, so that it never has to be whole.
        shard_bytes: largest shard; a single larger tensor gets a shard of its own.
    """
    shards = _shard(specs, shard_bytes)
    if len(shards) == 1:
        _write_file(folder / WEIGHTS, shards[0], parts)
        return
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_file(folder / name, shard, parts)
        weight_map |= dict.fromkeys(shard, name)
    index = {
        "metadata": {"total_size": sum(spec.nbytes for spec in specs.values())},
        "weight_map": dict(sorted(weight_map.items())),
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _shard(specs: Mapping[str, Spec], shard_bytes: int) -> list[dict[str, Spec]]:
    shards: list[dict[str, Spec]] = [{}]
    used = 0
    for name, spec in specs.items():
        if shards[-1] and used + spec.nbytes > shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = spec
        used += spec.nbytes
    return shards


def _write_file(
    path: Path, specs: Mapping[str, Spec], parts: Callable[[str], Iterable[np.ndarray]]
) -> None:
    """Write one file, its header padded so that mapped tensors are aligned.

    safetensors' own writer wants every tensor in memory at once and aligns to 8 bytes only; the
    format is that of https://github.com/huggingface/safetensors#format.
    """
    # Tensors whose size keeps the next one aligned come first.
    ordered = sorted(specs, key=lambda name: specs[name].nbytes % ALIGNMENT != 0)
    # transformers opens no file without this mark.
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in ordered:
        spec = specs[name]
        offsets = [end, end + spec.nbytes]
        header[name] = {
            "dtype": _NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": offsets,
        }
        end = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            written = 0
            for part in _checked(parts(name), specs[name].dtype, name):
                file.write(part.reshape(-1).view(np.uint8).data)
                written += part.nbytes
            if written != specs[name].nbytes:
                raise ValueError(
                    f"{name}: {written} bytes came, {specs[name].nbytes} were announced"
                )
        file.flush()
        os.fsync(file.fileno())


def _checked(parts: Iterable[np.ndarray], dtype: np.dtype, name: str) -> Iterator[np.ndarray]:
    for part in parts:
        if part.dtype != dtype:
            raise ValueError(f"{name}: {part.dtype} came, {dtype} was announced")
        yield np.ascontiguousarray(part)
