"""Batches of proteins of like length, in few shapes."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

TOKENS_PER_BATCH = 8192


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
    lengths: Sequence[int],
    tokens_per_batch: int = TOKENS_PER_BATCH,
    generator: np.random.Generator | None = None,
) -> list[tuple[int, list[int]]]:
    """Sort proteins into batches of one padded length each.

    Args:
        lengths: tokens of each protein.
        tokens_per_batch: most tokens in a batch, padding counted; a longer protein goes alone.
        generator: shuffles proteins within a length and the batches; None keeps them sorted.

    Returns:
        For each batch its padded length and the indices of its proteins.
    """
    order = np.arange(len(lengths)) if generator is None else generator.permutation(len(lengths))
    order = sorted(order.tolist(), key=lambda index: bucket(lengths[index]))
    result = []
    for length, group in groupby(order, key=lambda index: bucket(lengths[index])):
        indices = list(group)
        rows = rows_per_batch(length, tokens_per_batch)
        result += [(length, indices[i : i + rows]) for i in range(0, len(indices), rows)]
    if generator is not None:
        result = [result[i] for i in generator.permutation(len(result))]
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
