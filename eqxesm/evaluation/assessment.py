"""A model beside the baselines: on all proteins, on the untagged, by length and by identity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from eqxesm.errors import InputError
from eqxesm.evaluation.features import is_untagged_met
from eqxesm.evaluation.metrics import (
    CALIBRATION_BINS,
    Labels,
    binary,
    calibration_bins,
    evaluate,
    to_plain,
)

Chosen = Int[np.ndarray, " _"] | Bool[np.ndarray, " _"]

RESAMPLES = 1000
LENGTH_BINS = 4
IDENTITIES: tuple[tuple[str, float, float], ...] = (
    ("<30%", 0.0, 0.3),
    ("30-50%", 0.3, 0.5),
    ("50-90%", 0.5, 0.9),
    (">=90%", 0.9, np.inf),
)
"""Bins of identity to the nearest training protein: their names, and from where to below where."""

IN_BINS = ("auroc", "accuracy")
"""What bins are measured by."""


def assess(
    sequences: Sequence[str],
    labels: Labels,
    predictions: Mapping[str, Float[np.ndarray, " _"]],
    thresholds: Mapping[str, float],
    identities: Float[np.ndarray, " _"] | None = None,
) -> dict[str, Any]:
    """Measure predictors side by side, on all of a set and on parts of it.

    The untagged are the proteins on which the construct gives nothing away, `is_untagged_met`.

    Args:
        sequences: proteins, as they were published, in upper case.
        labels: 1 = soluble, 0 = insoluble, one a protein, both present.
        predictions: probabilities of being soluble, one a protein, by the predictor's name.
        thresholds: from which probability on a predictor calls a protein soluble; 0.5 for those
            that are not named.
        identities: of each protein to its nearest training protein, 0 to 1, where known.

    Returns:
        What JSON holds: `resamples`; `all` and `untagged`, each with the number of `proteins`, of
        the `soluble`, and every predictor's metrics, null with a `note` where there is one class
        only; `by_length` and `by_identity`, bins with AUROC and accuracy; and `reliability` of
        each predictor, by the bins of its calibration error.

    Raises:
        InputError: the labels are all the same, the sequences, predictions or identities are not
            as many, or what `evaluate` refuses.
    """
    truth = binary(labels)
    predicted = ((f"predictions of {name}", each) for name, each in predictions.items())
    for things, given in (("sequences", sequences), *predicted, ("identities", identities)):
        if given is not None and len(given) != len(truth):
            raise InputError(f"{len(given)} {things} but {len(truth)} labels: give one each")
    if truth.min() == truth.max():
        raise InputError(f"all {len(truth)} labels are {truth[0]}: the metrics need both classes")
    measured = _Measured(truth, predictions, thresholds)
    untagged = np.flatnonzero([is_untagged_met(sequence) for sequence in sequences])
    lengths = np.array([len(sequence) for sequence in sequences])
    return {
        "resamples": RESAMPLES,
        "all": measured.whole(np.arange(len(truth))),
        "untagged": {**measured.whole(untagged), **_note(truth[untagged])},
        "by_length": [
            {
                "shortest": int(lengths[chosen].min()),
                "longest": int(lengths[chosen].max()),
                **measured.part(chosen),
            }
            for chosen in quantile_bins(lengths, LENGTH_BINS)
        ],
        "by_identity": None
        if identities is None
        else [
            {"identity": name, **measured.part((identities >= low) & (identities < high))}
            for name, low, high in IDENTITIES
        ],
        "reliability": {
            name: reliability(truth, probabilities) for name, probabilities in predictions.items()
        },
    }


@dataclass(frozen=True)
class _Measured:
    """Labels and what was predicted for them, measured on a choice of the proteins."""

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
            name: values and {metric: values[metric] for metric in IN_BINS}
            for name, values in self.metrics(chosen).items()
        }
        return {"proteins": len(truth), "soluble_share": share, **metrics}

    def metrics(self, chosen: Chosen) -> dict[str, dict[str, dict[str, float]] | None]:
        truth = self.truth[chosen]
        if len(np.unique(truth)) < 2:
            return dict.fromkeys(self.predictions)
        return {
            name: to_plain(
                evaluate(
                    truth,
                    probabilities[chosen],
                    threshold=self.thresholds.get(name, 0.5),
                    resamples=RESAMPLES,
                )
            )
            for name, probabilities in self.predictions.items()
        }


def quantile_bins(
    values: Float[np.ndarray, " n"] | Int[np.ndarray, " n"], bins: int
) -> list[Int[np.ndarray, " _"]]:
    """Sort values into bins of about as many each, equal values into the same.

    Args:
        values: any numbers `[n]`.
        bins: how many at most; fewer where many values are equal.

    Returns:
        The indices in each bin that is not empty, the smallest values first.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    number = np.searchsorted(edges, values, side="right")
    return [np.flatnonzero(number == each) for each in np.unique(number)]


def _note(truth: Int[np.ndarray, " _"]) -> dict[str, str]:
    if not len(truth):
        return {"note": "no protein starts with Met and has no His tag"}
    if truth.min() == truth.max():
        kind = "soluble" if truth[0] else "insoluble"
        return {"note": f"all untagged proteins that start with Met are {kind}"}
    return {}


def reliability(
    truth: Int[np.ndarray, " proteins"], probabilities: Float[np.ndarray, " proteins"]
) -> list[dict[str, Any]]:
    """Compare what was predicted with what came of it, bin by bin of probability.

    Args:
        truth: 1 = soluble, 0 = insoluble, one a protein.
        probabilities: of being soluble, one a protein.

    Returns:
        For each bin where it starts, how many proteins it holds, their mean probability and the
        share of them that is soluble, None where it is empty.
    """
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
