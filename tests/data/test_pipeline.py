"""The input pipeline: every protein once an epoch, little padding, exact resumption."""

import csv
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqxesm.data.batching import MAX_PADDING, MAX_SHAPES, Buckets, choose_buckets
from eqxesm.data.pipeline import Batch, ProcessRows, Steps, make_batches
from eqxesm.training import TrainConfig

LENGTHS = np.random.default_rng(0).integers(30, 300, 200)
LABELS = np.random.default_rng(1).integers(0, 2, 200)
BUCKETS = choose_buckets(LENGTHS, 1024)


def collate(indices: np.ndarray, length: int) -> np.ndarray:
    return np.stack([np.where(np.arange(length) < LENGTHS[i], i, -1) for i in indices])


def read(epochs: int = 1, seed: int | None = 0, own: ProcessRows = ProcessRows(), **options) -> list[Batch]:
    steps = Steps(LENGTHS, BUCKETS, epochs, seed)
    return list(make_batches(steps, BUCKETS, collate, LABELS, own=own, **options))


def real(batch: Batch) -> list[int]:
    """The proteins of the rows that count: the inputs hold their numbers."""
    return batch.inputs[batch.weights > 0, 0].tolist()


@given(st.lists(st.integers(1, 2500), min_size=1, max_size=300), st.integers(16, 20_000), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_plan_holds_every_protein_once_within_its_shape(lengths, tokens_per_batch, seed):
    lengths = np.array(lengths)
    buckets = choose_buckets(lengths, tokens_per_batch)
    order = np.random.default_rng(seed).permutation(len(lengths))
    plan = buckets.plan(lengths, order)
    assert sorted(np.concatenate([indices for _, indices in plan])) == list(range(len(lengths)))
    for length, indices in plan:
        assert length in buckets.bounds
        assert lengths[indices].max() <= length
        assert len(indices) <= buckets.rows(length)
    # All are full but the last, and their number does not depend on the order.
    assert all(len(indices) == buckets.rows(length) for length, indices in plan[:-1])
    assert len(plan) == len(buckets.plan(lengths, np.arange(len(lengths))))


def test_the_buckets_pad_least_of_all_with_as_few_lengths():
    """Against every choice of bounds, where one protein makes a batch and rows play no part."""
    lengths = np.array([8, 16, 16, 24, 40, 40, 40, 56, 64, 72])
    candidates = np.unique(lengths)
    costs = {
        number: min(
            sum(min(b for b in (*bounds, 72) if b >= length) for length in lengths)
            for bounds in itertools.combinations(candidates[:-1], number - 1)
        )
        for number in range(1, len(candidates) + 1)
    }
    found = choose_buckets(lengths, 1)
    # The fewest bounds within a tenth of padding, at the least cost of that many.
    fewest = next(n for n, cost in costs.items() if 1 - lengths.sum() / cost <= 0.1)
    assert len(found.bounds) == fewest
    assert found.padding(lengths) == pytest.approx(1 - lengths.sum() / costs[fewest])


def test_at_most_a_tenth_of_real_batches_is_padding(shared):
    with open(shared / "train_pool" / "pool.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["license"] == "MIT"]
    lengths = np.array([len(row["sequences"]) + 2 for row in rows])
    buckets = choose_buckets(lengths, TrainConfig().tokens_per_batch)
    assert (MAX_SHAPES, MAX_PADDING) == (16, 0.1)
    assert len(buckets.bounds) <= 16
    plan = buckets.plan(lengths, np.random.default_rng(0).permutation(len(lengths)))
    taken = sum(length * buckets.rows(length) for length, _ in plan)
    assert 1 - lengths.sum() / taken <= 0.1


def test_an_epoch_is_a_new_shuffle_of_every_protein():
    batches = read(epochs=2)
    half = len(batches) // 2
    first, second = ([i for batch in part for i in real(batch)] for part in (batches[:half], batches[half:]))
    assert sorted(first) == sorted(second) == list(range(len(LENGTHS)))
    assert first != second
    assert first != [i for batch in read(seed=1) for i in real(batch)]
    assert [i for batch in read(epochs=2) for i in real(batch)] == first + second


def test_batches_do_not_come_sorted_by_length():
    lengths = [batch.inputs.shape[1] for batch in read()]
    assert lengths != sorted(lengths)
    assert [batch.inputs.shape[1] for batch in read(seed=None)] == sorted(lengths)


def test_empty_rows_weigh_nothing():
    steps = Steps(LENGTHS, BUCKETS, 1, 0)
    planned = [steps[i] for i in range(len(steps))]
    batches = read(class_weights=(0.5, 2.0))
    assert any(len(indices) < BUCKETS.rows(length) for length, indices in planned)
    for (length, indices), batch in zip(planned, batches, strict=True):
        rows = len(batch.weights)
        assert batch.inputs.shape == (rows, length)
        assert rows == len(batch.labels) == BUCKETS.rows(length)
        np.testing.assert_array_equal(batch.inputs[: len(indices)].max(axis=1), indices)
        np.testing.assert_array_equal(batch.labels[: len(indices)], LABELS[indices])
        expected = np.zeros(rows, np.float32)
        expected[: len(indices)] = np.where(LABELS[indices] == 1, 2.0, 0.5)
        np.testing.assert_array_equal(batch.weights, expected)
        assert batch.weights.dtype == batch.labels.dtype == np.float32


@pytest.mark.parametrize("stop", [0, 1, 17])
def test_it_resumes_at_any_step(stop):
    steps = Steps(LENGTHS, BUCKETS, 2, 0)
    whole = list(make_batches(steps, BUCKETS, collate, LABELS))
    iterator = iter(make_batches(steps, BUCKETS, collate, LABELS))
    for _ in range(stop):
        next(iterator)
    state = iterator.get_state()
    # The training loop writes this state itself, from the number of its step.
    assert state == {"next_index": stop} or stop == 0
    again = iter(make_batches(Steps(LENGTHS, BUCKETS, 2, 0), BUCKETS, collate, LABELS))
    again.set_state({"next_index": stop})
    rest = list(again)
    assert len(rest) == len(whole) - stop
    for one, other in zip(rest, whole[stop:], strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("devices", "processes"), [(2, 2), (8, 2), (8, 4), (3, 1)])
def test_processes_share_every_batch(devices, processes):
    alone = read()
    shares = [read(own=ProcessRows(devices, process, processes)) for process in range(processes)]
    for number, batch in enumerate(alone):
        parts = [share[number] for share in shares]
        assert len({part.inputs.shape for part in parts}) == 1
        assert sum(len(part.weights) for part in parts) % devices == 0
        # The same proteins in the same order, whatever the number of devices.
        assert [i for part in parts for i in real(part)] == real(batch)


def test_the_buckets_hold_the_longest_of_any_set():
    buckets = choose_buckets(LENGTHS, 1024, longest=1001)
    assert buckets.bounds[-1] == 1008
    assert Buckets((64,), 1024).rows(64) == 16
