"""Any function of one protein, over many proteins."""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from eqxesm.alphabet import AnyArray, check_tokens, pad
from eqxesm.data.batching import choose_buckets, shape_tokens
from eqxesm.errors import InputError, at
from eqxesm.sequences import as_sequence


def map_proteins(
    function: Callable,
    proteins: Sequence[Int[np.ndarray, " _"]],
    *,
    tokens_per_batch: int | None = None,
    progress: bool = False,
) -> list[Any]:
    """Apply a per-protein function to many proteins, in padded batches of similar length.

    Args:
        function: tokens `[length]` to any pytree of arrays; it must ignore padding. Modules and
            their methods are compiled with their arrays as arguments.
        tokens_per_batch: upper bound on tokens per batch, padding included. Bounds the memory. By
            default 2,048 on a CPU, where larger batches gain nothing, and 8,192 elsewhere.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        One pytree of numpy arrays per protein, in input order. Axes over positions keep their
        padding.
    """
    if tokens_per_batch is None:
        tokens_per_batch = default_tokens()
    if not isinstance(tokens_per_batch, Integral) or tokens_per_batch < 1:
        raise InputError(f"tokens_per_batch is {tokens_per_batch!r}, expected a number of at least 1")
    proteins = as_sequence(proteins, "token arrays")
    for number, tokens in enumerate(proteins, 1):
        with at(f"protein {number}"):
            check_tokens(tokens)
    results: list[Any] = [None] * len(proteins)
    if not results:
        return results
    lengths = np.array([len(each) for each in proteins])
    parameters = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(function, eqx.is_inexact_array)))
    buckets = choose_buckets(lengths, tokens_per_batch, shape_tokens=shape_tokens(parameters))
    with tqdm(total=len(proteins), unit=" proteins", disable=None if progress else True, leave=False) as bar:
        for length, indices in buckets.plan(lengths, np.arange(len(lengths)), full=False):
            rows = buckets.rows_for(len(indices), length)
            padded = [proteins[index] for index in indices]
            padded += [padded[0]] * (rows - len(indices))
            outputs = jax.tree.map(np.asarray, _run(function, pad(padded, length)))
            for row, index in enumerate(indices):
                results[index] = jax.tree.map(lambda output, row=row: output[row].copy(), outputs)
            bar.update(len(indices))
    return results


def default_tokens() -> int:
    """Tokens of a batch that keep the device busy."""
    return 2048 if jax.default_backend() == "cpu" else 8192


@eqx.filter_jit
def _run(function: Callable, tokens: Int[AnyArray, "batch length"]) -> Any:
    return jax.vmap(function)(tokens)
