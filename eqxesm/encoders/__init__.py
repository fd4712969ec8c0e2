"""Encoders: from one protein to one feature vector per position."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from eqxesm.encoders.base import (
    AbstractEncoder,
    Inputs,
    as_probabilities,
    padding_mask,
    residue_mask,
)
from eqxesm.encoders.config import D_HEAD, PRESETS, ESMCConfig
from eqxesm.encoders.esmc import ESMC, TYPES, ESMCOutput
from eqxesm.encoders.onehot import OneHot, OneHotConfig

ENCODERS = {**TYPES, "one_hot": (OneHotConfig, OneHot)}
"""Configuration class and encoder class by the name that `config.json` uses."""


def cast(tree: PyTree, dtype: jnp.dtype | type) -> PyTree:
    """Change the precision of every floating-point array in a model.

    Args:
        tree: any model or part of one.
        dtype: the new floating-point dtype, such as `jnp.bfloat16`.

    Returns:
        A tree of the same structure.
    """
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)


__all__ = [
    "D_HEAD",
    "ENCODERS",
    "ESMC",
    "PRESETS",
    "AbstractEncoder",
    "ESMCConfig",
    "ESMCOutput",
    "Inputs",
    "OneHot",
    "OneHotConfig",
    "as_probabilities",
    "cast",
    "padding_mask",
    "residue_mask",
]
