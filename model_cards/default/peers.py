"""What the default model is measured beside: hand-made features with gradient boosting, by scikit-learn."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from sklearn.ensemble import HistGradientBoostingClassifier

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
WINDOWS = (7, 19, 41)
SEEDS = 5

SCALES = {
    # Kyte and Doolittle 1982, J Mol Biol 157:105.
    "hydropathy": (1.8, 2.5, -3.5, -3.5, 2.8, -0.4, -3.2, 4.5, -3.9, 3.8, 1.9, -3.5, -1.6, -3.5, -4.5, -0.8, -0.7, 4.2,
                   -0.9, -1.3),
    "charge": (0, 0, -1, -1, 0, 0, 0.1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0),
    # TOP-IDP, Campen 2008, Protein Pept Lett 15:956.
    "disorder": (0.06, 0.02, 0.192, 0.736, -0.697, 0.166, 0.303, -0.486, 0.586, -0.326, -0.397, 0.007, 0.987, 0.318,
                 0.18, 0.341, 0.059, -0.121, -0.884, -0.51),
    # Chou and Fasman 1978, Adv Enzymol 47:45.
    "strand": (0.83, 1.19, 0.54, 0.37, 1.38, 0.75, 0.87, 1.6, 0.74, 1.3, 1.05, 0.89, 0.55, 1.1, 0.93, 0.75, 1.19, 1.7,
               1.37, 1.47),
}  # fmt: skip
"""Properties of residues, in the order of the letters."""

_TABLE = np.zeros((128, len(SCALES)))
for _letter, _values in zip(LETTERS, zip(*SCALES.values(), strict=True), strict=True):
    _TABLE[ord(_letter)] = _values


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
