"""The product of all positions with a weight, which stays one product of matrices when it is batched.

Under `jax.vmap`, the gradient of a weight sums over two axes of a plain product, batch and positions. On a CPU, XLA
then transposes both factors first, which makes training up to a fifth slower. A primitive of its own can say that a
batch of proteins is no more than a longer one.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

_product = Primitive("product")


def product(
    x: Float[Array, "length d_in"], weight: Float[Array, "d_out d_in"], *, exact: bool = False
) -> Float[Array, "length d_out"]:
    """`x @ weight.T`, with factors that an accelerator must not round if `exact`."""
    return _product.bind(x, weight, exact=exact)


def _precision(exact: bool) -> str | None:
    return "highest" if exact else None


@_product.def_impl
@partial(jax.jit, static_argnames="exact")
def _multiply(x: Any, weight: Any, *, exact: bool) -> Array:
    return jnp.einsum("li,oi->lo", x, weight, precision=_precision(exact))


@_product.def_abstract_eval
def _shape(x: Any, weight: Any, *, exact: bool) -> ShapedArray:
    del exact
    return ShapedArray((x.shape[0], weight.shape[0]), jnp.result_type(x, weight))


def _batch(arguments: tuple[Any, Any], axes: tuple[Any, Any], *, exact: bool) -> tuple[Array, int]:
    (x, weight), (x_axis, weight_axis) = arguments, axes
    if weight_axis is not None:
        return jax.vmap(partial(_multiply, exact=exact), axes)(x, weight), 0
    x = jnp.moveaxis(x, x_axis, 0)
    y = product(x.reshape(-1, x.shape[-1]), weight, exact=exact)
    return y.reshape(*x.shape[:2], -1), 0


def _change_x(change: Array, _: Any, weight: Array, *, exact: bool) -> Array:
    return product(change, weight.T, exact=exact)


def _change_weight(change: Array, x: Array, _: Any, *, exact: bool) -> Array:
    return jnp.einsum("lo,li->oi", change, x, precision=_precision(exact))


mlir.register_lowering(_product, mlir.lower_fun(_multiply, multiple_results=False))
batching.primitive_batchers[_product] = _batch
ad.defbilinear(_product, _change_x, _change_weight)
