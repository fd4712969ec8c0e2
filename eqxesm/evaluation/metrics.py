"""Metrics of binary predictions, each with a bootstrap interval over proteins."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Int

from eqxesm.data.labels import Labels, as_labels
from eqxesm.errors import InputError

Truth = Int[np.ndarray, " proteins"]
Probabilities = Float[np.ndarray, " proteins"]

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Interval:
    """A metric and its 95% bootstrap interval."""

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
    """Accuracy, MCC, AUROC, AUPRC, F1, sensitivity, specificity, ECE and Brier score.

    Accuracy and the like call a protein soluble from `threshold` on. Resamples draw proteins with
    replacement; those with one class are drawn again.
    """
    truth = as_binary(labels, len(probabilities))
    probabilities = _check(probabilities)
    if resamples < 1:
        raise InputError(f"resamples is {resamples}, expected at least 1")
    order = np.argsort(-probabilities, kind="stable")
    truth, probabilities = truth[order], probabilities[order].astype(np.float64)
    value = _measure(truth, probabilities, threshold, np.ones(len(truth)))
    rng = np.random.default_rng(seed)
    drawn = []
    while len(drawn) < resamples:
        weights = np.bincount(rng.integers(len(truth), size=len(truth)), minlength=len(truth))
        weights = weights[order].astype(np.float64)
        if 0 < weights @ truth < len(truth):
            drawn.append(_measure(truth, probabilities, threshold, weights))
    return {
        name: Interval(point, *(float(q) for q in np.percentile([d[name] for d in drawn], [2.5, 97.5])))
        for name, point in value.items()
    }


def to_json(intervals: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    """Intervals as JSON values."""
    return {name: asdict(interval) for name, interval in intervals.items()}


def format_interval(interval: Mapping[str, float] | None) -> str | None:
    """A figure with its interval, as tables have it."""
    if interval is None:
        return None
    return f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def share_interval(share: float, number: int) -> tuple[float, float]:
    """The 95% interval of a share of so many proteins. Wilson 1927, doi:10.1080/01621459.1927.10502953."""
    spread = 1.959964**2 / number
    centre = share + spread / 2
    half = (spread * (share * (1 - share) + spread / 4)) ** 0.5
    return (centre - half) / (1 + spread), (centre + half) / (1 + spread)


def expected_calibration_error(
    labels: Labels, probabilities: Probabilities, weights: Probabilities | None = None
) -> float:
    """Mean gap between predicted probability and observed frequency, in 10 equal bins.

    Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602.
    """
    truth = as_labels(labels, len(probabilities))
    return _calibration_error(truth, _check(probabilities), np.ones(len(truth)) if weights is None else weights)


def _calibration_error(truth: Truth, probabilities: Probabilities, weights: Probabilities) -> float:
    gaps = np.bincount(calibration_bins(probabilities), weights=weights * (truth - probabilities))
    return float(np.abs(gaps).sum() / weights.sum())


def calibration_bins(probabilities: Float[np.ndarray, " _"]) -> Int[np.ndarray, " _"]:
    """Bin of each probability, 0 to 9."""
    return np.minimum(probabilities * CALIBRATION_BINS, CALIBRATION_BINS - 1).astype(np.int64)


def as_binary(labels: Labels, number: int) -> Truth:
    """Labels of `number` proteins as integers, checked to be 0 and 1, both of them."""
    if not number:
        raise InputError("no proteins: expected at least 2")
    truth = as_labels(labels, number)
    if truth.min() == truth.max():
        raise InputError(f"all {len(truth)} labels are {truth[0]}. Both classes are needed.")
    return truth


def _check(probabilities: Float[np.ndarray, " _"]) -> Probabilities:
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 1:
        raise InputError(f"probabilities have shape {list(probabilities.shape)}, expected one for each protein")
    wrong = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)))
    if len(wrong):
        raise InputError(f"probability {wrong[0] + 1} is {probabilities[wrong[0]]}, expected 0 to 1")
    return probabilities


def _measure(truth: Truth, probabilities: Probabilities, threshold: float, weights: Probabilities) -> dict[str, float]:
    """Every metric, each protein counted `weights` times, sorted by falling probability.

    scikit-learn's metrics would sort and check again in each resample.
    """
    called = probabilities >= threshold
    counts = np.bincount(2 * truth + called, weights=weights, minlength=4).tolist()
    true_0, false_1, false_0, true_1 = counts
    total = sum(counts)
    spread = ((true_1 + false_1) * (true_1 + false_0) * (true_0 + false_1) * (true_0 + false_0)) ** 0.5
    auroc, auprc = _areas(truth, probabilities, weights)
    return {
        "accuracy": (true_0 + true_1) / total,
        "mcc": (true_1 * true_0 - false_1 * false_0) / spread if spread else 0.0,
        "auroc": auroc,
        "auprc": auprc,
        "f1": 2 * true_1 / (2 * true_1 + false_1 + false_0),
        "sensitivity": true_1 / (true_1 + false_0),
        "specificity": true_0 / (true_0 + false_1),
        "ece": _calibration_error(truth, probabilities, weights),
        "brier": float(weights @ (probabilities - truth) ** 2 / total),
    }


def _areas(truth: Truth, probabilities: Probabilities, weights: Probabilities) -> tuple[float, float]:
    """Area under the ROC curve, and average precision."""
    last = np.flatnonzero(np.append(np.diff(probabilities) != 0, True))
    true_1 = np.append(0.0, np.cumsum(weights * truth)[last])
    false_1 = np.append(0.0, np.cumsum(weights * (1 - truth))[last])
    found = np.diff(true_1)
    # Before the first protein that counts nothing is found, so the divisor does not matter.
    precision = true_1[1:] / np.maximum(true_1[1:] + false_1[1:], 1)
    area = np.diff(false_1) @ (true_1[1:] + true_1[:-1]) / 2
    return float(area / (true_1[-1] * false_1[-1])), float(found @ precision / true_1[-1])
