"""Loss terms: what the model says of a hard sequence, gradients of soft ones, and an optimiser that uses them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checkpoints import make_encoder
from training_sets import tiny

from eqxesm import InputError, Tokenizer
from eqxesm.alphabet import MASK, VOCABULARY
from eqxesm.design import ORDER, PseudoLikelihoodTerm, SolubilityTerm, place

PROTEIN = "MKVLAAGWDE"
KEY = jax.random.key(0)


def hard(protein: str = PROTEIN):
    return jnp.asarray(np.array([[letter == each for each in ORDER] for letter in protein], np.float32))


def soft(seed: int = 0, length: int = 10):
    return jax.nn.softmax(jax.random.normal(jax.random.key(seed), (length, 20)))


@pytest.fixture(scope="module")
def language_model():
    return make_encoder(layers=2, d_model=32, heads=2, d_ffn=48)


def test_a_hard_sequence_is_placed_as_its_tokens():
    np.testing.assert_array_equal(place(hard()).argmax(axis=1), Tokenizer().encode(PROTEIN))
    np.testing.assert_allclose(place(soft()).sum(axis=1), 1, atol=1e-6)


def test_solubility_is_that_of_the_model():
    model, tokens = tiny(), Tokenizer().encode(PROTEIN)
    loss, scalars = SolubilityTerm(model)(hard(), key=KEY)
    assert loss == pytest.approx(float(-model(tokens)), abs=1e-5)
    assert scalars["solubility"] == pytest.approx(float(model.probability(tokens)), abs=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_exact_pseudo_likelihood_is_that_of_the_encoder(language_model, chunk):
    loss, scalars = PseudoLikelihoodTerm(language_model, chunk=chunk)(hard())
    expected = float(language_model.pseudo_log_likelihood(Tokenizer().encode(PROTEIN)))
    assert scalars["pseudo_log_likelihood"] == pytest.approx(expected, abs=1e-3)
    assert loss == pytest.approx(-expected / len(PROTEIN), abs=1e-4)
    assert scalars["pseudo_perplexity"] == pytest.approx(np.exp(-expected / len(PROTEIN)), rel=1e-4)


def test_a_soft_sequence_expects_the_mean_over_residues(language_model):
    """Without the gradient of the context, that of the loss is the log-probability, which is computed here by hand."""
    sequence = soft()
    grad = jax.grad(lambda s: PseudoLikelihoodTerm(language_model, context_gradient=False)(s)[0])(sequence)
    mask, columns = jax.nn.one_hot(MASK, 64), np.array([VOCABULARY.index(letter) for letter in ORDER])
    for position in (0, 6):
        hidden = place(sequence).at[position + 1].set(mask)
        expected = jax.nn.log_softmax(language_model.logits(hidden))[position + 1, columns]
        np.testing.assert_allclose(grad[position], -expected / len(sequence), atol=1e-5)


def test_one_sample_of_one_position_is_the_loss_there(language_model):
    """With so small a fraction a single position is masked, which shows from the gradient."""
    term = PseudoLikelihoodTerm(language_model, samples=1, fraction=1e-6, context_gradient=False)
    (loss, _), grad = eqx.filter_value_and_grad(term, has_aux=True)(hard(), key=KEY)
    (position,) = np.flatnonzero(np.abs(grad).sum(axis=1))
    tokens = Tokenizer().encode(PROTEIN)
    hidden = tokens.copy()
    hidden[position + 1] = MASK
    expected = jax.nn.log_softmax(language_model.logits(hidden))[position + 1, tokens[position + 1]]
    assert loss == pytest.approx(float(-expected), abs=1e-5)


def test_many_samples_come_near_the_exact_value(language_model):
    exact = PseudoLikelihoodTerm(language_model)(hard())[0]
    term = PseudoLikelihoodTerm(language_model, samples=400, fraction=0.1)
    values = [term(hard(), key=key)[0] for key in jax.random.split(KEY, 5)]
    # Now and then two positions are masked at once, so it is near and not equal.
    assert np.mean(values) == pytest.approx(float(exact), rel=0.1)


@pytest.mark.parametrize("exact", [True, False])
def test_gradients_are_those_of_finite_differences(exact, language_model):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, language_model)
        term = PseudoLikelihoodTerm(wide)
        if not exact:
            term = SolubilityTerm(
                jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, tiny())
            )
        sequence = jnp.asarray(soft(), jnp.float64)
        direction = jax.random.normal(jax.random.key(1), sequence.shape, jnp.float64)
        step = 1e-6

        @eqx.filter_jit
        def value_and_grad(sequence):
            return jax.value_and_grad(lambda s: term(s)[0])(sequence)

        ahead, behind = (float(value_and_grad(sequence + size * direction)[0]) for size in (step, -step))
        slope = (ahead - behind) / (2 * step)
        _, grad = value_and_grad(sequence)
        assert float((grad * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_terms_batch_and_compile(language_model):
    sequences = jnp.stack([soft(seed) for seed in range(3)])
    for term in (SolubilityTerm(tiny()), PseudoLikelihoodTerm(language_model, samples=2)):
        keys = jax.random.split(KEY, 3)
        value_and_grad = eqx.filter_value_and_grad(lambda s, k, term=term: term(s, key=k), has_aux=True)
        (losses, scalars), grads = eqx.filter_jit(eqx.filter_vmap(value_and_grad))(sequences, keys)
        assert grads.shape == sequences.shape
        assert all(each.shape == (3,) for each in scalars.values())
        alone, _ = term(sequences[1], key=keys[1])
        assert losses[1] == pytest.approx(float(alone), abs=1e-5)


def test_an_optimiser_lowers_a_weighted_sum(language_model):
    """Projected gradient descent on the simplex, as a design tool would run it over these terms and its own."""
    terms = [(1.0, SolubilityTerm(tiny())), (0.5, PseudoLikelihoodTerm(language_model, samples=4))]

    def loss(sequence, key):
        parts = [(weight, *term(sequence, key=key)) for weight, term in terms]
        entropy = -(sequence * jnp.log(sequence + 1e-9)).sum(axis=-1).mean()
        return sum(weight * value for weight, value, _ in parts) + 0.1 * entropy, [aux for *_, aux in parts]

    step = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))
    project = jax.jit(jax.vmap(optax.projections.projection_simplex))
    sequence, values = jnp.full((10, 20), 0.05), []
    for key in jax.random.split(KEY, 40):
        (value, _), grad = step(sequence, key)
        values.append(float(value))
        with jax.numpy_dtype_promotion("standard"):
            sequence = project(sequence - 0.3 * grad)
    np.testing.assert_allclose(sequence.sum(axis=-1), 1, atol=1e-5)
    assert np.mean(values[-5:]) < np.mean(values[:5]) - 0.1


def test_refuses_what_makes_no_sense(language_model):
    with pytest.raises(InputError, match="no LM head"):
        PseudoLikelihoodTerm(make_encoder(layers=2, d_model=32, heads=2, d_ffn=48, lm_head=False))
    with pytest.raises(InputError, match="samples is 0"):
        PseudoLikelihoodTerm(language_model, samples=0)
    with pytest.raises(InputError, match="fraction is 1"):
        PseudoLikelihoodTerm(language_model, samples=1, fraction=1.0)
    with pytest.raises(InputError, match="need a key"):
        PseudoLikelihoodTerm(language_model, samples=1)(hard())
