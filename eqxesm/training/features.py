"""Features of a frozen encoder, computed once and kept in a cache."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from eqxesm.alphabet import AnyArray, is_residue, pad
from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.encoders import AbstractEncoder, cast, residue_mask
from eqxesm.errors import InputError
from eqxesm.inference import map_proteins
from eqxesm.protein_model import ProteinModel
from eqxesm.training.config import TrainConfig
from eqxesm.training.devices import is_first, wait_for_all
from eqxesm.training.step import Features, PooledFeatures

CHUNK = 1024
"""Proteins computed between two notes of progress."""

Flush = Callable[[], None]


class _FrozenEncoder(eqx.Module):
    """The encoder as a function of tokens, followed by the pooling of the head, if that has no parameter."""

    encoder: AbstractEncoder
    head: Any

    def __call__(self, tokens: Int[AnyArray, " length"]) -> Float[Array, "..."]:
        features = self.encoder.features(tokens)
        if self.head is None:
            return features
        return self.head.pool(features.astype(jnp.float32), residue_mask(tokens))


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of a set of proteins, on disk or in memory. Those of protein i are `rows[slice(*places[i])]`."""

    rows: Float[np.ndarray, "all width"]
    places: Int[np.ndarray, "n 2"]
    proteins: Sequence[Int[np.ndarray, " _"]]
    pooled: bool

    def collate(
        self, indices: Int[np.ndarray, " _"], length: int, rng: np.random.Generator | None = None
    ) -> Features | PooledFeatures:
        del rng
        if self.pooled:
            return PooledFeatures(self.rows[self.places[indices, 0]])
        padded = np.zeros((len(indices), length, self.rows.shape[1]), self.rows.dtype)
        for row, index in enumerate(indices):
            own = self.rows[slice(*self.places[index])]
            padded[row, : len(own)] = own
        tokens = pad([self.proteins[index] for index in indices], length)
        return Features(padded, np.asarray(is_residue(tokens)))

    def select(self, proteins: Sequence[Int[np.ndarray, " _"]]) -> "FrozenFeatures":
        """Those of some of the proteins, which are found by their tokens."""
        known = {_key(protein): index for index, protein in enumerate(self.proteins)}
        keys = [_key(protein) for protein in proteins]
        if missing := [number for number, key in enumerate(keys, 1) if key not in known]:
            raise InputError(f"features are given, but not those of protein {missing[0]}. Compute them for all.")
        chosen = np.array([known[key] for key in keys])
        return FrozenFeatures(self.rows, self.places[chosen], proteins, self.pooled)


def _key(tokens: Int[np.ndarray, " _"]) -> bytes:
    return np.asarray(tokens, np.uint8).tobytes()


def compute_features(
    model: ProteinModel,
    proteins: Sequence[Int[np.ndarray, " _"]],
    lengths: Int[np.ndarray, " n"],
    config: TrainConfig,
    cache: Path | None = None,
    *,
    progress: bool = False,
) -> FrozenFeatures:
    """Compute the features of proteins, or find them in the cache. A killed run goes on."""
    pooled = model.head.pooling is not None
    encoder = cast(model.encoder, jnp.dtype(config.compute_dtype))
    function = _FrozenEncoder(encoder, model.head if pooled else None)
    dtype = np.dtype(np.float32) if pooled else np.dtype(jnp.dtype(config.compute_dtype))
    width = eqx.filter_eval_shape(function, jax.ShapeDtypeStruct((1,), jnp.int32)).shape[-1]
    ends = np.cumsum(np.ones_like(lengths) if pooled else lengths)
    places = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    shape = (int(ends[-1]), width)

    def compute(rows: np.ndarray, done: np.ndarray, flush: Flush) -> None:
        # Sorted by length, so that each shape is compiled once.
        order = np.argsort(lengths, kind="stable")
        waiting = order[~done[order].astype(bool)]
        with tqdm(
            total=len(lengths), initial=len(lengths) - len(waiting), unit=" proteins",
            desc="features", disable=None if progress else True, leave=False,
        ) as bar:  # fmt: skip
            for start in range(0, len(waiting), CHUNK):
                chunk = waiting[start : start + CHUNK]
                tokens = [proteins[index] for index in chunk]
                computed = map_proteins(function, tokens)
                for index, own in zip(chunk, computed, strict=True):
                    begin, end = places[index]
                    rows[begin:end] = own if pooled else own[: end - begin]
                flush()
                done[chunk] = 1
                flush()
                bar.update(len(chunk))

    if cache is None:
        rows = np.zeros(shape, dtype)
        compute(rows, np.zeros(len(lengths), np.uint8), lambda: None)
        return FrozenFeatures(rows, places, proteins, pooled)
    path = cache / f"{_hash_inputs(model, proteins, config.compute_dtype)}.features"
    if is_first():
        _fill_file(path, shape, dtype, len(lengths), compute)
    wait_for_all("features")
    return FrozenFeatures(np.memmap(path, dtype, "r", shape=shape), places, proteins, pooled)


def compute_once(
    model: ProteinModel,
    proteins: Iterable[Int[np.ndarray, " _"]],
    config: TrainConfig,
    cache: Path,
    *,
    progress: bool = False,
) -> FrozenFeatures:
    """Features of the proteins of several sets, each computed once; `select` finds those of a set."""
    unique = list({_key(tokens): tokens for tokens in proteins}.values())
    lengths = np.array([len(tokens) for tokens in unique])
    return compute_features(model, unique, lengths, config, cache, progress=progress)


def _hash_inputs(model: ProteinModel, proteins: Sequence[Int[np.ndarray, " _"]], dtype: str) -> str:
    """Hash everything that features depend on."""
    digest = hashlib.sha256()
    about = [fingerprint(model.encoder), asdict(model.cleaning), model.head.pooling, dtype]
    digest.update(json.dumps(about).encode())
    for tokens in proteins:
        digest.update(np.int32(len(tokens)).tobytes() + _key(tokens))
    return digest.hexdigest()[:32]


def _fill_file(
    path: Path,
    shape: tuple[int, int],
    dtype: np.dtype,
    count: int,
    compute: Callable[[np.ndarray, np.ndarray, Flush], None],
) -> None:
    """Write a file of the cache. It has another name until it is whole."""
    size = shape[0] * shape[1] * dtype.itemsize
    if path.exists() and path.stat().st_size == size:
        return
    partial, flags = path.with_suffix(".partial"), path.with_suffix(".done")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (partial.exists() and partial.stat().st_size == size and flags.exists()):
            for file, length in ((partial, size), (flags, count)):
                with open(file, "wb") as opened:
                    # Reserves the space now: a mapped file on a full disk would kill the process.
                    os.posix_fallocate(opened.fileno(), 0, length)
        rows = np.memmap(partial, dtype, "r+", shape=shape)
        done = np.memmap(flags, np.uint8, "r+", shape=(count,))

        def flush() -> None:
            rows.flush()
            done.flush()

        compute(rows, done, flush)
        partial.rename(path)
        flags.unlink()
    except OSError as error:
        problem = f"{path.parent}: features cannot be kept there ({error.strerror})"
        raise InputError(f"{problem}. Free space, or set EQXESM_CACHE to another folder.") from error
