"""Temperature scaling, and the interval around a probability."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped
from scipy.optimize import minimize_scalar
from scipy.special import logit

from eqxesm.data.labels import Labels, as_labels
from eqxesm.errors import InputError
from eqxesm.forms import COVERED, GROUP


def fit_temperature(logits: Float[np.ndarray, " n"], labels: Labels) -> float:
    """Temperature, 0.05 to 20, with the smallest cross-entropy (Guo et al. 2017, arXiv:1706.04599)."""
    signs = 1.0 - 2.0 * as_labels(labels, len(logits))

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        return float(np.logaddexp(0.0, signs * scaled).mean())

    return minimise_temperature(loss)


def minimise_temperature(loss: Callable[[float], float]) -> float:
    """The temperature, 0.05 to 20, at whose logarithm a loss is smallest."""
    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20.0]), method="bounded").x))


def conformal_bound(errors: Float[np.ndarray, " n"], covered: float) -> float | None:
    """The bound that a share of errors keep to, if there are enough of them.

    By split conformal prediction (Lei et al. 2018, doi:10.1080/01621459.2017.1307116): the quantile counts the next
    error as one more.
    """
    rank = int(np.ceil(covered * (len(errors) + 1)))
    return float(np.sort(errors)[rank - 1]) if rank <= len(errors) else None


def group_errors(
    logits: Float[np.ndarray, " n"], labels: Labels, sources: Shaped[np.ndarray, " n"]
) -> Float[np.ndarray, " groups"]:
    """How far calibrated logits are from the logit of the share that is soluble, by group.

    A group is at least `GROUP` proteins of one source with neighbouring logits. A smaller source has none.
    """
    labels = as_labels(labels, len(logits))
    errors = []
    for source in np.unique(sources):
        own = np.flatnonzero(sources == source)
        own = own[np.argsort(logits[own], kind="stable")]
        for group in np.array_split(own, len(own) // GROUP) if len(own) >= GROUP else ():
            # Half a protein on each side, so that none and all have a logit.
            share = (labels[group].sum() + 0.5) / (len(group) + 1)
            errors.append(abs(logit(share) - logits[group].mean()))
    return np.array(errors)


def fit_margin(logits: Float[np.ndarray, " n"], labels: Labels, sources: Shaped[np.ndarray, " n"]) -> float:
    """Half-width, in calibrated logits, within which `COVERED` of the groups of held-out proteins lie."""
    errors = group_errors(logits, labels, sources)
    bound = conformal_bound(errors, COVERED)
    if bound is None:
        raise InputError(f"{len(errors)} groups of {GROUP} held-out proteins of one source are too few for a margin")
    return bound
