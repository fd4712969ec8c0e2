"""Predictions of any target beside what was measured, each figure with a bootstrap interval over proteins."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.data.similarity import find_nearest
from eqxesm.evaluation.features import composition
from eqxesm.evaluation.metrics import Interval, evaluate
from eqxesm.targets import Target

RESAMPLES = 1000

PREDICTORS = {"model": "this model", "composition": "composition regression", "nearest": "most similar protein"}

Figures = dict[str, dict[str, dict[str, Any]]]
"""By target and predictor, the metrics."""

Weights = Float[np.ndarray, "resamples proteins"]


def measure(target: Target, truth: Any, predicted: Any) -> dict[str, Interval]:
    """The metrics of a target's kind, the first the most telling.

    Args:
        truth: values `[n]`, classes by number; of residues a list of `[length]`, NaN where unknown.
        predicted: as `AssayModel.predict` returns it.
    """
    if target.kind == "binary":
        found = evaluate(truth.astype(np.int64), predicted, resamples=RESAMPLES)
        return {name: found[name] for name in ("auroc", "auprc", "mcc", "accuracy", "ece")}
    rng = np.random.default_rng(0)
    count = len(truth)
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    weights = np.concatenate([np.ones((1, count)), drawn])
    if target.is_number:
        values = _measure_numbers(np.asarray(truth, np.float64), np.asarray(predicted, np.float64), weights)
    else:
        values = _measure_classes(confusion(target, truth, predicted), weights)
        if target.kind == "ordinal":
            level = np.asarray(predicted, np.float64) @ np.arange(len(target.classes))
            rank = _spearman(np.asarray(truth, np.float64), level, weights)
            values = {"spearman": rank, **values}
    return {
        name: Interval(float(each[0]), *(float(q) for q in np.nanpercentile(each[1:], [2.5, 97.5])))
        for name, each in values.items()
    }


def _measure_numbers(truth: np.ndarray, predicted: np.ndarray, weights: Weights) -> dict[str, np.ndarray]:
    squares = weights @ (truth - predicted) ** 2
    total = weights.sum(axis=1)
    spread = weights @ truth**2 - (weights @ truth) ** 2 / total
    # A resample of equal values explains nothing.
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(spread > 1e-12 * total * np.var(truth), 1 - squares / spread, np.nan)
    return {
        "spearman": _spearman(truth, predicted, weights),
        "r2": r2,
        "pearson": _pearson(truth, predicted, weights),
        "rmse": np.sqrt(squares / total),
    }


def _pearson(first: np.ndarray, second: np.ndarray, weights: Weights) -> np.ndarray:
    total = weights.sum(axis=1)
    # Centred, so that large values lose no digits.
    first, second = first - first.mean(), second - second.mean()
    a, b = (weights @ each for each in (first, second))
    both = weights @ (first * second) - a * b / total
    spreads = [weights @ each**2 - s**2 / total for each, s in ((first, a), (second, b))]
    # What never varies goes with nothing.
    varies = [each > 1e-9 * total * np.var(values) for each, values in zip(spreads, (first, second), strict=True)]
    product = np.where(varies[0] & varies[1], spreads[0] * spreads[1], np.inf)
    return both / np.sqrt(product)


def _spearman(first: np.ndarray, second: np.ndarray, weights: Weights) -> np.ndarray:
    """The correlation of ranks; in a resample, of those among what was drawn."""
    found = []
    for row in weights:
        chosen = np.repeat(np.arange(len(first)), row.astype(int))
        ranks = [rankdata(each[chosen]) for each in (first, second)]
        found.append(_pearson(*ranks, np.ones((1, len(chosen))))[0])
    return np.array(found)


def confusion(target: Target, truth: Any, predicted: Any) -> Float[np.ndarray, "proteins classes classes"]:
    """For each protein, how often a class was measured and another predicted."""
    kinds = len(target.classes)
    counts = np.zeros((len(truth), kinds, kinds))
    for number, (own, found) in enumerate(zip(truth, predicted, strict=True)):
        own, called = np.atleast_1d(own), np.atleast_1d(np.argmax(found, axis=-1))
        known = ~np.isnan(own)
        np.add.at(counts[number], (own[known].astype(int), called[known]), 1)
    return counts


def _measure_classes(counts: Float[np.ndarray, "n k k"], weights: Weights) -> dict[str, np.ndarray]:
    table = np.tensordot(weights, counts, axes=1)
    total = table.sum(axis=(1, 2))
    right = np.trace(table, axis1=1, axis2=2)
    measured, called = table.sum(axis=2), table.sum(axis=1)
    hits = np.diagonal(table, axis1=1, axis2=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(measured + called > 0, 2 * hits / (measured + called), np.nan)
        mcc = (right * total - (measured * called).sum(axis=1)) / np.sqrt(
            (total**2 - (called**2).sum(axis=1)) * (total**2 - (measured**2).sum(axis=1))
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return {"macro_f1": np.nanmean(f1, axis=1), "mcc": np.nan_to_num(mcc), "accuracy": right / total}


def fit_composition(target: Target, sequences: Sequence[str], truth: Any) -> Callable[[Sequence[str]], Any]:
    """A regression on composition and log length; of residues, how often each class goes with a letter."""
    if target.kind == "residues":
        return _fit_letters(target, sequences, truth)
    features, values = composition(sequences), np.asarray(truth)
    if target.is_number:
        regression = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11))).fit(features, values)
        return lambda proteins: regression.predict(composition(proteins))
    kinds = values.astype(int)
    own = LogisticRegression(max_iter=1000) if len(set(kinds.tolist())) > 1 else DummyClassifier()
    classifier = make_pipeline(StandardScaler(), own).fit(features, kinds)

    def predict(proteins: Sequence[str]) -> np.ndarray:
        # A class may be missing where it was fitted.
        found = np.zeros((len(proteins), len(target.classes)))
        found[:, classifier.classes_] = classifier.predict_proba(composition(proteins))
        return found[:, 1] if target.kind == "binary" else found

    return predict


def _fit_letters(target: Target, sequences: Sequence[str], truth: Any) -> Callable[[Sequence[str]], Any]:
    row_of = {letter: number for number, letter in enumerate(STANDARD_RESIDUES)}
    other = len(row_of)

    def rows(sequence: str) -> Int[np.ndarray, " length"]:
        return np.array([row_of.get(letter, other) for letter in sequence])

    counts = np.ones((other + 1, len(target.classes)))
    for sequence, classes in zip(sequences, truth, strict=True):
        known = ~np.isnan(classes)
        np.add.at(counts, (rows(sequence)[known], classes[known].astype(int)), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    return lambda proteins: [shares[rows(sequence)] for sequence in proteins]


def predict_nearest(target: Target, known: Sequence[str], truth: Any, asked: Sequence[str]) -> Any:
    """What the most similar known protein has; where none is similar, the mean or the shares of the classes.

    None where MMseqs2 is not installed, and for residues.
    """
    nearest = None if target.kind == "residues" else find_nearest(asked, known)
    if nearest is None:
        return None
    values = np.asarray(truth, np.float64)
    if not target.is_number and target.kind != "binary":
        values = np.eye(len(target.classes))[values.astype(int)]
    found = np.where(
        (nearest >= 0)[:, None], values.reshape(len(values), -1)[nearest], values.reshape(len(values), -1).mean(axis=0)
    )
    return found[:, 0] if values.ndim == 1 else found
