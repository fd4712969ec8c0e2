"""Guesses by frequency, against counting by hand."""

from collections import Counter

import numpy as np
import pytest

from eqxesm import Tokenizer
from eqxesm.alphabet import PAD, STANDARD_RESIDUES
from eqxesm.data.corpus import hide
from eqxesm.evaluation.ngrams import NGrams

PROTEINS = ["MKTAYIAKQRXQISF", "MKKKKTAY", "AYAYAYAY"]


@pytest.fixture
def ngrams() -> NGrams:
    made = NGrams()
    for protein in PROTEINS:
        made.add(Tokenizer().encode(protein))
    return made


def test_unigram_is_the_frequency_with_one_more_of_each(ngrams):
    counts = Counter("".join(PROTEINS))
    expected = np.array([counts[letter] + 1 for letter in STANDARD_RESIDUES])
    np.testing.assert_allclose(ngrams.unigram(), expected / expected.sum())


def test_trigram_is_the_frequency_between_both_neighbours(ngrams):
    tokens = Tokenizer().encode("MKTAYKKX").tolist() + Tokenizer().encode("AYAY").tolist()
    row = {"tokens": np.array(tokens), "tokens_segment_ids": np.repeat([1, 2], [10, 6])}
    rows = hide(row, np.random.default_rng(0), 0.999, corrupt=True)
    ours = ngrams.trigram(type(rows)(*(each[None] for each in rows)))
    marked = [f"<{protein}>" for protein in PROTEINS]
    triples = Counter(text[i : i + 3] for text in marked for i in range(len(text) - 2))
    text = "<MKTAYKKX><AYAY>"
    hidden = [i for i in range(len(text)) if rows.targets[i] != PAD]
    assert len(hidden) == 11
    for probabilities, i in zip(ours, hidden, strict=True):
        expected = np.array([triples[text[i - 1] + letter + text[i + 1]] + 1 for letter in STANDARD_RESIDUES])
        np.testing.assert_allclose(probabilities, expected / expected.sum())


def test_a_chain_does_not_count_as_the_neighbour_of_the_next(ngrams):
    # Two pieces that were cut out of their proteins, side by side.
    tokens = np.array([Tokenizer().encode("AYK")[1:-1]])
    rows = hide(
        {"tokens": tokens, "tokens_segment_ids": np.array([[1, 1, 2]])}, np.random.default_rng(0), 0.999, corrupt=True
    )
    # After A at the end of its piece, nothing was seen: all kinds are as likely.
    np.testing.assert_allclose(ngrams.trigram(rows)[1], np.full(20, 1 / 20))
