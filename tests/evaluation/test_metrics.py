import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_metrics import METRICS, calibration_error, reference_metrics

from eqxesm.errors import InputError
from eqxesm.evaluation import Interval, evaluate, expected_calibration_error, to_json
from eqxesm.evaluation.metrics import _measure


def make_predictions(n, seed, decimals=None):
    """Labels and probabilities that agree more often than not; rounded, many are equal."""
    rng = np.random.default_rng(seed)
    probabilities = rng.random(n)
    labels = (rng.random(n) < probabilities).astype(int)
    labels[:2] = 0, 1
    return labels, probabilities if decimals is None else probabilities.round(decimals)


def values(labels, probabilities, **options):
    return {name: each.value for name, each in evaluate(labels, probabilities, resamples=1, **options).items()}


# Values


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("decimals", [None, 1])
def test_values_are_those_of_scikit_learn(threshold, decimals):
    labels, probabilities = make_predictions(300, 0, decimals)
    found = values(labels, probabilities, threshold=threshold)
    assert tuple(found) == METRICS
    assert found == pytest.approx(reference_metrics(labels, probabilities, threshold), abs=1e-12)


probability = st.floats(0, 1, allow_subnormal=False)
tied = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0])
protein = st.tuples(st.booleans(), probability | tied, st.integers(0, 3))


@given(st.lists(protein, min_size=2, max_size=15), probability | tied)
@settings(max_examples=200, deadline=None)
def test_any_predictions_are_measured_as_by_scikit_learn(proteins, threshold):
    """Ties, extremes, and proteins that count several times or not at all, as in a resample."""
    proteins.sort(key=lambda each: -each[1])
    labels, probabilities, weights = (np.array(column, float) for column in zip(*proteins, strict=True))
    labels = labels.astype(int)
    if 0 < labels.sum() < len(labels):
        expected = reference_metrics(labels, probabilities, threshold)
        assert values(labels, probabilities, threshold=threshold) == pytest.approx(expected, abs=1e-12)
    if 0 < weights @ labels < weights.sum():
        expected = reference_metrics(labels, probabilities, threshold, weights)
        assert _measure(labels, probabilities, threshold, weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("decimals", [None, 1])
def test_a_protein_of_weight_3_counts_as_three_proteins(decimals):
    rng = np.random.default_rng(3)
    labels, probabilities = make_predictions(200, 3, decimals)
    order = np.argsort(-probabilities, kind="stable")
    labels, probabilities = labels[order], probabilities[order]
    weights = np.bincount(rng.integers(200, size=200), minlength=200)
    assert {0, 1, 2, 3} <= set(weights)
    found = _measure(labels, probabilities, 0.4, weights.astype(float))
    repeated = np.repeat(np.arange(200), weights)
    expected = reference_metrics(labels[repeated], probabilities[repeated], 0.4)
    assert found == pytest.approx(expected, abs=1e-12)
    assert reference_metrics(labels, probabilities, 0.4, weights) == pytest.approx(expected, abs=1e-12)


def test_hand_worked_example():
    labels = np.array([1, 1, 0, 0, 1])
    probabilities = np.array([0.9, 0.4, 0.6, 0.1, 0.8])
    assert values(labels, probabilities) == pytest.approx(
        {
            "accuracy": 3 / 5,  # 2 true positives, 1 of each other kind
            "mcc": (2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2),
            "auroc": 5 / 6,  # of the six pairs only 0.4 and 0.6 are in the wrong order
            "auprc": (1 + 1 + 3 / 4) / 3,  # order: 1 1 0 1 0
            "f1": 4 / 6,
            "sensitivity": 2 / 3,
            "specificity": 1 / 2,
            "ece": (0.1 + 0.6 + 0.6 + 0.1 + 0.2) / 5,  # one protein per bin
            "brier": (0.01 + 0.36 + 0.36 + 0.01 + 0.04) / 5,
        }
    )


def test_a_perfect_prediction():
    labels = np.array([0, 1] * 10)
    found = evaluate(labels, labels.astype(float), resamples=20)
    for name in ("ece", "brier"):
        assert found.pop(name) == Interval(0.0, 0.0, 0.0)
    assert set(found.values()) == {Interval(1.0, 1.0, 1.0)}


def test_the_order_of_proteins_does_not_matter():
    labels, probabilities = make_predictions(100, 2, 1)
    order = np.random.default_rng(0).permutation(100)
    assert values(labels[order], probabilities[order]) == pytest.approx(values(labels, probabilities), abs=1e-12)


def test_types_of_arrays_do_not_matter():
    labels, probabilities = make_predictions(60, 6)
    probabilities = probabilities.astype(np.float32)
    found = evaluate(labels, probabilities.astype(np.float64), resamples=5)
    assert evaluate(labels.astype(bool), probabilities, resamples=5) == found
    assert evaluate(labels.astype(np.int8), probabilities, resamples=5) == found


# Intervals


def test_intervals_are_those_of_explicit_resamples():
    # 8 proteins: some resamples hold one class only, and are drawn again.
    labels, probabilities = np.array([0, 1, 0, 0, 0, 0, 0, 1]), make_predictions(8, 3, 1)[1]
    rng, drawn, redrawn = np.random.default_rng(7), [], 0
    while len(drawn) < 60:
        index = rng.integers(8, size=8)
        if len(set(labels[index])) == 2:
            drawn.append(reference_metrics(labels[index], probabilities[index]))
        else:
            redrawn += 1
    assert redrawn > 0
    found = evaluate(labels, probabilities, resamples=60, seed=7)
    for name in METRICS:
        low, high = np.percentile([each[name] for each in drawn], [2.5, 97.5])
        assert found[name].low == pytest.approx(low, abs=1e-12)
        assert found[name].high == pytest.approx(high, abs=1e-12)


def test_the_interval_of_accuracy_is_the_binomial_one():
    labels, probabilities = make_predictions(2000, 4)
    accuracy = evaluate(labels, probabilities)["accuracy"]
    half = 1.96 * math.sqrt(accuracy.value * (1 - accuracy.value) / 2000)
    assert accuracy.low == pytest.approx(accuracy.value - half, abs=0.15 * half)
    assert accuracy.high == pytest.approx(accuracy.value + half, abs=0.15 * half)


def test_the_seed_decides_the_resamples():
    data = make_predictions(50, 5)
    first = evaluate(*data, resamples=20, seed=1)
    assert first == evaluate(*data, resamples=20, seed=1)
    assert first != evaluate(*data, resamples=20, seed=2)


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=12).filter(
        lambda rows: len({label for label, _ in rows}) == 2
    )
)
@settings(max_examples=40, deadline=None)
def test_values_and_intervals_are_finite_and_in_range(rows):
    labels, probabilities = (np.array(column) for column in zip(*rows, strict=True))
    found = evaluate(labels, probabilities, resamples=3)
    for name, interval in found.items():
        floor = -1 if name == "mcc" else 0
        assert all(math.isfinite(x) for x in (interval.value, interval.low, interval.high))
        assert floor - 1e-12 <= interval.low <= interval.high <= 1 + 1e-12
        assert floor - 1e-12 <= interval.value <= 1 + 1e-12
    # Jensen, bin by bin: the gap of the means is at most the mean gap.
    assert found["ece"].value ** 2 <= found["brier"].value + 1e-12


