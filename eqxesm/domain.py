"""Whether a protein is like those that a model was trained on."""

from typing import Annotated

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Lt
from jaxtyping import Array, Float

from eqxesm.alphabet import AnyArray
from eqxesm.config import configuration
from eqxesm.errors import InputError

UNLIKE = "unlike the training proteins"
"""Note of a protein whose distance is above the limit."""

SHRINKAGE = 0.01
"""Share of the mean variance that every direction gets on top, so that none has next to none."""


@configuration
class DomainConfig:
    """The width of the features, and the share of held-out proteins within the limit of a `Domain`."""

    d_model: Annotated[int, Gt(0), Lt(2**20)]
    share: Annotated[float, Gt(0), Lt(1)] = 0.99


class Domain(eqx.Module):
    """Mean and covariance of the mean features of training proteins, and a limit.

    A protein further from the mean than the limit, by its Mahalanobis distance, is unlike them (Lee et al. 2018,
    arXiv:1807.03888).
    """

    centre: Float[AnyArray, " d_model"]
    whiten: Float[AnyArray, "d_model d_model"]
    limit: Float[AnyArray, ""]
    config: DomainConfig = eqx.field(static=True)

    @classmethod
    def empty(cls, config: DomainConfig) -> "Domain":
        """One of zeros, to be filled from a checkpoint."""
        width = config.d_model
        return cls(jnp.zeros(width), jnp.zeros((width, width)), jnp.zeros(()), config)

    @classmethod
    def fit(
        cls, training: Float[np.ndarray, "n d_model"], held_out: Float[np.ndarray, "m d_model"], share: float = 0.99
    ) -> "Domain":
        """Fit to mean features of training proteins, with a limit that this share of others stay within."""
        n, d_model = training.shape
        config = DomainConfig(d_model, share)
        if n < 2 or not len(held_out):
            raise InputError(f"{n} training and {len(held_out)} held-out proteins, expected at least 2 and 1")
        centre = training.mean(axis=0, dtype=np.float32)
        centred = (training - centre).astype(np.float64)
        covariance = centred.T @ centred / n
        covariance += SHRINKAGE * covariance.trace() / d_model * np.eye(d_model)
        whiten = np.linalg.inv(np.linalg.cholesky(covariance)).astype(np.float32)
        distances = np.linalg.norm((held_out - centre) @ whiten.T, axis=1)
        return cls(centre, whiten, np.array(np.quantile(distances, share), np.float32), config)

    def distance(self, pooled: Float[AnyArray, " d_model"]) -> Float[Array, ""]:
        """Distance of a protein, by the mean of its features, in standard deviations."""
        centre, whiten, pooled = (jnp.asarray(each, jnp.float32) for each in (self.centre, self.whiten, pooled))
        return jnp.linalg.norm(jnp.matmul(whiten, pooled - centre, precision="highest"))
