import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from eqxesm.errors import InputError
from eqxesm.evaluation import Interval, evaluate, expected_calibration_error, to_plain
from eqxesm.evaluation import metrics as metrics_module

NAMES = (
    "accuracy", "mcc", "auroc", "auprc", "f1", "sensitivity", "specificity", "ece", "brier",
)  # fmt: skip


def plain_scores(labels, probabilities, threshold=0.5):
    """Every metric by a direct call, calibration error by a loop over the bins."""
    called = (probabilities >= threshold).astype(int)
    error = 0.0
    for b in range(10):
        last = b == 9
        inside = (probabilities * 10 >= b) & ((probabilities * 10 < b + 1) | last)
        if inside.any():
            error += inside.mean() * abs(labels[inside].mean() - probabilities[inside].mean())
    return {
        "accuracy": sklearn_metrics.accuracy_score(labels, called),
        "mcc": sklearn_metrics.matthews_corrcoef(labels, called),
        "auroc": sklearn_metrics.roc_auc_score(labels, probabilities),
        "auprc": sklearn_metrics.average_precision_score(labels, probabilities),
        "f1": sklearn_metrics.f1_score(labels, called),
        "sensitivity": sklearn_metrics.recall_score(labels, called),
        "specificity": sklearn_metrics.recall_score(labels, called, pos_label=0),
        "ece": error,
        "brier": sklearn_metrics.brier_score_loss(labels, probabilities),
    }


def draw(n, seed, decimals=None):
    rng = np.random.default_rng(seed)
    probabilities = rng.random(n)
    labels = (rng.random(n) < probabilities).astype(int)
    labels[:2] = 0, 1
    return labels, probabilities if decimals is None else probabilities.round(decimals)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("decimals", [None, 1])
def test_values_are_scikit_learns(threshold, decimals):
    labels, probabilities = draw(300, 0, decimals)
    found = evaluate(labels, probabilities, threshold=threshold, resamples=1)
    assert tuple(found) == NAMES
    expected = plain_scores(labels, probabilities, threshold)
    assert {k: i.value for k, i in found.items()} == pytest.approx(expected, abs=1e-12)


def test_hand_worked_example():
    labels = np.array([1, 1, 0, 0, 1])
    probabilities = np.array([0.9, 0.4, 0.6, 0.1, 0.8])
    value = {k: i.value for k, i in evaluate(labels, probabilities, resamples=1).items()}
    assert value == pytest.approx(
        {
            "accuracy": 3 / 5,  # 2 true positives, 1 of each other kind
            "mcc": (2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2),
            "auroc": 5 / 6,  # only 0.4 stands below 0.6
            "auprc": (1 + 1 + 3 / 4) / 3,  # order: 1 1 0 1 0
            "f1": 4 / 6,
            "sensitivity": 2 / 3,
            "specificity": 1 / 2,
            "ece": (0.1 + 0.6 + 0.6 + 0.1 + 0.2) / 5,  # one protein a bin
            "brier": (0.01 + 0.36 + 0.36 + 0.01 + 0.04) / 5,
        }
    )


def test_intervals_are_those_of_explicit_resamples():
    # 8 proteins: some resamples hold one class only, and are drawn again.
    labels, probabilities = np.array([0, 1, 0, 0, 0, 0, 0, 1]), draw(8, 3, 1)[1]
    rng, drawn, redrawn = np.random.default_rng(7), [], 0
    while len(drawn) < 60:
        index = rng.integers(8, size=8)
        if len(set(labels[index])) == 2:
            drawn.append(plain_scores(labels[index], probabilities[index]))
        else:
            redrawn += 1
    assert redrawn > 0
    found = evaluate(labels, probabilities, resamples=60, seed=7)
    for name in NAMES:
        low, high = np.percentile([d[name] for d in drawn], [2.5, 97.5])
        assert found[name].low == pytest.approx(low, abs=1e-12)
        assert found[name].high == pytest.approx(high, abs=1e-12)


def test_accuracy_interval_is_the_binomial_one():
    labels, probabilities = draw(2000, 4)
    accuracy = evaluate(labels, probabilities)["accuracy"]
    half = 1.96 * math.sqrt(accuracy.value * (1 - accuracy.value) / 2000)
    assert accuracy.low == pytest.approx(accuracy.value - half, abs=0.15 * half)
    assert accuracy.high == pytest.approx(accuracy.value + half, abs=0.15 * half)


def test_one_seed_gives_one_answer():
    data = draw(50, 5)
    first = evaluate(*data, resamples=20, seed=1)
    assert first == evaluate(*data, resamples=20, seed=1)
    assert first != evaluate(*data, resamples=20, seed=2)


