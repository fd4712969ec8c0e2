"""Every metric a second time: by scikit-learn, and the calibration error by its definition."""

import numpy as np
import pytest
from sklearn import metrics

METRICS = ("accuracy", "mcc", "auroc", "auprc", "f1", "sensitivity", "specificity", "ece", "brier")


def calibration_error(labels, probabilities, weights=None) -> float:
    """Mean gap between observed share and mean probability, over the bins [0, 0.1) to [0.9, 1]."""
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
    bins = np.digitize(probabilities, np.arange(1, 10) / 10)
    error = 0.0
    for number in np.unique(bins[weights > 0]):
        inside = bins == number
        observed = np.average(labels[inside], weights=weights[inside])
        predicted = np.average(probabilities[inside], weights=weights[inside])
        error += weights[inside].sum() / weights.sum() * abs(observed - predicted)
    return error


def reference_metrics(labels, probabilities, threshold=0.5, weights=None) -> dict[str, float]:
    """Every metric of predictions, where a protein counts `weights` times."""
    labels, probabilities = np.asarray(labels, int), np.asarray(probabilities, np.float64)
    called = (probabilities >= threshold).astype(int)
    weighted = {"sample_weight": weights}
    return {
        "accuracy": metrics.accuracy_score(labels, called, **weighted),
        "mcc": metrics.matthews_corrcoef(labels, called, **weighted),
        "auroc": metrics.roc_auc_score(labels, probabilities, **weighted),
        "auprc": metrics.average_precision_score(labels, probabilities, **weighted),
        "f1": metrics.f1_score(labels, called, **weighted),
        "sensitivity": metrics.recall_score(labels, called, **weighted),
        "specificity": metrics.recall_score(labels, called, pos_label=0, **weighted),
        "ece": calibration_error(labels, probabilities, weights),
        "brier": metrics.brier_score_loss(labels, probabilities, **weighted),
    }


def assert_measured(found, labels, probabilities, threshold=0.5) -> None:
    """Check the metrics of a report, each with its interval."""
    values = {name: interval["value"] for name, interval in found.items()}
    assert values == pytest.approx(reference_metrics(labels, probabilities, threshold), abs=1e-9)
