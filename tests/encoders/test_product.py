"""The product that stays one product under `vmap`, against a plain one, in every order of transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equinox.nn import LayerNorm

from eqxesm.encoders.product import product
from eqxesm.encoders.rows import normalise

X = jax.random.normal(jax.random.key(0), (4, 5, 3))
W = jax.random.normal(jax.random.key(1), (2, 3))


def plain(x, weight):
    return x @ weight.T


def gradient(f):
    return jax.grad(lambda x, weight: (jnp.tanh(f(x, weight)) ** 2).sum(), argnums=(0, 1))


def batched_loss(f):
    return lambda x, weight: (jnp.tanh(jax.vmap(f, (0, None))(x, weight)) ** 2).sum()


@pytest.mark.parametrize(
    "transformed",
    [
        lambda f: f(X[0], W),
        lambda f: jax.jit(f)(X[0], W),
        lambda f: jax.vmap(f, (0, None))(X, W),
        lambda f: jax.vmap(f, (2, None))(X.transpose(1, 2, 0), W),
        lambda f: jax.vmap(f, (None, 0))(X[0], jnp.stack([W, 2 * W])),
        lambda f: jax.vmap(f)(X[:2], jnp.stack([W, 2 * W])),
        lambda f: jax.vmap(jax.vmap(f, (0, None)), (0, None))(X.reshape(2, 2, 5, 3), W),
        lambda f: gradient(f)(X[0], W),
        lambda f: jax.vmap(gradient(f), (0, None))(X, W),
        lambda f: jax.grad(batched_loss(f), argnums=(0, 1))(X, W),
        lambda f: jax.grad(jax.checkpoint(batched_loss(f)), argnums=(0, 1))(X, W),
        lambda f: jax.hessian(batched_loss(f), argnums=(0, 1))(X[:2], W),
        lambda f: jax.jvp(f, (X[0], W), (X[1], 2 * W)),
        lambda f: f(X[0].astype(jnp.bfloat16), W.astype(jnp.bfloat16)),
    ],
)
def test_it_is_the_plain_product(transformed):
    found, expected = jax.tree.leaves(transformed(product)), jax.tree.leaves(transformed(plain))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=1e-5, atol=1e-6)


def test_the_gradient_of_a_batch_is_one_product_of_matrices():
    """A product over two axes would be transposed first."""
    jaxpr = jax.make_jaxpr(jax.grad(batched_loss(product), argnums=1))(X, W)
    dots = [equation for equation in jaxpr.eqns if equation.primitive.name == "dot_general"]
    assert [[each.aval.shape for each in dot.invars] for dot in dots] == [[(20, 2), (20, 3)]]


def test_the_gradient_of_a_gain_sums_a_batch_by_products():
    """XLA's own sum over a batch takes a sixth of a training step on a CPU."""
    norm = LayerNorm(3)
    gradient = jax.grad(lambda norm: jnp.tanh(jax.vmap(lambda x: normalise(norm, x))(X)).sum())
    equations = jax.make_jaxpr(gradient)(norm).eqns
    sums = [each.params["axes"] for each in equations if each.primitive.name == "reduce_sum"]
    assert (0,) not in sums


def test_factors_are_not_rounded_where_they_must_not_be():
    dots = jax.make_jaxpr(lambda x, weight: product(x, weight, precision="highest"))(X[0], W)
    assert "precision=highest" in str(dots)
    assert "HIGHEST" in str(jax.jit(lambda x, w: product(x, w, precision="highest")).lower(X[0], W).as_text())
