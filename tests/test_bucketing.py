from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqxesm.data.bucketing import batches, bucket, rows_per_batch

LENGTHS = range(1, 5000)
SIZES = [64, *(size for power in range(6, 13) for size in (3 * 2 ** (power - 1), 2 ** (power + 1)))]

quick = settings(max_examples=60, deadline=None, database=None)
many_lengths = st.lists(st.integers(1, 1500), max_size=60)
budgets = st.integers(1, 5000)


def test_bucket_is_the_smallest_size_that_holds_it():
    for length in LENGTHS:
        assert bucket(length) == min(size for size in SIZES if size >= length)


def test_bucket_is_monotone_and_stays_where_it_is():
    rounded = [bucket(length) for length in LENGTHS]
    assert rounded == sorted(rounded)
    assert [bucket(size) for size in SIZES] == SIZES


def test_padding_is_at_most_a_third_above_64():
    assert max((bucket(length) - length) / bucket(length) for length in LENGTHS[64:]) < 1 / 3


def test_a_dozen_shapes_up_to_2048():
    assert len({bucket(length) for length in range(1, 2049)}) <= 12


@pytest.mark.parametrize("length", [10**6, 10**9 + 1])
def test_long_lengths(length):
    assert length <= bucket(length) < 1.5 * length


@pytest.mark.parametrize(
    ("length", "budget", "rows"), [(64, 8192, 128), (96, 8192, 85), (64, 64, 1), (64, 63, 1)]
)
def test_rows_per_batch(length, budget, rows):
    assert rows_per_batch(length, budget) == rows


def test_no_proteins_are_no_batches():
    assert batches([]) == []


def check(result, lengths, budget):
    indices = [index for _, batch in result for index in batch]
    assert sorted(indices) == list(range(len(lengths)))
    for length, batch in result:
        assert batch
        assert {bucket(lengths[index]) for index in batch} == {length}
        assert len(batch) == 1 or length * len(batch) <= budget


@quick
@given(many_lengths, budgets)
def test_every_protein_comes_once_within_the_budget(lengths, budget):
    result = batches(lengths, budget)
    check(result, lengths, budget)
    sizes = [length for length, _ in result]
    assert sizes == sorted(sizes)
    # In their own order within a length, and no more batches than it takes.
    for size in set(sizes):
        members = [index for length, batch in result for index in batch if length == size]
        assert members == sorted(members)
        rows = max(1, budget // size)
        assert Counter(sizes)[size] == -(-len(members) // rows)
