"""Averages of residue properties over windows, and their extremes along the protein."""

from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from annotated_types import MaxLen, MinLen
from equinox.nn import Linear
from jaxtyping import Array, Float, PRNGKeyArray
from pydantic import Strict

from heads.base import AbstractHead, Features, Key, Logit, Mask
from heads.fields import Fraction, OddWidth, Width, Widths, configuration
from heads.mlp import MLP
from heads.pooling import count, masked, max_pool, mean_pool

Windows = Annotated[tuple[OddWidth, ...], Strict(False), MinLen(1), MaxLen(64)]


@configuration
class WindowMLPConfig:
    """Sizes of a `WindowMLP`. `properties` is how many are learned; `windows` are in residues."""

    d_model: Width
    properties: Width = 16
    windows: Windows = (7, 19, 41)
    hidden: Widths = (128,)
    dropout: Fraction = 0.3
    type: Literal["window_mlp"] = "window_mlp"


class WindowMLP(AbstractHead):
    """Hidden layers over mean features, log length, and what windows say of learned properties.

    A property, such as charge or hydropathy, is linear in the features of a residue. It is averaged over windows
    around each residue; their largest and smallest value and their spread along the protein go on.
    """

    property: Linear
    mlp: MLP
    config: WindowMLPConfig = eqx.field(static=True)

    def __init__(self, config: WindowMLPConfig, *, key: PRNGKeyArray):
        first, second = jax.random.split(key)
        self.property = Linear(config.d_model, config.properties, use_bias=False, key=first)
        d_in = config.d_model + 1 + 3 * len(config.windows) * config.properties
        self.mlp = MLP(d_in, config.hidden, config.dropout, key=second)
        self.config = config

    def __call__(self, features: Features, mask: Mask, *, key: Key = None) -> Logit:
        features = masked(features, mask)
        properties = features @ self.property.weight.T
        parts = [mean_pool(features, mask), jnp.log(count(mask) / 300).astype(features.dtype)[None]]
        for window in self.config.windows:
            averages = window_mean(properties, mask, window)
            centred = averages - mean_pool(averages, mask)[None]
            # The root of zero has no slope.
            spread = jnp.sqrt(mean_pool(centred**2, mask) + 1e-6)
            parts += [max_pool(averages, mask), -max_pool(-averages, mask), spread]
        return self.mlp(jnp.concatenate(parts), key=key)


def window_mean(
    values: Float[Array, "length properties"], mask: Mask, window: int
) -> Float[Array, "length properties"]:
    """Mean over the residues of the window around each position; at the ends of the protein it is shorter."""
    reach = window // 2

    def add_up(x: Float[Array, "length columns"]) -> Float[Array, "length columns"]:
        total = jnp.cumsum(jnp.pad(x, ((reach + 1, reach), (0, 0))), axis=0)
        return total[window:] - total[:-window]

    return add_up(masked(values, mask)) / jnp.maximum(add_up(mask[:, None].astype(values.dtype)), 1)
