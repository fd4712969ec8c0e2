"""Any function of one protein, over many proteins."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from eqxesm.alphabet import AnyArray, pad
from eqxesm.data.bucketing import TOKENS_PER_BATCH, batches, rows_per_batch


def map_proteins(
    function: Callable,
    proteins: Sequence[Int[np.ndarray, " _"]],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    progress: bool = False,
) -> list[Any]:
    """Compute a function of one protein for each of many, in padded batches of like length.

    Args:
        function: maps tokens `[length]` to any tree of arrays, blind to padding; a module, or a
            method of one, is compiled with its arrays as arguments.
        proteins: tokens of each protein.
        tokens_per_batch: most tokens in a batch, padding counted; bounds the memory.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        The results as numpy arrays, in the order of the proteins; what has an axis of positions
        still has its padding.
    """
    results: list[Any] = [None] * len(proteins)
    with tqdm(
        total=len(proteins), unit=" proteins", disable=None if progress else True, leave=False
    ) as bar:
        for length, indices in batches([len(tokens) for tokens in proteins], tokens_per_batch):
            # A last, smaller batch is filled up to a power of two: two shapes a length, no more.
            rows = min(
                1 << (len(indices) - 1).bit_length(), rows_per_batch(length, tokens_per_batch)
            )
            padded = [proteins[index] for index in indices]
            padded += [padded[0]] * (rows - len(indices))
            outputs = jax.tree.map(np.asarray, _run(function, pad(padded, length)))
            for row, index in enumerate(indices):
                results[index] = jax.tree.map(lambda output, row=row: output[row].copy(), outputs)
            bar.update(len(indices))
    return results


@eqx.filter_jit
def _run(function: Callable, tokens: Int[AnyArray, "batch length"]) -> Any:
    return jax.vmap(function)(tokens)