def test_intervals_go_into_json_and_come_back():
    intervals = evaluate(*make_predictions(20, 8), resamples=3)
    written = to_json(intervals)
    assert list(written) == list(METRICS)
    for name, entry in written.items():
        assert list(entry) == ["value", "low", "high"]
        assert all(type(x) is float for x in entry.values())
        assert Interval(**json.loads(json.dumps(entry))) == intervals[name]


# Calibration error


def test_calibration_error_by_hand():
    labels, probabilities = np.array([1, 0, 1, 1]), np.array([0.2, 0.25, 0.95, 1.0])
    # [0.2, 0.3): predicted 0.225, observed 0.5; [0.9, 1]: predicted 0.975, observed 1.
    expected = 0.5 * 0.275 + 0.5 * 0.025
    weights = np.array([3.0, 0.0, 1.0, 0.0])
    weighted = 0.75 * 0.8 + 0.25 * 0.05
    for error in (expected_calibration_error, calibration_error):
        assert error(labels, probabilities) == pytest.approx(expected)
        assert error(labels, probabilities, weights) == pytest.approx(weighted)


@pytest.mark.parametrize("edge", range(11))
def test_a_bin_holds_its_lower_edge(edge):
    # The errors have opposite signs: in one bin they cancel, in two they would add up.
    middle = min(edge, 9) / 10 + 0.05
    labels, probabilities = np.array([1, 0]), np.array([middle, edge / 10])
    expected = pytest.approx(abs(1 - middle - edge / 10) / 2)
    assert expected_calibration_error(labels, probabilities) == expected
    assert calibration_error(labels, probabilities) == expected


# Refusals


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], [], "no proteins"),
        ([1, 1], [0.1, 0.2], "all 2 labels are 1"),
        ([0, 1], [0.1, math.nan], "probability 2 is nan"),
        ([0, 1], [-0.1, 0.5], "probability 1 is -0.1"),
        ([0, 1], [0.1, 1.5], "probability 2 is 1.5"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "label 3 is 2"),
        ([0, 1, 1], [0.1, 0.2], r"labels have shape \[3\], expected \[2\]"),
        ([0, 1], [0.1, math.inf], "probability 2 is inf"),
    ],
)
def test_refuses_what_cannot_be_measured(labels, probabilities, message):
    with pytest.raises(InputError, match=message):
        evaluate(np.array(labels, int), np.array(probabilities, float))


def test_labels_of_every_kind_are_measured_alike():
    labels, probabilities = make_predictions(30, 9)
    expected = evaluate(labels, probabilities, resamples=20)
    for each in (labels.tolist(), labels.astype(bool), labels.astype(np.float32), labels.astype(bool).tolist()):
        assert evaluate(each, probabilities, resamples=20) == expected
        assert expected_calibration_error(each, probabilities) == expected["ece"].value


def test_refuses_an_interval_without_resamples():
    with pytest.raises(InputError, match="resamples is 0"):
        evaluate(*make_predictions(10, 9), resamples=0)
