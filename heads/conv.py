"""The convolutional baseline."""

from typing import Literal

import equinox as eqx
import jax
from equinox.nn import Conv1d, Linear
from jaxtyping import PRNGKeyArray
from pydantic import model_serializer

from heads.base import AbstractHead, Features, Key, Logit, Mask
from heads.fields import Fraction, OddWidth, Outputs, Width, Widths, configuration, leave_out_unset
from heads.mlp import MLP
from heads.pooling import masked, max_pool


@configuration
class ConvolutionConfig:
    """Sizes of a `Convolution`."""

    d_model: Width
    d_embedding: Width = 32
    channels: Width = 128
    kernel: OddWidth = 9
    hidden: Widths = (128,)
    dropout: Fraction = 0.3
    outputs: Outputs = None
    type: Literal["convolution"] = "convolution"

    _serialiser = model_serializer(mode="wrap")(leave_out_unset)


class Convolution(AbstractHead):
    """Embedding, two 1-D convolutions with ReLU, maximum over residues, hidden layers."""

    embedding: Linear
    first: Conv1d
    second: Conv1d
    mlp: MLP
    config: ConvolutionConfig = eqx.field(static=True)

    def __init__(self, config: ConvolutionConfig, *, key: PRNGKeyArray):
        embedding, first, second, mlp = jax.random.split(key, 4)
        d_embedding, channels, kernel = config.d_embedding, config.channels, config.kernel
        self.embedding = Linear(config.d_model, d_embedding, use_bias=False, key=embedding)
        self.first = Conv1d(d_embedding, channels, kernel, padding="SAME", key=first)
        self.second = Conv1d(channels, channels, kernel, padding="SAME", key=second)
        self.mlp = MLP(channels, config.hidden, config.dropout, config.outputs, key=mlp)
        self.config = config

    def __call__(self, features: Features, mask: Mask, *, key: Key = None) -> Logit:
        x = masked(jax.vmap(self.embedding)(features), mask)
        # The bias makes padding non-zero, so it is cleared before the next layer reads it.
        x = masked(jax.nn.relu(self.first(x.T)).T, mask)
        x = jax.nn.relu(self.second(x.T)).T
        return self.mlp(max_pool(x, mask), key=key)
