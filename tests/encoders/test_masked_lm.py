"""Masked-language-model use of ESM-C, against plain loops in torch."""

import equinox as eqx
import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")

from originals import as_long

from eqxesm import ESMC, ESMCConfig, InputError, Tokenizer
from eqxesm.alphabet import MASK, PAD, STANDARD_RESIDUES, VOCABULARY

PROTEIN = "MKTAYIAKQRXISFBKSHFSRQ"


@eqx.filter_jit
def score(encoder: ESMC, tokens, sequence_id=None, **options):
    return encoder.pseudo_log_likelihood(tokens, sequence_id, **options)


@eqx.filter_jit
def run(encoder: ESMC, tokens):
    return encoder(tokens).logits


def torch_logits(original, tokens: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return original(as_long(tokens[None]), attention_mask=torch.tensor(tokens[None] != PAD)).logits[0]


def torch_pseudo_log_likelihood(original, tokens: np.ndarray) -> float:
    total = 0.0
    for position in range(1, len(PROTEIN) + 1):
        masked = tokens.copy()
        masked[position] = MASK
        logits = torch_logits(original, masked)[position]
        total += torch.log_softmax(logits.double(), dim=-1)[tokens[position]].item()
    return total


@pytest.mark.parametrize("padding", [0, 11])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_pseudo_log_likelihood_is_that_of_a_loop(original, encoder, padding, batch_size):
    tokens = np.pad(Tokenizer().encode(PROTEIN), (0, padding), constant_values=PAD)
    expected = torch_pseudo_log_likelihood(original, tokens)
    found = score(encoder, tokens, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_one_pass_scores_the_unmasked_protein(original, encoder):
    tokens = Tokenizer().encode(PROTEIN)
    log = torch.log_softmax(torch_logits(original, tokens).double(), dim=-1)
    expected = sum(log[i, tokens[i]].item() for i in range(1, len(PROTEIN) + 1))
    found = score(encoder, tokens, one_pass=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    exact = score(encoder, tokens)
    assert abs(float(found - exact)) > 1e-3


def test_masks_in_the_protein_are_not_scored(encoder):
    """They have no letter to be scored by, and hide themselves from the others."""
    tokens = Tokenizer().encode("MKT_AYI")
    letters = [p for p in range(1, 8) if tokens[p] != MASK]
    expected = 0.0
    for position in letters:
        masked = tokens.copy()
        masked[position] = MASK
        log = jax.nn.log_softmax(run(encoder, masked)[position])
        expected += float(log[tokens[position]])
    np.testing.assert_allclose(score(encoder, tokens), expected, rtol=1e-5)


def test_fill_puts_the_likeliest_standard_residue(original, encoder):
    tokens = np.pad(Tokenizer().encode("MK_TAY__AKQR_"), (0, 4), constant_values=PAD)
    logits = torch_logits(original, tokens)
    letters = [VOCABULARY.index(letter) for letter in STANDARD_RESIDUES]
    expected = tokens.copy()
    for position in np.flatnonzero(tokens == MASK):
        expected[position] = letters[int(logits[position][letters].argmax())]
    filled = encoder.fill(tokens)
    np.testing.assert_array_equal(filled, expected)
    assert filled.dtype == tokens.dtype
    np.testing.assert_array_equal(encoder.fill(filled), filled)


def test_chains_are_scored_apart(encoder):
    tokenizer = Tokenizer()
    tokens = tokenizer.encode("MKTAY|IAK_R")
    sequence_id = tokenizer.sequence_id(tokens)
    together = score(encoder, tokens)
    apart = score(encoder, tokens, sequence_id)
    assert abs(float(together - apart)) > 1e-3
    assert encoder.fill(tokens, sequence_id).shape == tokens.shape


def test_jit_vmap_and_plain_calls_agree(encoder):
    batch = Tokenizer().encode_batch([PROTEIN, "MKTAY"])
    compiled = eqx.filter_jit(lambda e, t: jax.vmap(e.pseudo_log_likelihood)(t))(encoder, batch)
    one_by_one = [encoder.pseudo_log_likelihood(tokens) for tokens in batch]
    np.testing.assert_allclose(compiled, np.array(one_by_one), rtol=1e-5)


def test_refuses_without_an_lm_head():
    bare = ESMC(ESMCConfig(1, 32, 1, 48, lm_head=False), key=jax.random.key(0))
    assert bare(Tokenizer().encode("MK")).logits is None
    tokens = Tokenizer().encode("MK_")
    for use in (bare.fill, bare.pseudo_log_likelihood):
        with pytest.raises(InputError, match="has no LM head"):
            use(tokens)
