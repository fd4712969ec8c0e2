"""Layers of one vector, applied to all positions at once.

The same as `jax.vmap(layer)`, with positions first in every product, which on a CPU makes training about
a third faster.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from equinox.nn import LayerNorm, Linear
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from eqxesm.encoders.product import product
from heads.pooling import at_least_float32

Features = Float[Array, "length d_model"]

ChainIds = Int[Array, " length"]

NORM_EPS = 1e-5

SAVED = "saved"
"""Name of the results that the backward pass keeps; it computes the cheaper ones between them again."""


def save(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Keep a result for the backward pass."""
    return checkpoint_name(x, SAVED)


def project(layer: Linear | Callable, x: Float[Array, "length d_in"]) -> Float[Array, "length d_out"]:
    """Apply a linear layer, or what stands in its place."""
    if not isinstance(layer, Linear):
        return layer(x)
    y = product(x, layer.weight)
    if layer.bias is not None:
        y += repeat(layer.bias, y)
    # Without the barrier, XLA works out the gradient of the result twice, once for each product that needs it.
    return jax.lax.optimization_barrier(save(y))


def normalise(norm: LayerNorm, x: Features) -> Features:
    """Apply a layer norm, computed in at least float32."""
    wide = at_least_float32(x)
    y = standardise(x.astype(wide), norm.eps)
    if norm.weight is not None:
        y *= repeat(norm.weight.astype(wide), x)
    if norm.bias is not None:
        y += repeat(norm.bias.astype(wide), x)
    return y.astype(x.dtype)


def repeat(row: Float[Array, " d_model"], x: Features) -> Features:
    """The same row for every position of `x`, whose width does not matter."""
    # By a product, so that the gradient is summed by one: XLA's own sum over rows is slow on a CPU. Ones that come from
    # `x` are batched as it is, and so is the product. Accelerators would round what they multiply.
    ones = ((x[:, :1] > 0) | True).astype(row.dtype)
    return product(ones, row[:, None], precision="highest")


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def standardise(x: Features, eps: float) -> Features:
    """Scale every vector to mean 0 and variance 1."""
    return _standardise(x, eps)[0]


@standardise.defjvp
def _differentiate(eps: float, primals: tuple[Features], tangents: tuple[Features]) -> tuple[Features, Features]:
    # Autodiff would keep more arrays for the backward pass.
    (x,), (change,) = primals, tangents
    y, scale = _standardise(x, eps)
    along = (y * change).mean(axis=-1, keepdims=True)
    return y, (change - change.mean(axis=-1, keepdims=True) - y * along) * scale


def _standardise(x: Features, eps: float) -> tuple[Features, Float[Array, "length 1"]]:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + eps)
    return centred * scale, scale
