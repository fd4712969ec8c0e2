"""A model beside the baselines: on all proteins, on the untagged, by length and by identity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from eqxesm.data.labels import Labels
from eqxesm.errors import InputError
from eqxesm.evaluation.features import is_untagged_met
from eqxesm.evaluation.metrics import CALIBRATION_BINS, as_binary, calibration_bins, evaluate, to_json

Chosen = Int[np.ndarray, " _"] | Bool[np.ndarray, " _"]

RESAMPLES = 1000
LENGTH_BINS = 4

IDENTITY_BINS: tuple[tuple[str, float, float], ...] = (
    ("<30%", 0.0, 0.3),
    ("30-50%", 0.3, 0.5),
    ("50-90%", 0.5, 0.9),
    (">=90%", 0.9, np.inf),
)
"""Identity to the nearest training protein: name, from, and to below."""

BIN_METRICS = ("auroc", "accuracy")


def assess(
    sequences: Sequence[str],
    labels: Labels,
    predictions: Mapping[str, Float[np.ndarray, " _"]],
    thresholds: Mapping[str, float],
    identities: Float[np.ndarray, " _"] | None = None,
) -> dict[str, Any]:
    """Measure predictors side by side, on all of a set and on parts of it.

    Args:
        sequences: as published, tags included.
        predictions: probabilities by predictor.
        thresholds: by predictor; 0.5 where none is given.
        identities: of each protein to the nearest training protein, 0 to 1.

    Returns:
        JSON values: `all`, `untagged`, `by_length`, `by_identity` and `reliability`.
    """
    truth = as_binary(labels, len(sequences))
    predicted = ((f"predictions of {name}", each) for name, each in predictions.items())
    for things, given in (*predicted, ("identities", identities)):
        if given is not None and len(given) != len(truth):
            raise InputError(f"{len(given)} {things} but {len(truth)} sequences")
    measured = _Measured(truth, predictions, thresholds)
    untagged = np.flatnonzero([is_untagged_met(sequence) for sequence in sequences])
    lengths = np.array([len(sequence) for sequence in sequences])
    return {
        "resamples": RESAMPLES,
        "all": measured.whole(np.arange(len(truth))),
        "untagged": {**measured.whole(untagged), **_note(truth[untagged])},
        "by_length": [
            {"shortest": int(lengths[chosen].min()), "longest": int(lengths[chosen].max()), **measured.part(chosen)}
            for chosen in quantile_bins(lengths, LENGTH_BINS)
        ],
        "by_identity": None
        if identities is None
        else [
            {"identity": name, **measured.part((identities >= low) & (identities < high))}
            for name, low, high in IDENTITY_BINS
        ],
        "reliability": {name: reliability(truth, probabilities) for name, probabilities in predictions.items()},
    }


@dataclass(frozen=True)
class _Measured:
    """Labels and predictions, to be measured on a choice of the proteins."""

    truth: Int[np.ndarray, " proteins"]
    predictions: Mapping[str, Float[np.ndarray, " proteins"]]
    thresholds: Mapping[str, float]

    def whole(self, chosen: Chosen) -> dict[str, Any]:
        truth = self.truth[chosen]
        return {"proteins": len(truth), "soluble": int(truth.sum()), **self.metrics(chosen)}

    def part(self, chosen: Chosen) -> dict[str, Any]:
        truth = self.truth[chosen]
        share = float(truth.mean()) if len(truth) else None
        metrics = {
            name: values and {metric: values[metric] for metric in BIN_METRICS}
            for name, values in self.metrics(chosen).items()
        }
        return {"proteins": len(truth), "soluble_share": share, **metrics}

    def metrics(self, chosen: Chosen) -> dict[str, dict[str, dict[str, float]] | None]:
        truth = self.truth[chosen]
        if len(np.unique(truth)) < 2:
            return dict.fromkeys(self.predictions)
        return {
            name: to_json(
                evaluate(truth, probabilities[chosen], threshold=self.thresholds.get(name, 0.5), resamples=RESAMPLES)
            )
            for name, probabilities in self.predictions.items()
        }


def quantile_bins(values: Float[np.ndarray, " n"] | Int[np.ndarray, " n"], bins: int) -> list[Int[np.ndarray, " _"]]:
    """Indices of values in bins of about equal numbers, equal values in the same bin."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    number = np.searchsorted(edges, values, side="right")
    return [np.flatnonzero(number == each) for each in np.unique(number)]


def reliability(
    truth: Int[np.ndarray, " proteins"], probabilities: Float[np.ndarray, " proteins"]
) -> list[dict[str, Any]]:
    """Predicted probability and observed share of soluble proteins, by bin of probability."""
    probabilities = probabilities.astype(np.float64)
    bins = calibration_bins(probabilities)
    rows = []
    for number in range(CALIBRATION_BINS):
        inside = bins == number
        rows.append(
            {
                "from": number / CALIBRATION_BINS,
                "proteins": int(inside.sum()),
                "mean_probability": float(probabilities[inside].mean()) if inside.any() else None,
                "soluble_share": float(truth[inside].mean()) if inside.any() else None,
            }
        )
    return rows


def _note(truth: Int[np.ndarray, " _"]) -> dict[str, str]:
    if not len(truth):
        return {"note": "no protein starts with Met and has no His tag"}
    if truth.min() == truth.max():
        kind = "soluble" if truth[0] else "insoluble"
        return {"note": f"all untagged proteins that start with Met are {kind}"}
    return {}
