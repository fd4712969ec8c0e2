"""Batches by length: every protein once, within the budget, in few shapes, with little padding."""

import csv
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqxesm.data.batching import MOST_SHAPES, SHAPE_SHARE, SHAPE_TOKENS, Buckets, choose_buckets, round_up, shape_tokens

many_lengths = st.lists(st.integers(1, 2500), min_size=1, max_size=300).map(np.array)
budgets = st.integers(16, 20_000)


def padded_tokens(buckets: Buckets, lengths: np.ndarray, *, full: bool) -> int:
    plan = buckets.plan(lengths, np.arange(len(lengths)), full=full)
    rows = [buckets.rows(length) if full else buckets.rows_for(len(indices), length) for length, indices in plan]
    return sum(length * count for (length, _), count in zip(plan, rows, strict=True))


def test_lengths_are_rounded_up_by_a_sixteenth_at_most():
    lengths = np.arange(129, 40_000)
    rounded = round_up(lengths)
    assert (rounded >= lengths).all()
    assert ((rounded - lengths) / lengths < 1 / 16).all()
    assert (np.diff(rounded) >= 0).all()
    np.testing.assert_array_equal(round_up(rounded), rounded)
    # Sixteen lengths an octave.
    assert len(set(rounded[(lengths > 1024) & (lengths <= 2048)].tolist())) == 16


def test_short_lengths_are_rounded_up_to_multiples_of_eight():
    np.testing.assert_array_equal(round_up(np.arange(1, 129)), np.repeat(np.arange(8, 129, 8), 8))


