"""Batches of proteins of similar length, in few shapes."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

SHAPE_TOKENS = 256
"""What a further shape must save in padding: about as many tokens as ESM-C 300M reads while one is compiled."""

SHAPE_SHARE = 0.002
"""And at least this share of all tokens, so that many proteins do not need many shapes."""

MOST_SHAPES = 16
"""Shapes that a run chooses freely. A compiled program of a small model takes 17 MB."""

COMPILE_WORK = 75e9
"""Tokens times parameters that two CPU cores read while a shape is compiled: a smaller model reads more of them."""


MOST_SHAPE_TOKENS = 65_536
"""Where parameters tell less of the work than their number says."""


def shape_tokens(parameters: int) -> int:
    """What a further shape must save in padding for a model of so many parameters; 0 if that is not known."""
    return int(np.clip(COMPILE_WORK / parameters, SHAPE_TOKENS, MOST_SHAPE_TOKENS)) if parameters else SHAPE_TOKENS


SMALLEST_STEP = 8


def round_up(length: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Round lengths up to multiples of 8, from 256 of 16, from 512 of 32, ..., so that runs share their shapes."""
    octave = np.floor(np.log2(np.maximum(length - 1, 1))).astype(int)
    step = np.maximum(SMALLEST_STEP, 1 << np.maximum(octave - 4, 0))
    return -(-length // step) * step


@dataclass(frozen=True)
class Buckets:
    """The padded lengths of batches, ascending, the tokens of each batch, and what a further shape costs in tokens."""

    bounds: tuple[int, ...]
    tokens_per_batch: int
    shape_tokens: int = SHAPE_TOKENS

    def rows(self, length: int) -> int:
        """Proteins in a full batch, at least 1."""
        return max(1, self.tokens_per_batch // length)

    def rows_for(self, count: int, length: int) -> int:
        """Rows of a batch of its own for a few proteins: 1, 2, 3, 4, 6, 8, 12, 16, ..., to have few shapes."""
        step = max(1, (1 << (count - 1).bit_length()) // 4)
        return min(-(-count // step) * step, self.rows(length))

    def plan(
        self, lengths: Int[np.ndarray, " n"], order: Int[np.ndarray, " n"], *, full: bool = True
    ) -> list[tuple[int, Int[np.ndarray, " _"]]]:
        """Group proteins, taken in `order`, into batches: the padded length of each, and the proteins in it.

        What does not fill a batch gets one of its own, of all rows if `full`, or waits for the next length,
        whichever takes fewer tokens.
        """
        slots = np.searchsorted(self.bounds, lengths[order])
        batches: list[tuple[int, Int[np.ndarray, " _"]]] = []
        waiting = order[:0]
        for slot, length in enumerate(self.bounds):
            waiting = np.concatenate([waiting, order[slots == slot]])
            rows = self.rows(length)
            filled = len(waiting) // rows * rows
            batches += [(length, waiting[i : i + rows]) for i in range(0, filled, rows)]
            waiting = waiting[filled:]
            left = len(waiting)
            if not left:
                continue
            own = rows if full else self.rows_for(left, length)
            alone = (own - left) * length + (0 if own == rows else self.shape_tokens)
            if slot + 1 == len(self.bounds) or alone <= left * (self.bounds[slot + 1] - length):
                batches.append((length, waiting))
                waiting = waiting[:0]
        return batches

    def padding(self, lengths: Int[np.ndarray, " n"], *, full: bool = True) -> float:
        """Share of the batches that is padding, empty rows included."""
        planned = self.plan(lengths, np.arange(len(lengths)), full=full)
        tokens = sum(
            length * (self.rows(length) if full else self.rows_for(len(indices), length)) for length, indices in planned
        )
        return 1 - float(lengths.sum()) / tokens


def choose_buckets(
    lengths: Int[np.ndarray, " n"],
    tokens_per_batch: int,
    longest: int | None = None,
    shape_tokens: int = SHAPE_TOKENS,
    known: Collection[int] = (),
) -> Buckets:
    """Choose the padded lengths with the least padding, if each costs `shape_tokens` or `SHAPE_SHARE`.

    Found by dynamic programming. `longest` is the longest protein of other sets that share the buckets. Those of
    `known` are compiled already and cost nothing; beyond `MOST_SHAPES` of them there is a new one only for proteins
    that are longer than all.
    """
    rounded = round_up(lengths)
    # A known one that is longer than all may be cheaper than a shape of their own.
    fitting = [bound for bound in known if bound <= rounded.max()]
    longer = sorted(set(known) - set(fitting))[:1]
    own = rounded if len(known) < MOST_SHAPES else [] if longer else [rounded.max()]
    candidates = np.unique([*own, *fitting, *longer])
    counts = np.bincount(np.searchsorted(candidates, rounded), minlength=len(candidates))
    before = np.concatenate([[0], np.cumsum(counts)])
    shape = np.where(np.isin(candidates, list(known)), 0, max(shape_tokens, SHAPE_SHARE * float(lengths.sum())))
    least = np.zeros(len(candidates) + 1)
    first = np.zeros(len(candidates) + 1, np.int64)
    for stop, bound in enumerate(candidates, 1):
        # Tokens if all from some candidate on are padded to this one.
        costs = least[:stop] + bound * (before[stop] - before[:stop]) + shape[stop - 1]
        first[stop] = costs.argmin()
        least[stop] = costs.min()
    bounds: list[int] = []
    stop = len(candidates)
    # The last is left out where the others hold all proteins.
    if before[stop - 1] == len(rounded) and least[stop - 1] <= least[stop]:
        stop -= 1
    while stop:
        bounds.insert(0, int(candidates[stop - 1]))
        stop = first[stop]
    if longest is not None and longest > bounds[-1]:
        bounds.append(int(round_up(np.array([longest]))[0]))
    return Buckets(tuple(bounds), tokens_per_batch, shape_tokens)
