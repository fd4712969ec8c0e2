"""From one vector per residue to one per protein, whatever the padding holds."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from heads.base import Features, Mask, Pooled


def at_least_float32(x: Float[Array, "..."]) -> jnp.dtype:
    """The precision of sums, norms, softmax and rotary embeddings, which must not run in half."""
    return max(x.dtype, jnp.dtype(jnp.float32), key=lambda dtype: dtype.itemsize)


def count(mask: Mask) -> Float[Array, ""]:
    """Number of residues, at least 1 so that it can divide."""
    return jnp.maximum(mask.sum(), 1).astype(jnp.float32)


def masked(features: Features, mask: Mask) -> Features:
    """Features, set to zero where the mask is False, even where they are NaN."""
    return jnp.where(mask[:, None], features, 0)


def mean_pool(features: Features, mask: Mask) -> Pooled:
    """Mean over residues, summed in at least float32."""
    total = masked(features, mask).sum(axis=0, dtype=at_least_float32(features))
    return (total / count(mask).astype(total.dtype)).astype(features.dtype)


def max_pool(features: Features, mask: Mask) -> Pooled:
    """Maximum over residues; zero for a protein without any."""
    largest = jnp.where(mask[:, None], features, -jnp.inf).max(axis=0)
    return jnp.where(mask.any(), largest, 0)


def quantile_pool(features: Features, mask: Mask, quantiles: Sequence[float]) -> list[Pooled]:
    """Quantiles over residues, interpolated as numpy does; zero for a protein without any."""
    if not quantiles:
        return []
    # Padding comes last.
    ordered = jnp.sort(jnp.where(mask[:, None], features, jnp.inf), axis=0)
    last = jnp.maximum(mask.sum() - 1, 0).astype(jnp.int32)

    def at(quantile: float) -> Pooled:
        place = quantile * last.astype(jnp.float32)
        below = jnp.floor(place).astype(jnp.int32)
        low, high = ordered[below], ordered[jnp.minimum(below + 1, last)]
        return jnp.where(mask.any(), low + (high - low) * (place - jnp.floor(place)).astype(features.dtype), 0)

    return [at(each) for each in quantiles]


def attention_weights(scores: Features, mask: Mask) -> Features:
    """A softmax of `scores` over residues, per feature, in at least float32."""
    return jax.nn.softmax(scores.astype(at_least_float32(scores)), axis=0, where=mask[:, None])


def attention_pool(scores: Features, values: Features, mask: Mask) -> Pooled:
    """Mean over residues, by `attention_weights`."""
    pooled = (attention_weights(scores, mask) * masked(values, mask).astype(at_least_float32(values))).sum(axis=0)
    return pooled.astype(values.dtype)
