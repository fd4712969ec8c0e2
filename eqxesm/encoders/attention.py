"""Multi-head self-attention with rotary positions, for one protein."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from equinox.nn import LayerNorm, Linear
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from eqxesm.encoders.config import ESMCConfig

Features = Float[Array, "length d_model"]
HeadVectors = Float[Array, "heads length d_head"]
Angles = Float[Array, "length half"]
PairMask = Bool[Array, "length length"]

ROTARY_BASE = 10000.0
NORM_EPS = 1e-5


def at_least_float32(x: Float[Array, "..."]) -> jnp.dtype:
    """The precision of norms, softmax and rotary embeddings, which must not run in half."""
    return max(x.dtype, jnp.dtype(jnp.float32), key=lambda dtype: dtype.itemsize)


def rotary_angles(length: int, d_head: int) -> Angles:
    """Angles in radians by which rotary embeddings turn each pair of a head's features."""
    # As torch computes them: a last digit of a frequency is 6e-5 radians at position 2,000.
    powers = ROTARY_BASE ** (np.arange(0, d_head, 2) / d_head)
    frequencies = np.float32(1) / powers.astype(np.float32)
    return jnp.arange(length, dtype=jnp.float32)[:, None] * jnp.asarray(frequencies)[None, :]


def rotate(x: HeadVectors, angles: Angles) -> HeadVectors:
    """Turn queries or keys by their positions, pairing feature `i` with `i + d_head / 2`."""
    wide = at_least_float32(x)
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    cos, sin = jnp.cos(angles).astype(wide)[None], jnp.sin(angles).astype(wide)[None]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def attend(query: HeadVectors, key: HeadVectors, value: HeadVectors, mask: PairMask) -> HeadVectors:
    """Scaled dot-product attention. `mask` is True where a row may attend to a column."""
    scores = jnp.einsum("hqd,hkd->hqk", query, key, preferred_element_type=at_least_float32(query))
    scores = jnp.where(mask[None], scores / math.sqrt(query.shape[-1]), -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("hqk,hkd->hqd", weights, value)


class Attention(eqx.Module):
    """Self-attention with normalised queries and keys and rotary positions."""

    query: Linear
    key: Linear
    value: Linear
    query_norm: LayerNorm
    key_norm: LayerNorm
    out: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, config: ESMCConfig, *, key: PRNGKeyArray):
        def linear(key: PRNGKeyArray) -> Linear:
            return Linear(config.d_model, config.d_model, use_bias=False, key=key)

        self.query, self.key, self.value, self.out = map(linear, jax.random.split(key, 4))
        self.query_norm = LayerNorm(config.d_model, eps=NORM_EPS, use_bias=False)
        self.key_norm = LayerNorm(config.d_model, eps=NORM_EPS, use_bias=False)
        self.heads = config.heads

    def __call__(self, x: Features, angles: Angles, mask: PairMask) -> Features:
        def split(x: Features) -> HeadVectors:
            return rearrange(x, "length (heads d) -> heads length d", heads=self.heads)

        # The norms span all heads, so they come before the split.
        query = split(jax.vmap(self.query_norm)(jax.vmap(self.query)(x)))
        key = split(jax.vmap(self.key_norm)(jax.vmap(self.key)(x)))
        value = split(jax.vmap(self.value)(x))
        mixed = attend(rotate(query, angles), rotate(key, angles), value, mask)
        return jax.vmap(self.out)(rearrange(mixed, "heads length d -> length (heads d)"))
