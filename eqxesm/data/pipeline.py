"""The input pipeline of training, on grain: shuffled, bucketed, split by process, resumable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from jaxtyping import Float, Int

from eqxesm.data.batching import Buckets

PREFETCH = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
"""One thread prepares batches while the devices compute. Preparing one is cheap."""

PlannedStep = tuple[int, Int[np.ndarray, " _"]]
"""The padded length of a batch, and the indices of its proteins."""


class Batch(NamedTuple):
    """The proteins of one step; with several processes, this one's rows. Empty rows weigh 0."""

    inputs: Any
    labels: Float[np.ndarray, "rows ..."]
    weights: Float[np.ndarray, " rows"]


@dataclass(frozen=True)
class ProcessRows:
    """Which rows of every batch a process prepares."""

    devices: int = 1
    process: int = 0
    processes: int = 1

    @classmethod
    def of(cls, mesh: jax.sharding.Mesh) -> "ProcessRows":
        return cls(mesh.size, jax.process_index(), jax.process_count())

    def share(self, rows: int) -> tuple[int, slice]:
        """Rows of a batch, made a multiple of the devices, and those that this process prepares."""
        rows = -(-rows // self.devices) * self.devices
        return rows, slice(rows * self.process // self.processes, rows * (self.process + 1) // self.processes)


class Steps(Sequence[PlannedStep]):
    """The steps of all epochs by number, so that grain can start at any of them.

    Without a seed, proteins keep their order and there is one epoch.
    """

    def __init__(self, lengths: Int[np.ndarray, " n"], buckets: Buckets, epochs: int, seed: int | None):
        count = len(lengths)
        proteins = grain.MapDataset.range(count)
        if seed is not None:
            proteins = proteins.seed(seed).shuffle().repeat(epochs)

        @lru_cache(maxsize=2)
        def plan(epoch: int) -> list[PlannedStep]:
            start = 0 if seed is None else epoch * count
            order = np.array([proteins[start + i] for i in range(count)])
            planned = buckets.plan(lengths, order)
            if seed is None:
                return planned
            shuffled = np.random.default_rng((seed, epoch)).permutation(len(planned))
            return [planned[i] for i in shuffled]

        self._plan = plan
        self.per_epoch = len(plan(0))
        self._count = epochs * self.per_epoch

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, step):
        return self._plan(step // self.per_epoch)[step % self.per_epoch]


def _fit_length(labels: Float[np.ndarray, "rows longest 1"], length: int) -> Float[np.ndarray, "rows length 1"]:
    """Labels of every position, cut or padded to a length."""
    missing = max(0, length - labels.shape[1])
    return np.pad(labels[:, :length], ((0, 0), (0, missing), (0, 0)), constant_values=np.nan)


def make_batches(
    steps: Steps,
    buckets: Buckets,
    collate: Callable[[Int[np.ndarray, " _"], int, np.random.Generator], Any],
    labels: Int[np.ndarray, " n"] | Float[np.ndarray, "n ..."],
    class_weights: tuple[float, float] | None = None,
    own: ProcessRows = ProcessRows(),
    seed: int = 0,
) -> grain.IterDataset:
    """Turn planned steps into batches. `collate` makes the inputs of indices, padded to a length.

    Labels are one for each protein; or those of several targets, `[n targets]`, or of every position, `[n length 1]`.
    """

    def prepare(step: PlannedStep, rng: np.random.Generator) -> Batch:
        length, indices = step
        # Which proteins a batch holds does not depend on the devices.
        rows, here = own.share(buckets.rows(length))
        filled = np.concatenate([indices, np.repeat(indices[:1], rows - len(indices))])[here]
        is_real = (np.arange(rows) < len(indices))[here]
        known = labels[filled] if labels.ndim < 3 else _fit_length(labels[filled], length)
        weights = is_real if class_weights is None else np.array(class_weights, np.float32)[known] * is_real
        return Batch(collate(filled, length, rng), known.astype(np.float32), weights.astype(np.float32))

    return grain.MapDataset.source(steps).random_map(prepare, seed=seed).to_iter_dataset(PREFETCH)
