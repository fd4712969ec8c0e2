"""Batches by length: every protein once, within the budget, in few shapes."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import EXAMPLES

from eqxesm.data.batching import TOKENS_PER_BATCH, batch_by_length, round_up, rows_per_batch
from eqxesm.data.proteins import read_proteins

LENGTHS = range(1, 5000)
SIZES = [64, *(size for power in range(6, 13) for size in (3 * 2 ** (power - 1), 2 ** (power + 1)))]

many_lengths = st.lists(st.integers(1, 1500), max_size=60)
budgets = st.integers(1, 5000)


def test_rounding_up_gives_the_smallest_size_that_holds_it():
    for length in LENGTHS:
        assert round_up(length) == min(size for size in SIZES if size >= length)


def test_rounding_up_is_monotone_and_leaves_sizes_alone():
    rounded = [round_up(length) for length in LENGTHS]
    assert rounded == sorted(rounded)
    assert [round_up(size) for size in SIZES] == SIZES


def test_padding_is_at_most_a_third_above_64():
    assert max((round_up(length) - length) / round_up(length) for length in LENGTHS[64:]) < 1 / 3


def test_a_dozen_lengths_up_to_2048():
    assert len({round_up(length) for length in range(1, 2049)}) <= 12


@pytest.mark.parametrize("length", [10**6, 10**9 + 1])
def test_long_lengths(length):
    assert length <= round_up(length) < 1.5 * length


@pytest.mark.parametrize(("length", "budget", "rows"), [(64, 8192, 128), (96, 8192, 85), (64, 64, 1), (64, 63, 1)])
def test_rows_per_batch(length, budget, rows):
    assert rows_per_batch(length, budget) == rows


def test_no_proteins_give_no_batches():
    assert batch_by_length([]) == []


@settings(max_examples=300, deadline=None, database=None)
@given(many_lengths, budgets)
def test_every_protein_comes_once_within_the_budget(lengths, budget):
    batches = batch_by_length(lengths, budget)
    indices = [index for _, batch in batches for index in batch]
    # In the order of the padded length, and in their own order within it.
    assert indices == sorted(range(len(lengths)), key=lambda index: (round_up(lengths[index]), index))
    for length, batch in batches:
        # No batch is padded further than its longest protein needs.
        assert round_up(max(lengths[index] for index in batch)) == length
        assert len(batch) == 1 or length * len(batch) <= budget
    sizes = [length for length, _ in batches]
    assert sizes == sorted(sizes)
    # No more batches of a length than its own proteins fill, but for one that what was left over begins.
    own = Counter(round_up(length) for length in lengths)
    for size, number in Counter(sizes).items():
        assert number <= -(-own[size] // rows_per_batch(size, budget)) + 1


@settings(max_examples=300, deadline=None, database=None)
@given(many_lengths, budgets)
def test_never_more_shapes_than_without_waiting(lengths, budget):
    """Against batches of one length each, of which only the last of a length is not full."""
    separate = set()
    for size, number in Counter(round_up(length) for length in lengths).items():
        rows = rows_per_batch(size, budget)
        separate |= {(size, rows)} if number >= rows else set()
        separate |= {(size, number % rows)} if number % rows else set()
    assert len({(length, len(batch)) for length, batch in batch_by_length(lengths, budget)}) <= len(separate)


def test_few_proteins_share_a_shape():
    lengths = [50, 90, 120, 180, 250, 380, 500]
    assert batch_by_length(lengths) == [(512, [0, 1, 2, 3, 4, 5, 6])]
    examples = [len(protein.sequence) + 2 for protein in read_proteins(EXAMPLES / "proteins.fasta")]
    batches = batch_by_length(examples)
    assert len(examples) == 20
    assert len(batches) <= 2


@pytest.mark.parametrize("short", [1, 2, 10])
def test_short_proteins_are_not_padded_to_a_very_long_one(short):
    lengths = [*([52] * (short // 2)), 34_002, *([52] * (short - short // 2))]
    first, second = batch_by_length(lengths)
    assert (first[0], len(first[1])) == (64, short)
    assert second == (49152, [short // 2])


def test_a_protein_above_the_budget_is_alone():
    lengths = [TOKENS_PER_BATCH + 1, 30, TOKENS_PER_BATCH + 2, TOKENS_PER_BATCH]
    batches = batch_by_length(lengths)
    assert [batch for _, batch in batches] == [[1], [3], [0], [2]]
