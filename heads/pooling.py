"""From one vector per residue to one per protein, blind to padding."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def count(mask: Bool[Array, " length"]) -> Float[Array, ""]:
    """Count residues, at least 1 so that an empty protein divides nothing by zero.

    Args:
        mask: True at residues `[length]`.

    Returns:
        Their number as float32.
    """
    return jnp.maximum(mask.sum(), 1).astype(jnp.float32)


def masked(
    features: Float[Array, "length d_model"], mask: Bool[Array, " length"]
) -> Float[Array, "length d_model"]:
    """Set features to zero where there is no residue, whatever stood there.

    Args:
        features: one vector per position `[length d_model]`.
        mask: True at residues `[length]`.

    Returns:
        The features, zero elsewhere.
    """
    return jnp.where(mask[:, None], features, 0)


def mean_pool(
    features: Float[Array, "length d_model"], mask: Bool[Array, " length"]
) -> Float[Array, " d_model"]:
    """Average over residues, in float32.

    Args:
        features: one vector per position `[length d_model]`.
        mask: True at residues `[length]`.

    Returns:
        The mean `[d_model]` in the dtype of the features; zero for no residues.
    """
    total = masked(features, mask).sum(axis=0, dtype=jnp.float32)
    return (total / count(mask)).astype(features.dtype)


def max_pool(
    features: Float[Array, "length d_model"], mask: Bool[Array, " length"]
) -> Float[Array, " d_model"]:
    """Take the largest value over residues of each feature.

    Args:
        features: one vector per position `[length d_model]`.
        mask: True at residues `[length]`.

    Returns:
        The maximum `[d_model]`; zero for no residues.
    """
    largest = jnp.where(mask[:, None], features, -jnp.inf).max(axis=0)
    return jnp.where(mask.any(), largest, 0)


def attention_pool(
    scores: Float[Array, "length d_model"],
    values: Float[Array, "length d_model"],
    mask: Bool[Array, " length"],
) -> Float[Array, " d_model"]:
    """Average over residues, each feature by its own softmax of scores over residues, in float32.

    Args:
        scores: how much each residue counts for each feature `[length d_model]`.
        values: what is averaged `[length d_model]`.
        mask: True at residues `[length]`.

    Returns:
        The weighted mean `[d_model]` in the dtype of the values; zero for no residues.
    """
    weights = jax.nn.softmax(scores.astype(jnp.float32), axis=0, where=mask[:, None])
    pooled = (weights * masked(values, mask).astype(jnp.float32)).sum(axis=0)
    return pooled.astype(values.dtype)
