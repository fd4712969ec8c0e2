"""Batches of proteins of like length, in few shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Int

TOKENS_PER_BATCH = 8192

STEP = 8
"""Padded lengths of a training run are multiples of this."""

MOST_PADDING = 0.1
"""Share of padding up to which a training run takes fewer shapes."""

MOST_SHAPES = 16
"""Padded lengths of a training run: each costs a compilation, and padding falls slowly beyond."""


def bucket(length: int) -> int:
    """Round a length up to the next of 64, 96, 128, 192, 256, 384, ...

    Two steps to an octave bound the padding to a third, and keep a set of proteins of up to 2,048
    residues to a dozen shapes.

    Args:
        length: tokens of a protein.

    Returns:
        The padded length.
    """
    bound = 64
    while bound < length:
        bound *= 2
    between = bound * 3 // 4
    return between if bound > 64 and length <= between else bound


def batches(
    lengths: Sequence[int], tokens_per_batch: int = TOKENS_PER_BATCH
) -> list[tuple[int, list[int]]]:
    """Sort proteins into batches of one padded length each.

    Args:
        lengths: tokens of each protein.
        tokens_per_batch: most tokens in a batch, padding counted; a longer protein goes alone.

    Returns:
        For each batch its padded length and the indices of its proteins.
    """
    order = sorted(range(len(lengths)), key=lambda index: bucket(lengths[index]))
    result = []
    for length, group in groupby(order, key=lambda index: bucket(lengths[index])):
        indices = list(group)
        rows = rows_per_batch(length, tokens_per_batch)
        result += [(length, indices[i : i + rows]) for i in range(0, len(indices), rows)]
    return result


def rows_per_batch(length: int, tokens_per_batch: int) -> int:
    """Count the proteins that a full batch holds.

    Args:
        length: padded length.
        tokens_per_batch: most tokens in a batch.

    Returns:
        Number of rows, at least 1.
    """
    return max(1, tokens_per_batch // length)


@dataclass(frozen=True)
class Layout:
    """The shapes that the batches of a training run have.

    Args:
        bounds: padded lengths, rising; the last one holds the longest protein of all sets.
        tokens_per_batch: most tokens in a batch, padding counted; a longer protein goes alone.
    """

    bounds: tuple[int, ...]
    tokens_per_batch: int

    def rows(self, length: int) -> int:
        """Count the rows of a batch; see `rows_per_batch`.

        Args:
            length: padded length.

        Returns:
            Number of rows.
        """
        return rows_per_batch(length, self.tokens_per_batch)

    def plan(
        self, lengths: Int[np.ndarray, " n"], order: Int[np.ndarray, " n"]
    ) -> list[tuple[int, Int[np.ndarray, " _"]]]:
        """Sort proteins into batches, all of them full but the last.

        What does not fill a batch of its own length goes up into the next length, so that no
        shape ends in rows of padding.

        Args:
            lengths: tokens of each protein.
            order: the proteins in the order in which they are drawn.

        Returns:
            For each batch its padded length and the indices of its proteins. Their number depends
            on the lengths alone, not on the order.
        """
        slots = np.searchsorted(self.bounds, lengths[order])
        result: list[tuple[int, Int[np.ndarray, " _"]]] = []
        waiting = order[:0]
        for slot, length in enumerate(self.bounds):
            waiting = np.concatenate([waiting, order[slots == slot]])
            rows = self.rows(length)
            full = len(waiting) // rows * rows
            result += [(length, waiting[i : i + rows]) for i in range(0, full, rows)]
            waiting = waiting[full:]
        if len(waiting):
            longest = int(lengths[waiting].max())
            result.append((next(bound for bound in self.bounds if bound >= longest), waiting))
        return result

    def padding(self, lengths: Int[np.ndarray, " n"]) -> float:
        """Measure how much of the batches is padding, rows that fill up the last one counted.

        Args:
            lengths: tokens of each protein.

        Returns:
            The share, 0 to 1.
        """
        planned = self.plan(lengths, np.arange(len(lengths)))
        return 1 - float(lengths.sum()) / sum(length * self.rows(length) for length, _ in planned)


def choose_layout(
    lengths: Int[np.ndarray, " n"], tokens_per_batch: int, longest: int | None = None
) -> Layout:
    """Find the fewest padded lengths that keep the padding of a set within a tenth.

    For a number of lengths, those that pad least are found by dynamic programming over the sorted
    proteins.

    Args:
        lengths: tokens of each training protein.
        tokens_per_batch: most tokens in a batch, padding counted.
        longest: tokens of the longest protein of any set, where that is not a training protein.

    Returns:
        The layout; of 16 lengths, where more padding than a tenth is left.
    """
    candidates, counts = np.unique(-(-lengths // STEP) * STEP, return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])
    # cost[i, j]: tokens when candidates i to j-1 are all padded to candidate j-1.
    cost = candidates[None, :] * (before[None, 1:] - before[:-1, None]).astype(np.float64)
    cost[np.tril_indices(len(candidates), -1)] = np.inf
    least = cost[0]
    choices = [np.zeros(len(candidates), np.int64)]
    layout = _layout(candidates, choices, tokens_per_batch, longest)
    for _ in range(min(MOST_SHAPES, len(candidates)) - 1):
        if layout.padding(lengths) <= MOST_PADDING:
            break
        totals = least[:-1, None] + cost[1:]
        choices.append(np.concatenate([[0], 1 + totals[:, 1:].argmin(axis=0)]))
        least = np.concatenate([[np.inf], totals[:, 1:].min(axis=0)])
        layout = _layout(candidates, choices, tokens_per_batch, longest)
    return layout


def _layout(
    candidates: Int[np.ndarray, " _"],
    choices: list[Int[np.ndarray, " _"]],
    tokens_per_batch: int,
    longest: int | None,
) -> Layout:
    """Follow the choices back from the longest candidate."""
    bounds, last = [], len(candidates) - 1
    for first in reversed(choices):
        bounds.insert(0, int(candidates[last]))
        last = int(first[last]) - 1
    if longest is not None and longest > bounds[-1]:
        bounds.append(-(-longest // STEP) * STEP)
    return Layout(tuple(bounds), tokens_per_batch)