@given(many_lengths, budgets, st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_plan_holds_every_protein_once_within_its_shape(lengths, tokens_per_batch, seed, full):
    buckets = choose_buckets(lengths, tokens_per_batch)
    order = np.random.default_rng(seed).permutation(len(lengths))
    plan = buckets.plan(lengths, order, full=full)
    assert sorted(np.concatenate([indices for _, indices in plan])) == list(range(len(lengths)))
    for length, indices in plan:
        assert length in buckets.bounds
        assert lengths[indices].max() <= length
        rows = buckets.rows(length)
        assert rows == 1 or rows * length <= tokens_per_batch
        assert len(indices) <= buckets.rows_for(len(indices), length) <= rows
    # The number of batches of each length does not depend on the order.
    again = buckets.plan(lengths, np.arange(len(lengths)), full=full)
    assert [length for length, _ in plan] == [length for length, _ in again]


@pytest.mark.parametrize(
    ("short", "plan"),
    [
        # Three rows of 64 would be empty, and waiting costs 64 tokens.
        (1, [(128, [0, 1])]),
        # One row of 64 would be empty, and waiting costs three times 64.
        (3, [(64, [0, 1, 2]), (128, [3])]),
        (5, [(64, [0, 1, 2, 3]), (128, [4, 5])]),
    ],
)
def test_what_is_left_waits_if_that_takes_fewer_tokens(short, plan):
    lengths = np.array([60] * short + [120])
    found = Buckets((64, 128), 256).plan(lengths, np.arange(short + 1))
    assert [(length, indices.tolist()) for length, indices in found] == plan


@pytest.mark.parametrize("shape", [SHAPE_TOKENS, 1000])
def test_the_buckets_cost_the_least_of_all(shape):
    """Against every choice of bounds."""
    rng = np.random.default_rng(0)
    lengths = rng.choice([64, 72, 80, 96, 112, 128, 160, 192, 256], 60)
    candidates = np.unique(lengths).tolist()

    def cost(bounds: tuple[int, ...]) -> int:
        return sum(min(b for b in bounds if b >= length) for length in lengths) + shape * len(bounds)

    longest = candidates.pop()
    choices = [
        (*few, longest) for number in range(len(candidates) + 1) for few in itertools.combinations(candidates, number)
    ]
    assert SHAPE_SHARE * lengths.sum() < SHAPE_TOKENS
    found = choose_buckets(lengths, 1, shape_tokens=shape)
    assert cost(found.bounds) == min(map(cost, choices))
    assert 1 < len(found.bounds) < len(candidates)


def test_a_small_model_gets_fewer_shapes():
    lengths = np.random.default_rng(0).integers(50, 1000, 500)
    sizes = (0, 6_000_000_000, 300_000_000, 30_000_000, 2_000_000, 6000)
    shapes = [len(choose_buckets(lengths, 2048, shape_tokens=shape_tokens(size)).bounds) for size in sizes]
    assert shapes[0] == shapes[1] == shapes[2]
    assert sorted(shapes, reverse=True) == shapes
    assert shapes[-1] < shapes[3] / 2


def test_other_sets_may_have_longer_proteins():
    assert choose_buckets(np.array([100, 120]), 1024, longest=1001).bounds[-1] == 1024
    assert choose_buckets(np.array([100, 120]), 1024, longest=121).bounds[-1] == 128
    assert choose_buckets(np.array([100, 120]), 1024, longest=90).bounds[-1] == 120


def test_one_protein_is_not_padded_by_others():
    buckets = choose_buckets(np.array([300]), 8192)
    (planned,) = buckets.plan(np.array([300]), np.arange(1), full=False)
    assert planned[0] == 304
    assert buckets.rows_for(1, 304) == 1


@pytest.mark.parametrize("short", [1, 2, 10])
def test_short_proteins_are_not_padded_to_a_very_long_one(short):
    lengths = np.array([*([52] * short), 34_002])
    buckets = choose_buckets(lengths, 8192)
    first, second = buckets.plan(lengths, np.arange(len(lengths)), full=False)
    assert (first[0], len(first[1])) == (56, short)
    assert (second[0], second[1].tolist()) == (34_816, [short])


def test_a_protein_above_the_budget_is_alone():
    lengths = np.array([8193, 30, 8194, 8192])
    plan = choose_buckets(lengths, 8192).plan(lengths, np.arange(4), full=False)
    assert sorted(indices.tolist() for _, indices in plan) == [[0], [1], [2], [3]]


def test_real_batches_are_hardly_padded(shared):
    with open(shared / "train_pool" / "pool.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["license"] == "MIT"]
    lengths = np.array([len(row["sequences"]) + 2 for row in rows])
    for tokens_per_batch in (2048, 16384):
        buckets = choose_buckets(lengths, tokens_per_batch)
        assert len(buckets.bounds) <= 32
        assert buckets.padding(lengths) <= 0.07
        assert padded_tokens(buckets, lengths, full=True) == pytest.approx(
            lengths.sum() / (1 - buckets.padding(lengths))
        )


def test_beyond_the_most_shapes_there_is_a_new_one_only_for_longer_proteins():
    lengths = np.random.default_rng(0).integers(30, 900, 5000)
    known = set(range(64, 64 * (MOST_SHAPES + 1), 64))
    assert len(known) == MOST_SHAPES
    assert set(choose_buckets(lengths, 2048, known=known).bounds) <= known
    longer = choose_buckets(np.append(lengths, 1500), 2048, known=known)
    assert set(longer.bounds) - known == {1536}
    # With room for more, the same proteins get shapes of their own.
    assert not set(choose_buckets(lengths, 2048, known=set(sorted(known)[1:])).bounds) <= known


def test_a_longer_shape_that_is_known_is_used_where_a_new_one_costs_more():
    lengths = np.array([300, 310])
    assert choose_buckets(lengths, 2048, shape_tokens=1000, known={128, 512, 2048}).bounds == (512,)
    assert choose_buckets(lengths, 2048, shape_tokens=100, known={512}).bounds == (320,)
    assert choose_buckets(lengths, 2048, shape_tokens=1000, known={320, 512}).bounds == (320,)
    mixed = choose_buckets(np.array([100, 300]), 2048, shape_tokens=1000, known={128, 512})
    assert mixed.bounds == (128, 512)
