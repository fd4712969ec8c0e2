"""The tokenizer against transformers', and its refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqxesm import InputError, Tokenizer
from eqxesm.alphabet import CHAIN_BREAK, CLS, EOS, MASK, PAD, RESIDUES, STANDARD_RESIDUES, VOCABULARY, is_residue, pad

TOKENIZER = Tokenizer()


def test_special_tokens_and_residues_are_where_the_release_has_them():
    assert (CLS, PAD, EOS, CHAIN_BREAK, MASK) == (0, 1, 2, 31, 32)
    assert len(VOCABULARY) == 33
    assert sorted(STANDARD_RESIDUES) == sorted("ACDEFGHIKLMNPQRSTVWY")
    assert set(RESIDUES) - set(STANDARD_RESIDUES) == set("XBUZO")


@pytest.mark.parametrize("sequence", [RESIDUES, "MK<mask>L|AC.-", "M", "<unk>M<pad>"])
def test_tokens_are_those_of_transformers(sequence):
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, "EsmcTokenizer"):
        pytest.skip("transformers >= 5.17 is not installed")
    theirs = transformers.EsmcTokenizer()(sequence)["input_ids"]
    assert TOKENIZER.encode(sequence).tolist() == theirs


def test_short_form_of_the_mask_and_chains_as_a_list():
    np.testing.assert_array_equal(TOKENIZER.encode("M_K"), TOKENIZER.encode("M<mask>K"))
    np.testing.assert_array_equal(TOKENIZER.encode(["MK", "AC"]), TOKENIZER.encode("MK|AC"))


def test_batch_is_padded_on_the_right():
    batch = TOKENIZER.encode_batch(["MKL", "M"], 7)
    assert batch.dtype == np.int32
    assert batch.tolist() == [[0, 20, 15, 4, 2, 1, 1], [0, 20, 2, 1, 1, 1, 1]]
    assert TOKENIZER.encode_batch(["MKL", "M"]).shape == (2, 5)


def test_sequence_id_numbers_chains_and_marks_padding():
    batch = TOKENIZER.encode_batch(["MK|A|C", "ML"])
    assert TOKENIZER.sequence_id(batch).tolist() == [[0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 0, -1, -1, -1, -1]]
    np.testing.assert_array_equal(TOKENIZER.sequence_id(batch[0]), TOKENIZER.sequence_id(batch)[0])


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("", "empty sequence"),
        ([], "empty sequence"),
        ("MKj", "position 3: unknown character 'j'"),
        ("MK L", "position 3: unknown character ' '"),
        ("M1K", "position 2: unknown character '1'"),
        ("M<foo>K", "position 2: unknown character '<foo>'"),
        ("MK\n", "position 3"),
    ],
)
def test_refuses_characters_outside_the_vocabulary(sequence, message):
    with pytest.raises(InputError, match=message) as error:
        TOKENIZER.encode(sequence)
    assert "\n" not in str(error.value)


def test_refuses_proteins_longer_than_asked_for():
    with pytest.raises(InputError, match="a protein has 5 tokens, more than the 4 asked for"):
        TOKENIZER.encode_batch(["MKL"], 4)
    with pytest.raises(InputError, match="3 tokens, more than the 2"):
        pad([np.zeros(3, np.int32)], 2)


@given(st.text(alphabet=RESIDUES + ".-|", min_size=1, max_size=60))
def test_decoding_undoes_encoding(sequence):
    assert TOKENIZER.decode(TOKENIZER.encode(sequence)) == sequence


def test_refuses_to_decode_tokens_without_a_name():
    with pytest.raises(InputError, match="token 40 has no name"):
        TOKENIZER.decode(np.array([0, 40, 2]))


def test_residues_and_the_mask_are_residues():
    tokens = np.arange(64)
    assert "".join(VOCABULARY[i] for i in tokens[is_residue(tokens)]) == RESIDUES + "<mask>"
