"""Calibration: one number that makes probabilities mean what they say."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar


def fit_temperature(logits: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Find the temperature that the labels are likeliest under (Guo et al. 2017).

    Args:
        logits: scores of proteins that the model was not trained on `[n]`.
        labels: 1 for soluble, 0 for insoluble `[n]`.

    Returns:
        What to divide logits by, between 0.05 and 20.
    """
    signs = 1.0 - 2.0 * labels

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        return float(np.logaddexp(0.0, signs * scaled).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20.0]), method="bounded").x))
