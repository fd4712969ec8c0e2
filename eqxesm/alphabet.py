"""The vocabulary of ESM-C and its tokenizer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Int

from eqxesm.errors import InputError, at
from eqxesm.sequences import as_sequence, as_text, is_missing, is_text

AnyArray = np.ndarray | jax.Array

VOCABULARY: tuple[str, ...] = (
    "<cls>", "<pad>", "<eos>", "<unk>",
    "L", "A", "G", "V", "S", "E", "R", "T", "I", "D", "P", "K", "Q", "N", "F", "Y", "M", "H", "W",
    "C", "X", "B", "U", "Z", "O", ".", "-", "|", "<mask>",
)  # fmt: skip
"""The 33 named tokens, by index, in the order of the ESM-C release."""

VOCAB_SIZE = 64
"""Rows of the embedding and of the LM head. Rows 33 to 63 have no name."""

CLS, PAD, EOS, UNK, CHAIN_BREAK, MASK = (
    VOCABULARY.index(name) for name in ("<cls>", "<pad>", "<eos>", "<unk>", "|", "<mask>")
)

# Residue letters are consecutive: the 20 standard ones first, then X B U Z O.
FIRST_RESIDUE, LAST_RESIDUE = VOCABULARY.index("L"), VOCABULARY.index("O")
STANDARD_RESIDUES = "".join(VOCABULARY[FIRST_RESIDUE : FIRST_RESIDUE + 20])
STANDARD = slice(FIRST_RESIDUE, FIRST_RESIDUE + len(STANDARD_RESIDUES))
"""Rows of the vocabulary that are standard residues."""
RESIDUES = "".join(VOCABULARY[FIRST_RESIDUE : LAST_RESIDUE + 1])

BREAK = VOCABULARY[CHAIN_BREAK]
"""Joins the chains of a complex."""

CONTEXT_RESIDUES = 2046
"""Residues of the longest protein that ESM-C was trained on: 2,048 tokens."""


def is_residue(tokens: Int[AnyArray, "*shape"]) -> Bool[AnyArray, "*shape"]:
    """True where a token is a residue letter, or a mask in the place of one."""
    return ((tokens >= FIRST_RESIDUE) & (tokens <= LAST_RESIDUE)) | (tokens == MASK)


def is_standard(tokens: Int[AnyArray, "*shape"]) -> Bool[AnyArray, "*shape"]:
    """True at the 20 standard residues."""
    return (tokens >= FIRST_RESIDUE) & (tokens < FIRST_RESIDUE + len(STANDARD_RESIDUES))


def check_tokens(tokens: Any) -> None:
    """Refuse what is not the tokens of one protein. While JAX traces, their values cannot be checked."""
    dtype, shape = getattr(tokens, "dtype", None), getattr(tokens, "shape", ())
    if dtype is None or not np.issubdtype(dtype, np.integer) or len(shape) != 1:
        got = type(tokens).__name__ if dtype is None else f"{dtype} {list(shape)}"
        raise InputError(f"expected the tokens of one protein, integers [length], got {got}")
    if isinstance(tokens, Tracer) or not shape[0]:
        return
    values = np.asarray(tokens)
    outside = values[(values < 0) | (values >= VOCAB_SIZE)]
    if len(outside):
        raise InputError(f"token {outside[0]} is outside the vocabulary, 0 to {VOCAB_SIZE - 1}")


_NUMBERS = {**{name: number for number, name in enumerate(VOCABULARY)}, "_": MASK}

_LETTERS = np.array([_NUMBERS.get(chr(code), -1) for code in range(128)], np.int32)
"""Token of every ASCII character, -1 where it has none."""


@dataclass(frozen=True)
class Tokenizer:
    """Maps proteins to ESM-C tokens and back, one token per residue.

    A protein becomes `<cls>` residues `<eos>`. Chains of a complex are joined with `|`, or given as
    a list. `_` is short for `<mask>`. Characters outside the vocabulary are refused, never mapped
    to `<unk>`.
    """

    _pattern: ClassVar[re.Pattern[str]] = re.compile(r"<[a-z]+>|.", re.DOTALL)

    def encode(self, sequence: str | Sequence[str]) -> Int[np.ndarray, " length"]:
        """Encode one protein as int32 tokens, `<cls>` first and `<eos>` last."""
        text = _join_chains(sequence)
        if not text:
            raise InputError("empty sequence: expected at least 1 residue")
        if text.isascii():
            ids = _LETTERS[np.frombuffer(text.encode(), np.uint8)]
            if (ids >= 0).all():
                return np.concatenate([[CLS], ids, [EOS]], dtype=np.int32)
        tokens = [CLS]
        for match in self._pattern.finditer(text):
            token = _NUMBERS.get(match.group())
            if token is None:
                allowed = f"Use {RESIDUES}, '|' between chains, '_' for a mask."
                raise InputError(f"position {match.start() + 1}: unknown character {match.group()!r}. {allowed}")
            tokens.append(token)
        return np.array([*tokens, EOS], np.int32)

    def encode_apart(self, sequence: str) -> Int[np.ndarray, " length"]:
        """Encode chains that are joined with `|` as proteins in one row, each from its `<cls>` to its `<eos>`."""
        return np.concatenate([self.encode(chain) for chain in sequence.split(BREAK)])

    def encode_batch(
        self, sequences: Sequence[str | Sequence[str]], length: int | None = None
    ) -> Int[np.ndarray, "batch length"]:
        """Encode proteins and pad them on the right, to `length` tokens or to the longest."""
        rows = []
        for number, sequence in enumerate(as_sequence(sequences, "sequences"), 1):
            with at(f"sequence {number}"):
                rows.append(self.encode(sequence))
        return pad(rows, length)

    def __call__(self, *_: Any, **__: Any) -> None:
        """Refuse: other libraries' tokenizers are called, and return something else."""
        raise InputError("a Tokenizer is not called. Use encode(sequence) or encode_batch(sequences).")

    def decode(self, tokens: Int[np.ndarray, " length"]) -> str:
        """Write tokens as text, without `<cls>`, `<eos>` and `<pad>`."""
        unnamed = [int(token) for token in tokens if not 0 <= token < len(VOCABULARY)]
        if unnamed:
            raise InputError(f"token {unnamed[0]} has no name. Named tokens are 0 to 32.")
        return "".join(VOCABULARY[t] for t in tokens if t not in (CLS, PAD, EOS))

    def sequence_id(self, tokens: Int[np.ndarray, "*batch length"]) -> Int[np.ndarray, "*batch length"]:
        """Number the chains 0, 1, ... and padding -1, so that attention stays within a chain.

        A chain break belongs to the chain before it, `<cls>` to the first, `<eos>` to the last.
        """
        breaks = (tokens == CHAIN_BREAK).astype(np.int32)
        chain = np.cumsum(breaks, axis=-1, dtype=np.int32) - breaks
        return np.where(tokens == PAD, np.int32(-1), chain)


def _join_chains(sequence: Any) -> str:
    if is_text(sequence) or is_missing(sequence):
        return as_text(sequence, "sequence")
    return BREAK.join(as_text(chain, f"chain {n}") for n, chain in enumerate(as_sequence(sequence, "chains"), 1))


def letter_rows(sequence: str) -> Int[np.ndarray, " letters"]:
    """Which of the tokens of `Tokenizer.encode_apart` is each letter. A `|` has the `<cls>` behind it."""
    breaks = np.array([letter == BREAK for letter in sequence], np.int32)
    return np.arange(1, len(sequence) + 1, dtype=np.int32) + np.cumsum(breaks, dtype=np.int32)


def pad(rows: Sequence[Int[np.ndarray, " _"]], length: int | None = None) -> Int[np.ndarray, "batch length"]:
    """Stack token rows, padded on the right to `length` tokens or to the longest."""
    longest = max((len(row) for row in rows), default=0)
    length = longest if length is None else length
    if longest > length:
        raise InputError(f"a protein has {longest} tokens, more than the {length} asked for")
    batch = np.full((len(rows), length), PAD, np.int32)
    for filled, row in zip(batch, rows, strict=True):
        check_tokens(row)
        filled[: len(row)] = row
    return batch
