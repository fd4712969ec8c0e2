"""Multi-layer perceptrons over pooled features."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox.nn import Conv1d, Dropout, Linear
from jaxtyping import Array, Float, PRNGKeyArray
from pydantic import model_serializer

from heads.base import AbstractHead, Features, Key, Logit, Mask, Pooled, PooledHead
from heads.fields import Fraction, OddWidth, Outputs, Width, Widths, configuration, leave_out_unset
from heads.pooling import attention_pool, attention_weights, masked, max_pool, mean_pool


class MLP(eqx.Module):
    """Linear layers with ReLU and dropout between them, and one logit at the end, or `outputs` of them."""

    layers: tuple[Linear, ...]
    dropout: Dropout
    outputs: int | None = eqx.field(static=True)

    def __init__(
        self, d_in: int, hidden: tuple[int, ...], dropout: float, outputs: int | None = None, *, key: PRNGKeyArray
    ):
        widths = (d_in, *hidden, outputs or 1)
        keys = jax.random.split(key, len(widths) - 1)
        self.layers = tuple(
            Linear(d_from, d_to, key=key) for d_from, d_to, key in zip(widths[:-1], widths[1:], keys, strict=True)
        )
        self.dropout = Dropout(dropout)
        self.outputs = outputs

    def __call__(self, x: Float[Array, " d_in"], *, key: Key = None) -> Logit:
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        for layer, layer_key in zip(self.layers[:-1], keys[:-1], strict=True):
            x = self.dropout(jax.nn.relu(layer(x)), key=layer_key, inference=layer_key is None)
        x = self.layers[-1](x)
        return x[0] if self.outputs is None else x


@configuration
class MeanPoolMLPConfig:
    """Sizes of a `MeanPoolMLP`."""

    d_model: Width
    hidden: Widths = (512, 256, 128, 64)
    dropout: Fraction = 0.2
    outputs: Outputs = None
    type: Literal["mean_pool_mlp"] = "mean_pool_mlp"

    _serialiser = model_serializer(mode="wrap")(leave_out_unset)


class MeanPoolMLP(PooledHead):
    """Mean over residues, then hidden layers: the usual head on a frozen language model."""

    mlp: MLP
    config: MeanPoolMLPConfig = eqx.field(static=True)

    def __init__(self, config: MeanPoolMLPConfig, *, key: PRNGKeyArray):
        self.mlp = MLP(config.d_model, config.hidden, config.dropout, config.outputs, key=key)
        self.config = config

    @property
    def pooling(self) -> str:
        return "mean"

    def pool(self, features: Features, mask: Mask) -> Pooled:
        return mean_pool(features, mask)

    def score(self, pooled: Pooled, *, key: Key = None) -> Logit:
        return self.mlp(pooled, key=key)


@configuration
class AttentionPoolMLPConfig:
    """Sizes of an `AttentionPoolMLP`."""

    d_model: Width
    kernel: OddWidth = 9
    hidden: Widths = (32,)
    dropout: Fraction = 0.25
    outputs: Outputs = None
    type: Literal["attention_pool_mlp"] = "attention_pool_mlp"

    _serialiser = model_serializer(mode="wrap")(leave_out_unset)


class AttentionPoolMLP(AbstractHead):
    """Light attention: attention and maximum over residues of convolved features, then an MLP.

    Staerk et al. 2021, doi:10.1093/bioadv/vbab035.
    """

    scores: Conv1d
    values: Conv1d
    mlp: MLP
    config: AttentionPoolMLPConfig = eqx.field(static=True)

    def __init__(self, config: AttentionPoolMLPConfig, *, key: PRNGKeyArray):
        scores, values, mlp = jax.random.split(key, 3)
        d_model, kernel = config.d_model, config.kernel
        self.scores = Conv1d(d_model, d_model, kernel, padding="SAME", key=scores)
        self.values = Conv1d(d_model, d_model, kernel, padding="SAME", key=values)
        self.mlp = MLP(2 * d_model, config.hidden, config.dropout, config.outputs, key=mlp)
        self.config = config

    def __call__(self, features: Features, mask: Mask, *, key: Key = None) -> Logit:
        channels = masked(features, mask).T
        scores, values = self.scores(channels).T, self.values(channels).T
        pooled = [attention_pool(scores, values, mask), max_pool(values, mask)]
        return self.mlp(jnp.concatenate(pooled), key=key)

    def pooling_weights(self, features: Features, mask: Mask) -> Float[Array, " length"]:
        """The weights of the attention, averaged over features."""
        return attention_weights(self.scores(masked(features, mask).T).T, mask).mean(axis=1)
