"""The input pipeline of training, on grain: shuffled, bucketed, sliced by process, resumable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from jaxtyping import Float, Int

from eqxesm.data.bucketing import Layout

PREFETCH = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
"""One thread prepares batches while the devices are busy; preparing one is cheap."""


class Batch(NamedTuple):
    """One step's worth of proteins; with several processes, this one's rows of it.

    Attributes:
        inputs: what the model is given, each array `[rows ...]`.
        labels: 1 for soluble, 0 for insoluble, float32 `[rows]`.
        weights: how much each protein counts in the loss; 0 for a row that fills up the batch.
        indices: which proteins the rows are; -1 for a row that fills up.
    """

    inputs: Any
    labels: Float[np.ndarray, " rows"]
    weights: Float[np.ndarray, " rows"]
    indices: Int[np.ndarray, " rows"]


@dataclass(frozen=True)
class Share:
    """Which rows of every batch a process prepares.

    Args:
        devices: number of devices in all processes, which divides the rows of every batch.
        process: number of this process, from 0.
        processes: number of processes.
    """

    devices: int = 1
    process: int = 0
    processes: int = 1


class Steps(Sequence[tuple[int, Int[np.ndarray, " _"]]]):
    """All steps of all epochs by number, so that grain can start at any of them.

    Every epoch is a new global shuffle, cut into batches by the layout and shuffled again, since
    the cut sorts by length.
    """

    def __init__(
        self, lengths: Int[np.ndarray, " n"], layout: Layout, epochs: int, seed: int | None
    ):
        """Plan the steps.

        Args:
            lengths: tokens of each protein.
            layout: shapes of the batches.
            epochs: passes over the proteins.
            seed: of the shuffles; None keeps the proteins in order.
        """
        count = len(lengths)
        proteins = grain.MapDataset.range(count)
        if seed is not None:
            proteins = proteins.seed(seed).shuffle().repeat(epochs)

        @lru_cache(maxsize=2)
        def plan(epoch: int) -> list[tuple[int, Int[np.ndarray, " _"]]]:
            start = 0 if seed is None else epoch * count
            order = np.array([proteins[start + i] for i in range(count)])
            planned = layout.plan(lengths, order)
            if seed is None:
                return planned
            return [
                planned[i] for i in np.random.default_rng((seed, epoch)).permutation(len(planned))
            ]

        self._plan = plan
        self.per_epoch = len(plan(0))
        self._count = epochs * self.per_epoch

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, step):
        return self._plan(step // self.per_epoch)[step % self.per_epoch]


def pipeline(
    steps: Steps,
    layout: Layout,
    collate: Callable[[Int[np.ndarray, " _"], int], Any],
    labels: Int[np.ndarray, " n"],
    class_weights: tuple[float, float] = (1.0, 1.0),
    share: Share = Share(),
) -> grain.IterDataset:
    """Turn planned steps into batches of arrays.

    Args:
        steps: the plan.
        layout: shapes of the batches.
        collate: makes the inputs of the proteins with these indices at a padded length.
        labels: 1 for soluble, 0 for insoluble `[n]`.
        class_weights: how much an insoluble and a soluble protein count in the loss.
        share: which rows are wanted here.

    Returns:
        A grain dataset of `Batch`; the state of its iterator is the number of the next step.
    """

    def prepare(step: tuple[int, Int[np.ndarray, " _"]]) -> Batch:
        length, indices = step
        # Rows are a multiple of the devices; which proteins a batch holds does not depend on them.
        rows = -(-layout.rows(length) // share.devices) * share.devices
        here = slice(
            rows * share.process // share.processes, rows * (share.process + 1) // share.processes
        )
        filled = np.concatenate([indices, np.repeat(indices[:1], rows - len(indices))])[here]
        real = (np.arange(rows) < len(indices))[here]
        weights = np.array(class_weights, np.float32)[labels[filled]] * real
        return Batch(
            collate(filled, length),
            labels[filled].astype(np.float32),
            weights.astype(np.float32),
            np.where(real, filled, -1),
        )

    return grain.MapDataset.source(steps).map(prepare).to_iter_dataset(PREFETCH)


def as_share(mesh: jax.sharding.Mesh) -> Share:
    """Say which rows this process prepares for the devices of a mesh.

    Args:
        mesh: the devices of all processes.

    Returns:
        The share.
    """
    return Share(mesh.size, jax.process_index(), jax.process_count())
