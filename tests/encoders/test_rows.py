"""Layers on all positions at once, against torch and against the layer on one vector."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from equinox.nn import LayerNorm

from eqxesm.encoders.rows import normalise

X = 3 * jax.random.normal(jax.random.key(0), (7, 24)) + 5


def make(use_bias: bool) -> LayerNorm:
    weight, bias = jax.random.normal(jax.random.key(1), (2, 24))
    norm = LayerNorm(24, eps=1e-5, use_bias=use_bias)
    norm = eqx.tree_at(lambda norm: norm.weight, norm, weight)
    return eqx.tree_at(lambda norm: norm.bias, norm, bias) if use_bias else norm


@pytest.mark.parametrize("use_bias", [True, False])
def test_norm_and_its_derivatives_are_those_of_torch(use_bias):
    norm, pull = make(use_bias), jax.random.normal(jax.random.key(2), X.shape)
    ours, vjp = jax.vjp(lambda norm, x: normalise(norm, x), norm, X)
    by_norm, by_x = vjp(pull)
    x, weight = (torch.tensor(np.asarray(each), dtype=torch.float64, requires_grad=True) for each in (X, norm.weight))
    bias = torch.tensor(np.asarray(norm.bias), dtype=torch.float64) if use_bias else None
    theirs = torch.nn.functional.layer_norm(x, (24,), weight, bias, 1e-5)
    theirs.backward(torch.tensor(np.asarray(pull), dtype=torch.float64))
    np.testing.assert_allclose(ours, theirs.detach(), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(by_x, x.grad, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(by_norm.weight, weight.grad, rtol=2e-5, atol=2e-5)
    if use_bias:
        np.testing.assert_allclose(by_norm.bias, np.asarray(pull).sum(axis=0), rtol=2e-5, atol=2e-5)


def test_norm_has_forward_and_second_derivatives():
    """Against autodiff of the layer on one vector."""
    norm = make(use_bias=True)
    change = jax.random.normal(jax.random.key(3), X.shape)
    expected = jax.jvp(jax.vmap(norm), (X,), (change,))
    found = jax.jvp(lambda x: normalise(norm, x), (X,), (change,))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)
    curved = jax.hessian(lambda x: (normalise(norm, x) ** 3).sum())(X[:1])
    np.testing.assert_allclose(curved, jax.hessian(lambda x: (norm(x[0]) ** 3).sum())(X[:1]), rtol=1e-3, atol=1e-4)
