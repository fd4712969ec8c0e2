"""Metrics of binary predictions, each with a bootstrap interval over proteins."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    matthews_corrcoef,
    recall_score,
    roc_auc_score,
)

from eqxesm.errors import InputError

Labels = Int[np.ndarray, " proteins"] | Bool[np.ndarray, " proteins"]
"""One label a protein: 1 or True = soluble, 0 or False = insoluble."""

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Interval:
    """A metric and its 95% bootstrap interval.

    Attributes:
        value: the metric on all proteins.
        low: 2.5th percentile over the resamples.
        high: 97.5th percentile over the resamples.
    """

    value: float
    low: float
    high: float


def evaluate(
    labels: Labels,
    probabilities: Float[np.ndarray, " _"],
    *,
    threshold: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Measure predicted probabilities against labels.

    The interval is the percentile bootstrap over proteins (Efron and Tibshirani 1993, chapter 13):
    each resample is `integers(n, size=n)` of one `np.random.default_rng(seed)`, and all metrics
    are taken from the same resamples. A resample that holds one class only is drawn again, so the
    intervals are conditional on both classes being there. They say nothing of the choice of the
    training set. Calibration error is biased upwards in small samples, in resamples twice over, so
    its value may lie below its interval.

    Args:
        labels: 0 or 1 `[n]`, both present.
        probabilities: of label 1, within 0 to 1 `[n]`.
        threshold: a protein is called 1 where its probability is at least this.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    Returns:
        An interval each for `accuracy`, `mcc`, `auroc`, `auprc` (average precision), `f1` (of
        label 1), `sensitivity`, `specificity`, `ece` and `brier`.

    Raises:
        InputError: there is nothing to measure, the lengths differ, a label is neither 0 nor 1,
            all labels are the same, or a probability is NaN or outside 0 to 1.
    """
    truth = binary(labels)
    _check(truth, probabilities)
    if resamples < 1:
        raise InputError(f"{resamples} resamples: an interval needs at least 1")
    # Sorted once for all resamples; scikit-learn, which gives the values, would sort and check in
    # each of them.
    order = np.argsort(-probabilities, kind="stable")
    truth, probabilities = truth[order], probabilities[order].astype(np.float64)
    called = probabilities >= threshold

    value = _values(truth, probabilities, called)
    rng = np.random.default_rng(seed)
    drawn = []
    while len(drawn) < resamples:
        weights = np.bincount(rng.integers(len(truth), size=len(truth)), minlength=len(truth))
        weights = weights[order].astype(np.float64)
        if 0 < weights @ truth < len(truth):
            drawn.append(_scores(truth, probabilities, called, weights))
    return {
        name: Interval(
            point, *(float(q) for q in np.percentile([d[name] for d in drawn], [2.5, 97.5]))
        )
        for name, point in value.items()
    }


