"""A function of one protein over many: the same results as a loop, in few shapes and bounded memory."""

import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqxesm.alphabet import PAD
from eqxesm.data.batching import COMPILE_WORK
from eqxesm.inference import Mapper, map_proteins

GENERATOR = np.random.default_rng(0)


def proteins(lengths) -> list[np.ndarray]:
    return [GENERATOR.integers(4, 24, length).astype(np.int32) for length in lengths]


def total(tokens):
    return jnp.where(tokens == PAD, 0, tokens).sum()


def naive(tokens):
    return int(np.asarray(tokens, np.int64).sum())


@pytest.mark.parametrize(
    ("lengths", "budget"),
    [
        ([5], 64),
        ([70, 3, 200, 64, 65, 96, 97, 3, 1], 256),
        ([10] * 7, 256),
        ([10] * 8, 256),
        ([10] * 9, 256),
        ([10] * 5, 64 * 3),
        ([300, 20], 64),
        (list(range(1, 120, 5)), 8192),
    ],
)
def test_results_are_those_of_a_loop_in_the_order_given(lengths, budget):
    tokens = proteins(lengths)
    results = map_proteins(total, tokens, tokens_per_batch=budget)
    assert [int(result) for result in results] == [naive(each) for each in tokens]
    assert all(isinstance(result, np.ndarray | np.generic) for result in results)


def test_no_proteins_give_no_results():
    assert map_proteins(total, []) == []


def test_results_may_be_trees_of_arrays():
    def function(tokens):
        mask = tokens != PAD
        return {
            "count": mask.sum(),
            "pair": (jnp.where(mask, tokens, 0).max(), [jnp.stack([total(tokens), tokens[0]])]),
        }

    tokens = proteins([9, 130, 64, 2, 71])
    for each, result in zip(tokens, map_proteins(function, tokens), strict=True):
        assert result["count"] == len(each)
        assert result["pair"][0] == each.max()
        np.testing.assert_array_equal(result["pair"][1][0], [naive(each), each[0]])


def test_batches_keep_to_the_budget_and_to_few_shapes():
    shapes = []

    def function(tokens):
        # Traced once a shape; the callback runs for every row.
        jax.debug.callback(lambda row: shapes.append(row.shape), tokens)
        return total(tokens)

    lengths = [10] * 21 + [30] * 3
    map_proteins(function, proteins(lengths), tokens_per_batch=8 * 16)
    jax.effects_barrier()
    # 8 and 8 rows of 16. The 5 that are left wait for the 3: twice 4 rows of 32 cost less than a further shape.
    assert sorted(shapes) == [(16,)] * 16 + [(32,)] * 8


def test_functions_that_differ_in_arrays_share_what_is_compiled():
    traces = []

    class Shift(eqx.Module):
        shift: jax.Array

        def __call__(self, tokens):
            traces.append(tokens.shape)
            return total(tokens) + self.shift

    tokens = proteins([4, 90, *[5] * 8])
    for shift in (0, 1000):
        results = map_proteins(Shift(jnp.int32(shift)), tokens, tokens_per_batch=128)
        assert [int(r) for r in results] == [naive(each) + shift for each in tokens]
    # One trace a shape: the second function found what the first had compiled.
    assert sorted(traces) == [(8,), (96,)]


@pytest.mark.parametrize("progress", [False, True])
def test_a_pipe_gets_no_progress_bar(progress, capsys):
    map_proteins(total, proteins([3, 4]), progress=progress)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


MANY_DEVICES = """
import jax, numpy as np
from eqxesm import ESMC, ESMCConfig
from eqxesm.inference import Mapper

encoder = ESMC(ESMCConfig(2, 32, 2, 64), key=jax.random.key(0))
rng = np.random.default_rng(0)
proteins = [rng.integers(4, 24, n).astype(np.int32) for n in rng.integers(3, 90, 37)]
mapper = Mapper(encoder.features, 128)
found = mapper(proteins, lambda count: None, more=True) + mapper(proteins[:3], lambda count: None)
np.savez("DEVICES.npz", *[each[: len(p)] for each, p in zip(found, proteins + proteins[:3])])
assert mapper._run(proteins[:1], 1, 96).shape[0] == jax.device_count() == COUNT
"""


@pytest.mark.slow
def test_every_device_works(tmp_path):
    for count in (1, 4):
        code = MANY_DEVICES.replace("DEVICES", str(count)).replace("COUNT", str(count))
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **flags}, cwd=tmp_path, check=True)
    with np.load(tmp_path / "1.npz") as one, np.load(tmp_path / "4.npz") as four:
        assert len(one.files) == 40
        for name in one.files:
            np.testing.assert_allclose(one[name], four[name], atol=2e-6)


def test_there_are_more_shapes_where_more_blocks_follow_and_the_same_in_each():
    rng = np.random.default_rng(0)
    proteins = [rng.integers(4, 24, int(n)).astype(np.int32) for n in rng.integers(8, 250, 400)]

    def find_shapes(*follows: bool) -> set[int]:
        mapper = Mapper(lambda tokens: jnp.sum(tokens), 1024)
        # A model that reads many tokens while a shape is compiled.
        mapper.parameters = int(COMPILE_WORK / 10_000)
        for more in follows:
            mapper(proteins, lambda _: None, more=more)
        return mapper._known

    assert len(find_shapes(False)) < len(find_shapes(True))
    # A run that is resumed starts at any block.
    assert find_shapes(True, True, True) == find_shapes(True)
