"""Layers of one vector, applied to all positions at once.

The same as `jax.vmap(layer)`, with positions first in every product, which on a CPU makes training about
a third faster.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from equinox.nn import LayerNorm, Linear
from jaxtyping import Array, Float

Features = Float[Array, "length d_model"]


def at_least_float32(x: Float[Array, "..."]) -> jnp.dtype:
    """The precision of norms, softmax and rotary embeddings, which must not run in half."""
    return max(x.dtype, jnp.dtype(jnp.float32), key=lambda dtype: dtype.itemsize)


def project(layer: Linear | Callable, x: Float[Array, "length d_in"]) -> Float[Array, "length d_out"]:
    """Apply a linear layer without bias, or what stands in its place."""
    return jnp.einsum("li,oi->lo", x, layer.weight) if isinstance(layer, Linear) else layer(x)


def normalise(norm: LayerNorm, x: Features) -> Features:
    """Apply a layer norm, computed in at least float32."""
    wide = at_least_float32(x)
    y = standardise(x.astype(wide), norm.eps)
    if norm.weight is not None:
        y *= norm.weight.astype(wide)[None]
    if norm.bias is not None:
        y += norm.bias.astype(wide)[None]
    return y.astype(x.dtype)


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
