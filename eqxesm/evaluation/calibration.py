"""Temperature scaling."""

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from eqxesm.data.labels import Labels, as_labels


def fit_temperature(logits: Float[np.ndarray, " n"], labels: Labels) -> float:
    """Temperature, 0.05 to 20, with the smallest cross-entropy (Guo et al. 2017, arXiv:1706.04599)."""
    signs = 1.0 - 2.0 * as_labels(labels, len(logits))

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        return float(np.logaddexp(0.0, signs * scaled).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20.0]), method="bounded").x))
