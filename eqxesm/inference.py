"""Any function of one protein, over many proteins."""

import ctypes
import sys
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int
from tqdm import tqdm

from eqxesm.alphabet import AnyArray, check_tokens, pad
from eqxesm.data.batching import choose_buckets, shape_tokens
from eqxesm.errors import InputError, at
from eqxesm.sequences import as_sequence

EXPECTED_BLOCKS = 4
"""That a shape serves, where more blocks follow."""


def map_proteins(
    function: Callable,
    proteins: Sequence[Int[np.ndarray, " _"]],
    *,
    tokens_per_batch: int | None = None,
    progress: bool = False,
) -> list[Any]:
    """Apply a per-protein function to many proteins, in padded batches of similar length, on all local devices.

    Args:
        function: tokens `[length]` to any pytree of arrays; it must ignore padding. Modules and
            their methods are compiled with their arrays as arguments.
        tokens_per_batch: upper bound on tokens per batch and device, padding included. Bounds the memory.
            By default 2,048 on a CPU, where larger batches gain nothing, and 8,192 elsewhere.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        One pytree of numpy arrays per protein, in input order. Axes over positions keep their
        padding.
    """
    proteins = as_sequence(proteins, "token arrays")
    with show_progress(lambda: len(proteins), " proteins", progress) as bar:
        return Mapper(function, tokens_per_batch)(proteins, bar.update)


class Mapper:
    """A function of one protein, applied to block after block of proteins in shapes that are compiled once."""

    def __init__(self, function: Callable, tokens_per_batch: int | None = None):
        """For the arguments see `map_proteins`."""
        if tokens_per_batch is None:
            tokens_per_batch = default_tokens()
        if not isinstance(tokens_per_batch, Integral) or tokens_per_batch < 1:
            raise InputError(f"tokens_per_batch is {tokens_per_batch!r}, expected a number of at least 1")
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(function, eqx.is_inexact_array)))
        self._known: set[int] = set()
        self._compiled: set[tuple[int, int]] = set()
        self._mesh = Mesh(np.array(jax.local_devices()), ("devices",))
        self._function = function
        if self._mesh.size > 1:
            arrays, rest = eqx.partition(function, eqx.is_array)
            self._function = eqx.combine(jax.device_put(arrays, NamedSharding(self._mesh, PartitionSpec())), rest)
        self._tokens_per_batch = int(tokens_per_batch) * self._mesh.size

    def __call__(
        self, proteins: Sequence[Int[np.ndarray, " _"]], advance: Callable[[int], Any], *, more: bool = False
    ) -> list[Any]:
        """Results in the order of the proteins. `advance` is told of every batch; if `more` follow, they are full."""
        for number, tokens in enumerate(proteins, 1):
            with at(f"protein {number}"):
                check_tokens(tokens)
        results: list[Any] = [None] * len(proteins)
        if not results:
            return results
        lengths = np.array([len(each) for each in proteins])
        # A new shape serves blocks that follow, too. By how many came before, a resumed run would choose others.
        compiling = shape_tokens(self.parameters) // (EXPECTED_BLOCKS if more else 1)
        buckets = choose_buckets(lengths, self._tokens_per_batch, shape_tokens=compiling, known=self._known)
        self._known.update(buckets.bounds)
        for length, indices in buckets.plan(lengths, np.arange(len(lengths)), full=more):
            rows = buckets.rows(length) if more else buckets.rows_for(len(indices), length)
            outputs = self._run([proteins[index] for index in indices], rows, length)
            for row, index in enumerate(indices):
                results[index] = jax.tree.map(lambda output, row=row: output[row].copy(), outputs)
            advance(len(indices))
            if (rows, length) not in self._compiled:
                self._compiled.add((rows, length))
                _release_memory()
        _release_memory()
        return results

    def _run(self, proteins: list[Int[np.ndarray, " _"]], rows: int, length: int) -> Any:
        """Results of at least `rows` rows, the first of them those of the proteins, on all devices."""
        rows = -(-rows // self._mesh.size) * self._mesh.size
        batch = pad([*proteins, *[proteins[0]] * (rows - len(proteins))], length)
        if self._mesh.size > 1:
            batch = jax.device_put(batch, NamedSharding(self._mesh, PartitionSpec("devices")))
        return jax.tree.map(np.asarray, _map(self._function, batch))


def show_progress(count: Callable[[], int | None], unit: str, wanted: bool) -> tqdm:
    """A bar on standard error, if that is a terminal or a notebook. Only then is the total counted."""
    shown = wanted and ("ipykernel" in sys.modules or sys.stderr.isatty())
    return tqdm(total=count() if shown else None, unit=unit, disable=not shown, leave=False)


def default_tokens() -> int:
    """Tokens of a batch that keep the device busy."""
    return 2048 if jax.default_backend() == "cpu" else 8192


def _release_memory() -> None:
    """Give what compiling and batches left back to the system: the C library would keep some 200 MB."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


@eqx.filter_jit
def _map(function: Callable, tokens: Int[AnyArray, "batch length"]) -> Any:
    return jax.vmap(function)(tokens)
