"""Heads: from the features of one protein and a mask to a logit.

They know nothing of where features come from, so the same heads serve ESM-C, one-hot features and
any other encoder.
"""

from heads.base import AbstractHead
from heads.composition import CompositionMLP, CompositionMLPConfig
from heads.conv import Convolution, ConvolutionConfig
from heads.mlp import AttentionPoolMLP, AttentionPoolMLPConfig, MeanPoolMLP, MeanPoolMLPConfig

HEADS = {
    "mean_pool_mlp": (MeanPoolMLPConfig, MeanPoolMLP),
    "attention_pool_mlp": (AttentionPoolMLPConfig, AttentionPoolMLP),
    "convolution": (ConvolutionConfig, Convolution),
    "composition_mlp": (CompositionMLPConfig, CompositionMLP),
}
"""Configuration class and head class by the name that a checkpoint uses."""

__all__ = [
    "HEADS",
    "AbstractHead",
    "AttentionPoolMLP",
    "AttentionPoolMLPConfig",
    "CompositionMLP",
    "CompositionMLPConfig",
    "Convolution",
    "ConvolutionConfig",
    "MeanPoolMLP",
    "MeanPoolMLPConfig",
]