def test_kinds_of_array_do_not_matter():
    labels, probabilities = draw(60, 6)
    probabilities = probabilities.astype(np.float32)
    found = evaluate(labels, probabilities.astype(np.float64), resamples=5)
    assert evaluate(labels.astype(bool), probabilities, resamples=5) == found
    assert evaluate(labels.astype(np.int8), probabilities, resamples=5) == found


def test_a_perfect_prediction():
    labels = np.array([0, 1] * 10)
    found = evaluate(labels, labels.astype(float), resamples=20)
    for name in ("ece", "brier"):
        assert found.pop(name) == Interval(0.0, 0.0, 0.0)
    assert set(found.values()) == {Interval(1.0, 1.0, 1.0)}


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=12).filter(
        lambda rows: len({label for label, _ in rows}) == 2
    )
)
@settings(max_examples=40, deadline=None)
def test_invariants(rows):
    labels, probabilities = (np.array(column) for column in zip(*rows, strict=True))
    found = evaluate(labels, probabilities, resamples=3)
    for name, interval in found.items():
        floor = -1 if name == "mcc" else 0
        assert all(math.isfinite(x) for x in (interval.value, interval.low, interval.high))
        assert floor - 1e-12 <= interval.low <= interval.high <= 1 + 1e-12
        assert floor - 1e-12 <= interval.value <= 1 + 1e-12
    # Jensen, bin by bin: the gap of the means is at most the mean gap.
    assert found["ece"].value ** 2 <= found["brier"].value + 1e-12


def test_calibration_error_of_whole_bins():
    labels, probabilities = np.array([1, 0, 1, 1]), np.array([0.2, 0.25, 0.95, 1.0])
    # [0.2, 0.3): promised 0.225, seen 0.5; [0.9, 1]: promised 0.975, seen 1.
    assert expected_calibration_error(labels, probabilities) == pytest.approx(
        0.5 * 0.275 + 0.5 * 0.025
    )
    weights = np.array([3.0, 0.0, 1.0, 0.0])
    assert expected_calibration_error(labels, probabilities, weights) == pytest.approx(
        0.75 * 0.8 + 0.25 * 0.05
    )


@pytest.mark.parametrize("edge", range(11))
def test_a_bin_holds_its_lower_edge(edge):
    # The two err in opposite directions: in one bin that cancels, in two it would add up.
    middle = min(edge, 9) / 10 + 0.05
    labels, probabilities = np.array([1, 0]), np.array([middle, edge / 10])
    assert expected_calibration_error(labels, probabilities) == pytest.approx(
        abs(1 - middle - edge / 10) / 2
    )


def test_plain_floats_go_into_json():
    intervals = evaluate(*draw(20, 8), resamples=3)
    plain = to_plain(intervals)
    assert list(plain) == list(NAMES)
    for name, entry in plain.items():
        assert list(entry) == ["value", "low", "high"]
        assert all(type(x) is float for x in entry.values())
        assert Interval(**json.loads(json.dumps(entry))) == intervals[name]


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], [], "no labels"),
        ([1, 1], [0.1, 0.2], "all 2 labels are 1"),
        ([0, 1], [0.1, math.nan], "probability nan at position 2"),
        ([0, 1], [-0.1, 0.5], "probability -0.1 at position 1"),
        ([0, 1], [0.1, 1.5], "probability 1.5 at position 2"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "label 2 at position 3"),
        ([0, 1, 1], [0.1, 0.2], "3 labels but 2 probabilities"),
    ],
)
def test_what_cannot_be_measured_is_refused(labels, probabilities, message):
    with pytest.raises(InputError, match=message):
        evaluate(np.array(labels, int), np.array(probabilities, float))


def test_an_interval_needs_resamples():
    with pytest.raises(InputError, match="0 resamples"):
        evaluate(*draw(10, 9), resamples=0)


@pytest.mark.parametrize("ties", [False, True])
def test_a_resample_is_measured_as_scikit_learn_measures_it(ties):
    """The bootstrap takes its metrics by a faster way, of proteins that count several times."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, 200)
    probabilities = -np.sort(-rng.random(200))
    if ties:
        probabilities = probabilities.round(1)
    called = probabilities >= 0.4
    weights = np.bincount(rng.integers(200, size=200), minlength=200).astype(np.float64)
    repeated = np.repeat(np.arange(200), weights.astype(int))
    expected = metrics_module._values(truth[repeated], probabilities[repeated], called[repeated])
    assert metrics_module._scores(truth, probabilities, called, weights) == pytest.approx(expected)
