"""The frequency baseline."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray
from pydantic import model_serializer

from heads.base import Features, Key, Logit, Mask, Pooled, PooledHead
from heads.fields import Fraction, Outputs, Width, Widths, configuration, leave_out_unset
from heads.mlp import MLP
from heads.pooling import count, mean_pool


@configuration
class CompositionMLPConfig:
    """Sizes of a `CompositionMLP`."""

    d_model: Width
    hidden: Widths = (64, 64)
    dropout: Fraction = 0.2
    outputs: Outputs = None
    type: Literal["composition_mlp"] = "composition_mlp"

    _serialiser = model_serializer(mode="wrap")(leave_out_unset)


class CompositionMLP(PooledHead):
    """Amino-acid frequencies and log length through hidden layers. Takes one-hot features."""

    mlp: MLP
    config: CompositionMLPConfig = eqx.field(static=True)

    def __init__(self, config: CompositionMLPConfig, *, key: PRNGKeyArray):
        self.mlp = MLP(config.d_model + 1, config.hidden, config.dropout, config.outputs, key=key)
        self.config = config

    @property
    def pooling(self) -> str:
        return "composition"

    def pool(self, features: Features, mask: Mask) -> Pooled:
        # Scaled to about 1: a residue's frequency is near 1/20, a length near 300.
        frequencies = 20 * mean_pool(features, mask)
        length = jnp.log(count(mask) / 300).astype(features.dtype)
        return jnp.concatenate([frequencies, length[None]])

    def score(self, pooled: Pooled, *, key: Key = None) -> Logit:
        return self.mlp(pooled, key=key)
