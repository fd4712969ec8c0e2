"""Masked-language-model use of ESM-C, against plain loops in torch."""

import equinox as eqx
import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")

from originals import TINY, transformers_original

from conversion.port import port
from conversion.sources import open_source
from eqxesm import ESMC, ESMCConfig, Tokenizer
from eqxesm.alphabet import MASK, PAD, STANDARD_RESIDUES, VOCABULARY

PROTEIN = "MKTAYIAKQRXISFBKSHFSRQ"


@pytest.fixture(scope="module")
def original():
    return transformers_original(**TINY)


@pytest.fixture(scope="module")
def encoder(original, tmp_path_factory) -> ESMC:
    folder = tmp_path_factory.mktemp("original")
    original.save_pretrained(folder / "theirs")
    port(None, open_source("esmc_300m", str(folder / "theirs")), folder / "ours")
    return ESMC.from_pretrained(folder / "ours")


def torch_logits(original, tokens: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return original(
            torch.tensor(tokens[None], dtype=torch.long),
            attention_mask=torch.tensor(tokens[None] != PAD),
        ).logits[0]


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
def test_pseudo_log_likelihood(original, encoder, padding, batch_size):
    tokens = np.pad(Tokenizer().encode(PROTEIN), (0, padding), constant_values=PAD)
    expected = torch_pseudo_log_likelihood(original, tokens)
    found = encoder.pseudo_log_likelihood(tokens, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_one_pass(original, encoder):
    tokens = Tokenizer().encode(PROTEIN)
    log = torch.log_softmax(torch_logits(original, tokens).double(), dim=-1)
    expected = sum(log[i, tokens[i]].item() for i in range(1, len(PROTEIN) + 1))
    found = encoder.pseudo_log_likelihood(tokens, one_pass=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    exact = encoder.pseudo_log_likelihood(tokens)
    assert abs(float(found - exact)) > 1e-3


def test_masks_in_the_protein_are_not_scored(encoder):
    """They have no letter to be scored by, and hide themselves from the others."""
    tokens = Tokenizer().encode("MKT_AYI")
    scores = encoder.pseudo_log_likelihood(tokens)
    letters = [p for p in range(1, 8) if tokens[p] != MASK]
    expected = 0.0
    for position in letters:
        masked = tokens.copy()
        masked[position] = MASK
        log = jax.nn.log_softmax(encoder(masked).logits[position])
        expected += float(log[tokens[position]])
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_fill(original, encoder):
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


def test_chains(encoder):
    tokenizer = Tokenizer()
    tokens = tokenizer.encode("MKTAY|IAK_R")
    sequence_id = tokenizer.sequence_id(tokens)
    together = encoder.pseudo_log_likelihood(tokens)
    apart = encoder.pseudo_log_likelihood(tokens, sequence_id)
    assert abs(float(together - apart)) > 1e-3
    assert encoder.fill(tokens, sequence_id).shape == tokens.shape


def test_jit_and_vmap(encoder):
    batch = Tokenizer().encode_batch([PROTEIN, "MKTAY"])
    compiled = eqx.filter_jit(lambda e, t: jax.vmap(e.pseudo_log_likelihood)(t))(encoder, batch)
    one_by_one = [encoder.pseudo_log_likelihood(tokens) for tokens in batch]
    np.testing.assert_allclose(compiled, np.array(one_by_one), rtol=1e-5)


def test_without_a_head():
    bare = ESMC(ESMCConfig(**TINY, lm_head=False), key=jax.random.key(0))
    tokens = Tokenizer().encode("MK_")
    for use in (bare.fill, bare.pseudo_log_likelihood):
        with pytest.raises(ValueError, match="has no LM head"):
            use(tokens)
