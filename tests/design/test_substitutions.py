"""Substitutions, one by one and to first order, and marginals against the torch original."""

import jax.numpy as jnp
import numpy as np
import pytest
from training_sets import tiny

from eqxesm import Tokenizer
from eqxesm.alphabet import FIRST_RESIDUE, MASK, STANDARD_RESIDUES
from eqxesm.design import estimate_substitutions, masked_marginal, score_substitutions, wild_type_marginal
from eqxesm.design.substitutions import masked_marginal_of
from eqxesm.inference import Mapper

TOKENS = Tokenizer().encode("MKVLAXGWDE")
STANDARD = slice(FIRST_RESIDUE, FIRST_RESIDUE + 20)


def test_the_first_order_is_exact_where_the_function_is_linear():
    slopes = np.random.default_rng(0).normal(size=(len(TOKENS), 64)).astype(np.float32)
    found = estimate_substitutions(lambda soft: (soft * slopes).sum(), TOKENS)
    expected = slopes[:, STANDARD] - slopes[np.arange(len(TOKENS)), TOKENS][:, None]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("mapped", [False, True])
def test_every_substitution_is_scored(mapped):
    model = tiny()
    found = score_substitutions(model, TOKENS, Mapper(model) if mapped else None)
    assert not found[[0, -1]].any()
    for position, letter in ((1, "A"), (6, "M"), (10, "W")):
        mutant = TOKENS.copy()
        mutant[position] = Tokenizer().encode(letter)[1]
        expected = float(model(mutant) - model(TOKENS))
        assert found[position, STANDARD_RESIDUES.index(letter)] == pytest.approx(expected, abs=1e-5)
    for position, token in enumerate(TOKENS):
        if STANDARD.start <= token < STANDARD.stop:
            assert found[position, token - STANDARD.start] == 0


def log_probabilities(original, tokens: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        logits = original(torch.tensor(tokens[None], dtype=torch.long)).logits[0]
    return torch.log_softmax(logits.double(), dim=-1).numpy()


def test_marginals_are_those_of_the_original(original, encoder):
    own = np.arange(len(TOKENS)), TOKENS
    seen = log_probabilities(original, TOKENS)
    np.testing.assert_allclose(wild_type_marginal(encoder, TOKENS), seen[:, STANDARD] - seen[own][:, None], atol=1e-4)
    found = masked_marginal(encoder, TOKENS, batch_size=3)
    for position in range(1, len(TOKENS) - 1):
        hidden = TOKENS.copy()
        hidden[position] = MASK
        row = log_probabilities(original, hidden)[position]
        np.testing.assert_allclose(found[position], row[STANDARD] - row[TOKENS[position]], atol=1e-4)


def test_positions_of_a_variant_are_masked_together(original, encoder):
    variants = [{2: "W", 5: "C"}, {1: "A", 3: "D", 9: "Y"}, {4: "K"}]
    mutants, expected = np.stack([TOKENS] * 3), []
    for mutant, variant in zip(mutants, variants, strict=True):
        places = list(variant)
        mutant[places] = Tokenizer().encode("".join(variant.values()))[1:-1]
        hidden = TOKENS.copy()
        hidden[places] = MASK
        rows = log_probabilities(original, hidden)
        expected.append(sum(rows[p, mutant[p]] - rows[p, TOKENS[p]] for p in places))
    np.testing.assert_allclose(masked_marginal_of(encoder, TOKENS, mutants), expected, atol=1e-4)


@pytest.mark.slow
def test_chains_do_not_see_each_other(encoder):
    """Two chains in one row have the marginals that each has alone."""
    first, second = Tokenizer().encode("MKVLA"), Tokenizer().encode("GWDEYY")
    both = jnp.concatenate([first, second])
    chains = jnp.array([0] * len(first) + [1] * len(second))
    # Rotary positions are relative, so where a chain begins is nothing to it.
    found = masked_marginal(encoder, both, chains)
    np.testing.assert_allclose(found[: len(first)], masked_marginal(encoder, first), atol=1e-4)
    np.testing.assert_allclose(found[len(first) :], masked_marginal(encoder, second), atol=1e-4)