def to_plain(intervals: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    """Write intervals as what JSON and YAML hold.

    Args:
        intervals: by metric, as `evaluate` returns them.

    Returns:
        `{"value", "low", "high"}` of Python floats by metric.
    """
    return {name: asdict(interval) for name, interval in intervals.items()}


def expected_calibration_error(
    labels: Labels,
    probabilities: Float[np.ndarray, " proteins"],
    weights: Float[np.ndarray, " proteins"] | None = None,
) -> float:
    """Mean gap between the probability that is promised and the frequency that is seen.

    `sum_b (n_b / n) * |mean of labels in b - mean of probabilities in b|` over 10 bins b of equal
    width, `[0, 0.1)` to `[0.9, 1]`. The binary form of Naeini, Cooper and Hauskrecht (AAAI 2015),
    over the probability of label 1; Guo et al. (ICML 2017) bin the probability of the class that
    was called instead.

    Args:
        labels: 0 or 1 `[n]`.
        probabilities: of label 1 `[n]`.
        weights: of each protein `[n]`; equal by default.

    Returns:
        The error, 0 (calibrated) to 1.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    gaps = np.bincount(calibration_bins(probabilities), weights=weights * (labels - probabilities))
    return float(np.abs(gaps).sum() / weights.sum())


def calibration_bins(probabilities: Float[np.ndarray, " _"]) -> Int[np.ndarray, " _"]:
    """Sort probabilities into the bins of `expected_calibration_error`.

    Args:
        probabilities: of label 1 `[n]`.

    Returns:
        The number of each one's bin, 0 to 9 `[n]`.
    """
    return np.minimum(probabilities * CALIBRATION_BINS, CALIBRATION_BINS - 1).astype(np.int64)


def binary(labels: Labels) -> Int[np.ndarray, " proteins"]:
    """Check labels and make them integers.

    Args:
        labels: `[n]`.

    Returns:
        int64 zeros and ones `[n]`.

    Raises:
        InputError: there are none, or one of them is neither 0 nor 1.
    """
    if not len(labels):
        raise InputError("no labels: there is nothing to measure; give at least 2 proteins")
    other = np.flatnonzero((labels != 0) & (labels != 1))
    if len(other):
        raise InputError(
            f"label {labels[other[0]]} at position {other[0] + 1} is neither 0 nor 1: "
            "1 is soluble, 0 is insoluble"
        )
    return labels.astype(np.int64)


def _check(truth: Int[np.ndarray, " proteins"], probabilities: Float[np.ndarray, " _"]) -> None:
    """Refuse what no metric is defined on."""
    if len(truth) != len(probabilities):
        raise InputError(
            f"{len(truth)} labels but {len(probabilities)} probabilities: give one each a protein"
        )
    if truth.min() == truth.max():
        raise InputError(f"all {len(truth)} labels are {truth[0]}: the metrics need both classes")
    wrong = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)))
    if len(wrong):
        raise InputError(
            f"probability {probabilities[wrong[0]]} at position {wrong[0] + 1} is not within 0 to 1"
        )


def _values(
    truth: Int[np.ndarray, " proteins"],
    probabilities: Float[np.ndarray, " proteins"],
    called: Bool[np.ndarray, " proteins"],
) -> dict[str, float]:
    """Take every metric of the proteins as they are, by scikit-learn where it has it."""
    return {
        "accuracy": float(accuracy_score(truth, called)),
        "mcc": float(matthews_corrcoef(truth, called)),
        "auroc": float(roc_auc_score(truth, probabilities)),
        "auprc": float(average_precision_score(truth, probabilities)),
        "f1": float(f1_score(truth, called)),
        "sensitivity": float(recall_score(truth, called)),
        "specificity": float(recall_score(truth, called, pos_label=0)),
        "ece": expected_calibration_error(truth, probabilities),
        "brier": float(brier_score_loss(truth, probabilities)),
    }


def _scores(
    truth: Int[np.ndarray, " proteins"],
    probabilities: Float[np.ndarray, " proteins"],
    called: Bool[np.ndarray, " proteins"],
    weights: Float[np.ndarray, " proteins"],
) -> dict[str, float]:
    """Take every metric of a resample, each protein counted `weights` times, likeliest first."""
    counts = np.bincount(2 * truth + called, weights=weights, minlength=4).tolist()
    true_0, false_1, false_0, true_1 = counts
    total = sum(counts)
    spread = (
        (true_1 + false_1) * (true_1 + false_0) * (true_0 + false_1) * (true_0 + false_0)
    ) ** 0.5
    auroc, auprc = _areas(truth, probabilities, weights)
    return {
        "accuracy": (true_0 + true_1) / total,
        "mcc": (true_1 * true_0 - false_1 * false_0) / spread if spread else 0.0,
        "auroc": auroc,
        "auprc": auprc,
        "f1": 2 * true_1 / (2 * true_1 + false_1 + false_0),
        "sensitivity": true_1 / (true_1 + false_0),
        "specificity": true_0 / (true_0 + false_1),
        "ece": expected_calibration_error(truth, probabilities, weights),
        "brier": float(weights @ (probabilities - truth) ** 2 / total),
    }


def _areas(
    truth: Int[np.ndarray, " proteins"],
    probabilities: Float[np.ndarray, " proteins"],
    weights: Float[np.ndarray, " proteins"],
) -> tuple[float, float]:
    """Take the area under the ROC curve and the average precision, the likeliest protein first.

    Both are sums over the thresholds that differ: trapezoids of the true positives over the false
    ones, and `sum (R_i - R_{i-1}) P_i` of recall and precision, as scikit-learn has them.
    """
    last = np.flatnonzero(np.append(np.diff(probabilities) != 0, True))
    true_1 = np.append(0.0, np.cumsum(weights * truth)[last])
    false_1 = np.append(0.0, np.cumsum(weights * (1 - truth))[last])
    found = np.diff(true_1)
    # Nobody is found above the first protein that counts, so the divisor there does not matter.
    precision = true_1[1:] / np.maximum(true_1[1:] + false_1[1:], 1)
    area = np.diff(false_1) @ (true_1[1:] + true_1[:-1]) / 2
    return float(area / (true_1[-1] * false_1[-1])), float(found @ precision / true_1[-1])
