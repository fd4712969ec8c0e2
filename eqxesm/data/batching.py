"""Batches of proteins of similar length, in few shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Int

TOKENS_PER_BATCH = 8192

LENGTH_STEP = 8
"""Padded lengths of a training run are multiples of this."""

MAX_PADDING = 0.1
"""Share of padding at which a training run stops adding shapes."""

MAX_SHAPES = 16
"""Most padded lengths of a training run. Each costs a compilation."""


def round_up(length: int) -> int:
    """Round a length up to the next of 64, 96, 128, 192, 256, 384, ..."""
    bound = 64
    while bound < length:
        bound *= 2
    between = bound * 3 // 4
    return between if bound > 64 and length <= between else bound


def batch_by_length(lengths: Sequence[int], tokens_per_batch: int = TOKENS_PER_BATCH) -> list[tuple[int, list[int]]]:
    """Group proteins into batches: the padded length of each, and the indices in it.

    What does not fill a batch waits for the next length if it leaves room in a batch there: each shape costs a
    compilation.
    """
    order = sorted(range(len(lengths)), key=lambda index: round_up(lengths[index]))
    batches: list[tuple[int, list[int]]] = []
    waiting: list[int] = []
    before = 0
    for length, group in groupby(order, key=lambda index: round_up(lengths[index])):
        rows = rows_per_batch(length, tokens_per_batch)
        if len(waiting) >= rows:
            batches.append((before, waiting))
            waiting = []
        indices = [*waiting, *group]
        full = len(indices) // rows * rows
        batches += [(length, indices[i : i + rows]) for i in range(0, full, rows)]
        waiting, before = indices[full:], length
    return [*batches, (before, waiting)] if waiting else batches


def rows_per_batch(length: int, tokens_per_batch: int) -> int:
    """Proteins in a full batch, at least 1."""
    return max(1, tokens_per_batch // length)


@dataclass(frozen=True)
class Buckets:
    """The padded lengths of a training run's batches, ascending, and the tokens of each batch."""

    bounds: tuple[int, ...]
    tokens_per_batch: int

    def rows(self, length: int) -> int:
        return rows_per_batch(length, self.tokens_per_batch)

    def plan(
        self, lengths: Int[np.ndarray, " n"], order: Int[np.ndarray, " n"]
    ) -> list[tuple[int, Int[np.ndarray, " _"]]]:
        """Group proteins, taken in `order`, into batches that are all full but the last."""
        slots = np.searchsorted(self.bounds, lengths[order])
        batches: list[tuple[int, Int[np.ndarray, " _"]]] = []
        waiting = order[:0]
        for slot, length in enumerate(self.bounds):
            waiting = np.concatenate([waiting, order[slots == slot]])
            rows = self.rows(length)
            full = len(waiting) // rows * rows
            batches += [(length, waiting[i : i + rows]) for i in range(0, full, rows)]
            # The rest fills up a batch of the next length.
            waiting = waiting[full:]
        if len(waiting):
            longest = int(lengths[waiting].max())
            batches.append((next(bound for bound in self.bounds if bound >= longest), waiting))
        return batches

    def padding(self, lengths: Int[np.ndarray, " n"]) -> float:
        """Share of the batches that is padding, empty rows of the last one included."""
        planned = self.plan(lengths, np.arange(len(lengths)))
        return 1 - float(lengths.sum()) / sum(length * self.rows(length) for length, _ in planned)


def choose_buckets(lengths: Int[np.ndarray, " n"], tokens_per_batch: int, longest: int | None = None) -> Buckets:
    """Choose the fewest padded lengths with at most `MAX_PADDING`, up to `MAX_SHAPES`.

    Found by dynamic programming over the lengths that occur. `longest` is the longest protein of
    other sets that share the buckets.
    """
    candidates, counts = np.unique(-(-lengths // LENGTH_STEP) * LENGTH_STEP, return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])
    # cost[i, j]: tokens when candidates i to j-1 are all padded to candidate j-1.
    cost = candidates[None, :] * (before[None, 1:] - before[:-1, None]).astype(np.float64)
    cost[np.tril_indices(len(candidates), -1)] = np.inf
    least = cost[0]
    choices = [np.zeros(len(candidates), np.int64)]
    buckets = _trace_back(candidates, choices, tokens_per_batch, longest)
    for _ in range(min(MAX_SHAPES, len(candidates)) - 1):
        if buckets.padding(lengths) <= MAX_PADDING:
            break
        totals = least[:-1, None] + cost[1:]
        choices.append(np.concatenate([[0], 1 + totals[:, 1:].argmin(axis=0)]))
        least = np.concatenate([[np.inf], totals[:, 1:].min(axis=0)])
        buckets = _trace_back(candidates, choices, tokens_per_batch, longest)
    return buckets


def _trace_back(
    candidates: Int[np.ndarray, " _"], choices: list[Int[np.ndarray, " _"]], tokens_per_batch: int, longest: int | None
) -> Buckets:
    """Follow the choices back from the longest candidate."""
    bounds, last = [], len(candidates) - 1
    for first in reversed(choices):
        bounds.insert(0, int(candidates[last]))
        last = int(first[last]) - 1
    if longest is not None and longest > bounds[-1]:
        bounds.append(-(-longest // LENGTH_STEP) * LENGTH_STEP)
    return Buckets(tuple(bounds), tokens_per_batch)
