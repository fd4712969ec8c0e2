"""The input pipeline: every protein once an epoch, little padding, exact resumption."""

import numpy as np
import pytest

from eqxesm.data.batching import Buckets, choose_buckets
from eqxesm.data.pipeline import Batch, ProcessRows, Steps, make_batches

LENGTHS = np.random.default_rng(0).integers(30, 300, 200)
LABELS = np.random.default_rng(1).integers(0, 2, 200)
BUCKETS = choose_buckets(LENGTHS, 1024)


def collate(indices: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    del rng
    return np.stack([np.where(np.arange(length) < LENGTHS[i], i, -1) for i in indices])


def read(epochs: int = 1, seed: int | None = 0, own: ProcessRows = ProcessRows(), **options) -> list[Batch]:
    steps = Steps(LENGTHS, BUCKETS, epochs, seed)
    return list(make_batches(steps, BUCKETS, collate, LABELS, own=own, **options))


def real(batch: Batch) -> list[int]:
    """The proteins of the rows that count: the inputs hold their numbers."""
    return batch.inputs[batch.weights > 0, 0].tolist()


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
    assert buckets.bounds[-1] == 1024
    assert Buckets((64,), 1024).rows(64) == 16
