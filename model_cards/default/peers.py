"""What the default model is measured beside: hand-made features with gradient boosting, by scikit-learn."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from sklearn.ensemble import HistGradientBoostingClassifier

from eqxesm.encoders.properties import SCALES as PROPERTIES

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
WINDOWS = (7, 19, 41)
SEEDS = 5

SCALES = ("hydropathy", "charge", "disorder", "strand")

_TABLE = np.zeros((128, len(SCALES)))
for _number, _name in enumerate(SCALES):
    for _letter, _value in PROPERTIES[_name].items():
        _TABLE[ord(_letter), _number] = _value


@functools.cache
def hand_features(sequence: str) -> Float[np.ndarray, " 94"]:
    """Composition, length, mean and spread of four properties, and how they lie along the protein."""
    codes = np.frombuffer(sequence.encode(), np.uint8)
    frequencies = [sequence.count(letter) / len(sequence) for letter in LETTERS]
    values = _TABLE[codes]
    parts = [frequencies, [np.log(len(sequence))], values.mean(0), values.std(0)]
    parts.append([abs(values[:, 1].mean()), values[:, 1].sum(), np.abs(values[:, 1]).mean(),
                  -sum(f * np.log(f) for f in frequencies if f), sequence.count("X") / len(sequence)])  # fmt: skip
    for window in WINDOWS:
        size = min(window, len(sequence))
        total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
        means = (total[size:] - total[:-size]) / size
        parts += [means.max(0), means.min(0), means.std(0), *np.percentile(means, [10, 90], axis=0)]
    return np.concatenate(parts)


def fit_boosting(
    features: Float[np.ndarray, "n 94"], labels: Int[np.ndarray, " n"]
) -> Callable[[Float[np.ndarray, "m 94"]], Float[np.ndarray, " m"]]:
    """Gradient boosting on hand features: a function to probabilities, averaged over seeds."""
    models = [
        HistGradientBoostingClassifier(
            max_iter=200,
            learning_rate=0.05,
            max_leaf_nodes=15,
            l2_regularization=1.0,
            max_features=0.3,
            random_state=seed,
        ).fit(features, labels)
        for seed in range(SEEDS)
    ]
    return lambda asked: np.mean([model.predict_proba(asked)[:, 1] for model in models], axis=0)
