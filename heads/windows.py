"""Averages of features over windows along the protein: their extremes and spread."""

from collections.abc import Sequence
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import MaxLen
from jaxtyping import Array, Float, PRNGKeyArray
from pydantic import Strict, model_serializer

from heads.base import Features, Key, Logit, Mask, Pooled, PooledHead
from heads.fields import Fraction, OddWidth, Outputs, Width, Widths, configuration, leave_out_unset
from heads.mlp import MLP
from heads.pooling import count, masked, max_pool, mean_pool, quantile_pool

MIN_SPREAD = 1e-3
"""Added to the spread of what is pooled, so that what never varies does not blow up."""

Windows = Annotated[tuple[OddWidth, ...], Strict(False), MaxLen(64)]
Quantiles = Annotated[tuple[Fraction, ...], Strict(False), MaxLen(64)]


@configuration
class WindowMLPConfig:
    """Sizes of a `WindowMLP`. `windows` are in residues; `quantiles` are of the averages over a window."""

    d_model: Width
    windows: Windows = (7, 19, 41)
    quantiles: Quantiles = ()
    hidden: Widths = (128,)
    dropout: Fraction = 0.3
    outputs: Outputs = None
    type: Literal["window_mlp"] = "window_mlp"

    _serialiser = model_serializer(mode="wrap")(leave_out_unset)


class WindowMLP(PooledHead):
    """Hidden layers over mean features, log length, and averages over windows of every feature.

    A feature is averaged over a window around each residue. The largest and smallest go on, and their spread and
    quantiles along the protein. What goes into the hidden layers is shifted by `centre` and divided by `scale`.
    Training on frozen features sets these two once, from the training proteins.
    """

    centre: Float[Array, " d_pooled"]
    scale: Float[Array, " d_pooled"]
    mlp: MLP
    config: WindowMLPConfig = eqx.field(static=True)

    def __init__(self, config: WindowMLPConfig, *, key: PRNGKeyArray):
        each_window = 3 + len(config.quantiles)
        d_pooled = (1 + each_window * len(config.windows)) * config.d_model + 1
        self.centre, self.scale = jnp.zeros(d_pooled), jnp.ones(d_pooled)
        self.mlp = MLP(d_pooled, config.hidden, config.dropout, config.outputs, key=key)
        self.config = config

    @property
    def pooling(self) -> str:
        return f"windows {self.config.windows}, quantiles {self.config.quantiles}"

    @property
    def wants_standardising(self) -> bool:
        return bool((self.centre == 0).all() and (self.scale == 1).all())

    def pool(self, features: Features, mask: Mask) -> Pooled:
        features = masked(features, mask)
        parts = [mean_pool(features, mask), jnp.log(count(mask) / 300).astype(features.dtype)[None]]
        for averages in window_means(features, mask, self.config.windows):
            centred = averages - mean_pool(averages, mask)[None]
            # The root of zero has no slope.
            spread = jnp.sqrt(mean_pool(centred**2, mask) + 1e-6)
            parts += [max_pool(averages, mask), -max_pool(-averages, mask), spread]
            parts += quantile_pool(averages, mask, self.config.quantiles)
        return jnp.concatenate(parts)

    def score(self, pooled: Pooled, *, key: Key = None) -> Logit:
        return self.mlp((pooled - self.centre) / self.scale, key=key)

    def standardise(self, pooled: Float[np.ndarray, "n d_pooled"]) -> "WindowMLP":
        """The head with the scale of what it pools of training proteins."""
        centre, scale = pooled.mean(axis=0, dtype=np.float64), pooled.std(axis=0, dtype=np.float64) + MIN_SPREAD
        # Members of an ensemble have them in rows.
        wide = [jnp.broadcast_to(each.astype(np.float32), self.centre.shape) for each in (centre, scale)]
        return eqx.tree_at(lambda head: (head.centre, head.scale), self, tuple(wide))


def window_means(
    values: Float[Array, "length properties"], mask: Mask, windows: Sequence[int]
) -> list[Float[Array, "length properties"]]:
    """Means over the residues of a window around each position; at the ends of a chain it is shorter."""
    places = jnp.arange(mask.shape[0], dtype=jnp.int32)
    # A chain is what lies between two positions that are no residues.
    start = jax.lax.cummax(jnp.where(mask, 0, places + 1))
    stop = jax.lax.cummin(jnp.where(mask, mask.shape[0], places), reverse=True)
    total = jnp.cumsum(jnp.pad(masked(values, mask), ((1, 0), (0, 0))), axis=0)

    def mean(window: int) -> Float[Array, "length properties"]:
        first = jnp.maximum(places - window // 2, start)
        last = jnp.minimum(places + window // 2 + 1, stop)
        number = jnp.maximum(last - first, 1).astype(values.dtype)
        return (total[last] - total[first]) / number[:, None]

    return [mean(window) for window in windows]
