"""Logits of every residue."""

from typing import Literal

import equinox as eqx
import jax
from equinox.nn import Conv1d, Dropout, Linear
from jaxtyping import PRNGKeyArray
from pydantic import model_serializer

from heads.base import AbstractHead, Features, Key, Logit, Mask
from heads.fields import Fraction, OddWidth, Outputs, Width, configuration, leave_out_unset
from heads.pooling import masked


@configuration
class ResidueConvolutionConfig:
    """Sizes of a `ResidueConvolution`."""

    d_model: Width
    channels: Width = 64
    kernel: OddWidth = 15
    dropout: Fraction = 0.2
    outputs: Outputs = 1
    type: Literal["residue_convolution"] = "residue_convolution"
    _serialiser = model_serializer(mode="wrap")(leave_out_unset)


class ResidueConvolution(AbstractHead):
    """A convolution over neighbours with ReLU, and a linear layer for every residue."""

    per_residue = True

    convolution: Conv1d
    linear: Linear
    dropout: Dropout
    config: ResidueConvolutionConfig = eqx.field(static=True)

    def __init__(self, config: ResidueConvolutionConfig, *, key: PRNGKeyArray):
        convolution, linear = jax.random.split(key)
        self.convolution = Conv1d(config.d_model, config.channels, config.kernel, padding="SAME", key=convolution)
        self.linear = Linear(config.channels, config.outputs or 1, key=linear)
        self.dropout = Dropout(config.dropout)
        self.config = config

    def __call__(self, features: Features, mask: Mask, *, key: Key = None) -> Logit:
        x = jax.nn.relu(self.convolution(masked(features, mask).T)).T
        return jax.vmap(self.linear)(self.dropout(x, key=key, inference=key is None))
