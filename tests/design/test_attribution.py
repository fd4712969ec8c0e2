"""Attributions: closed forms, completeness, and nothing that padding or batching could change."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from paths import EXAMPLES
from training_sets import tiny

from eqxesm import SolubilityModel, Tokenizer
from eqxesm.alphabet import FIRST_RESIDUE, PAD, STANDARD
from eqxesm.data.proteins import read_proteins
from eqxesm.design import gradient_times_input, integrated_gradients, mean_residue, occlusion
from eqxesm.encoders import as_probabilities

TOKENS = Tokenizer().encode("MKVLAAGWDEX")
SLOPES = np.random.default_rng(0).normal(size=(len(TOKENS), 64)).astype(np.float32)


def linear(soft):
    return (soft * SLOPES).sum()


def test_the_baseline_is_an_even_mixture_at_residues():
    soft = np.asarray(mean_residue(TOKENS))
    np.testing.assert_array_equal(soft[[0, -1]], np.asarray(as_probabilities(TOKENS))[[0, -1]])
    np.testing.assert_allclose(soft[1:-1].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(soft[1:-1, FIRST_RESIDUE : FIRST_RESIDUE + 20], 0.05)


@pytest.mark.parametrize("method", [gradient_times_input, occlusion, lambda *a: integrated_gradients(*a).values])
def test_of_a_linear_function_all_are_the_difference_to_the_baseline(method):
    soft, start = np.asarray(as_probabilities(TOKENS)), np.asarray(mean_residue(TOKENS))
    np.testing.assert_allclose(method(linear, TOKENS), ((soft - start) * SLOPES).sum(axis=1), atol=2e-5)


def test_integrated_gradients_of_a_product_are_shared_evenly():
    """Of f = u v, with u and v linear, the integral along the line is in closed form."""
    u, v = (np.zeros_like(SLOPES) for _ in range(2))
    u[3], v[5] = SLOPES[3], SLOPES[5]

    def product(soft):
        return (soft * u).sum() * (soft * v).sum()

    found = integrated_gradients(product, TOKENS)
    soft, start = np.asarray(as_probabilities(TOKENS)), np.asarray(mean_residue(TOKENS))
    (u0, u1), (v0, v1) = ([(each * w).sum() for each in (start, soft)] for w in (u, v))
    assert found.values[3] == pytest.approx((u1 - u0) * (v0 + v1) / 2, abs=1e-5)
    assert found.values[5] == pytest.approx((v1 - v0) * (u0 + u1) / 2, abs=1e-5)
    assert found.value - found.baseline_value == pytest.approx(u1 * v1 - u0 * v0, abs=1e-5)
    assert abs(found.gap) < 1e-5


def test_padding_and_batching_change_nothing():
    model = tiny()
    alone = integrated_gradients(model, TOKENS, steps=8).values
    batch = np.full((2, 20), PAD, np.int32)
    batch[0, : len(TOKENS)] = TOKENS
    batch[1, :9] = TOKENS[[0, 3, 2, 1, 4, 5, 6, 7, -1]]
    padded = jax.vmap(lambda tokens: integrated_gradients(model, tokens, steps=8).values)(jnp.asarray(batch))
    np.testing.assert_allclose(padded[0, : len(TOKENS)], alone, atol=1e-5)
    np.testing.assert_array_equal(padded[0, len(TOKENS) :], 0)


@pytest.mark.slow
def test_occlusion_is_what_is_lost_without_a_residue():
    model = tiny()
    found, start = occlusion(model, TOKENS, batch_size=4), mean_residue(TOKENS)
    for position in (1, 7):
        soft = as_probabilities(TOKENS).at[position].set(start[position])
        assert found[position] == pytest.approx(float(model(TOKENS) - model(soft)), abs=1e-5)
    assert found[0] == pytest.approx(0, abs=1e-6)


def test_gradient_of_the_default_model_is_that_of_finite_differences():
    """In float64, at a soft sequence: at a hard one, extremes of windows are tied, and have no one slope."""
    with jax.enable_x64(True):
        default = SolubilityModel.from_pretrained()
        model = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if eqx.is_inexact_array(x) else x, default)
        soft = np.array(as_probabilities(Tokenizer().encode("MKVLAAGWDEFFPPLMKVLAACN")), np.float64)
        soft[1:-1, STANDARD] = np.random.default_rng(0).dirichlet(np.ones(20), len(soft) - 2)
        slope = eqx.filter_jit(lambda model, soft: jax.grad(model)(soft))(model, jnp.asarray(soft))
        value = eqx.filter_jit(model)
        for seed in range(3):
            direction = np.random.default_rng(seed).normal(size=soft.shape)
            # Small, since the extremes soon change places.
            step = 1e-8 * direction
            expected = float(value(jnp.asarray(soft + step)) - value(jnp.asarray(soft - step))) / 2e-8
            assert float((slope * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_contributions_add_up_for_the_default_model():
    model = SolubilityModel.from_pretrained()
    (protein,) = [each for each in read_proteins(EXAMPLES / "proteins.fasta") if "BPT1" in each.id]
    tokens = model.tokenize(model.clean(protein.sequence))
    found = eqx.filter_jit(integrated_gradients)(model, tokens)
    assert found.value == pytest.approx(float(model(tokens)), abs=1e-5)
    assert abs(found.gap) <= max(0.01, 0.01 * abs(found.value - found.baseline_value))
