"""The two baselines that every figure is compared with: the tag rule and the composition."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le, Len
from jaxtyping import Float, Int
from pydantic import Strict
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from eqxesm.config import configuration
from eqxesm.data.labels import Labels
from eqxesm.errors import InputError
from eqxesm.evaluation.features import composition, construct
from eqxesm.evaluation.metrics import as_binary

FOLDS = 5

# Bounds on what is read from a checkpoint, so that no prediction overflows.
Bounded = Annotated[float, Ge(-1e9), Le(1e9)]
Scale = Annotated[float, Ge(1e-9), Le(1e9)]
Probability = Annotated[float, Ge(0), Le(1)]


@configuration
class CompositionRegression:
    """Logistic regression on the frequencies of the 20 residues and log length."""

    means: Annotated[tuple[Bounded, ...], Strict(False), Len(21, 21)]
    scales: Annotated[tuple[Scale, ...], Strict(False), Len(21, 21)]
    coefficients: Annotated[tuple[Bounded, ...], Strict(False), Len(21, 21)]
    intercept: Bounded

    def predict(self, sequences: Sequence[str]) -> Float[np.ndarray, " _"]:
        standardised = (composition(sequences) - np.array(self.means)) / np.array(self.scales)
        return expit(standardised @ np.array(self.coefficients) + self.intercept)


@configuration
class Baselines:
    """Both baselines, fitted on the same proteins.

    The tag rule is the share of soluble proteins by initial Met, N-terminal and C-terminal His tag
    (the last varies fastest).
    """

    tag_rule: Annotated[tuple[Probability, ...], Strict(False), Len(8, 8)]
    composition: CompositionRegression

    def predict(self, sequences: Sequence[str]) -> dict[str, Float[np.ndarray, " _"]]:
        """Probabilities by baseline, `tag_rule` and `composition`."""
        cells = np.array(self.tag_rule).reshape(2, 2, 2)
        return {"tag_rule": cells[construct(sequences)], "composition": self.composition.predict(sequences)}


def count_folds(labels: Int[np.ndarray, " proteins"]) -> int:
    """Folds to fit baselines out of fold: each has proteins of both classes."""
    folds = min(FOLDS, *np.bincount(labels).tolist())
    if folds < 2:
        raise InputError("one protein of a class is too few to fit the baselines. Name other proteins by --training.")
    return folds


def fit_baselines(sequences: Sequence[str], labels: Labels) -> Baselines:
    """Fit both baselines on proteins as they were published, tags included."""
    truth = as_binary(labels, len(sequences))
    return Baselines(tuple(_fit_tag_rule(sequences, truth)), _fit_composition(sequences, truth))


def _fit_tag_rule(sequences: Sequence[str], truth: Int[np.ndarray, " _"]) -> list[float]:
    # One soluble and one insoluble protein are added to every cell.
    soluble, total = np.ones((2, 2, 2)), np.full((2, 2, 2), 2.0)
    cells = construct(sequences)
    np.add.at(soluble, cells, truth)
    np.add.at(total, cells, 1)
    return (soluble / total).ravel().tolist()


def _fit_composition(sequences: Sequence[str], truth: Int[np.ndarray, " _"]) -> CompositionRegression:
    features = composition(sequences)
    scaler = StandardScaler().fit(features)
    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    regression.fit(scaler.transform(features), truth)
    return CompositionRegression(
        scaler.mean_.tolist(), scaler.scale_.tolist(), regression.coef_[0].tolist(), float(regression.intercept_[0])
    )
