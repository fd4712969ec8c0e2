"""The vocabulary of ESM-C and its tokenizer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Bool, Int

from eqxesm.errors import InputError

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
RESIDUES = "".join(VOCABULARY[FIRST_RESIDUE : LAST_RESIDUE + 1])


def is_residue(tokens: Int[AnyArray, "*shape"]) -> Bool[AnyArray, "*shape"]:
    """True where a token is a residue letter, or a mask in the place of one."""
    return ((tokens >= FIRST_RESIDUE) & (tokens <= LAST_RESIDUE)) | (tokens == MASK)


@dataclass(frozen=True)
class Tokenizer:
    """Maps proteins to ESM-C tokens and back, one token per residue.

    A protein becomes `<cls>` residues `<eos>`. Chains of a complex are joined with `|`, or given as
    a list. `_` is short for `<mask>`. Characters outside the vocabulary are refused, never mapped
    to `<unk>`.
    """

    _ids: ClassVar[dict[str, int]] = {**{name: i for i, name in enumerate(VOCABULARY)}, "_": MASK}
    _pattern: ClassVar[re.Pattern[str]] = re.compile(r"<[a-z]+>|.", re.DOTALL)

    def encode(self, sequence: str | Sequence[str]) -> Int[np.ndarray, " length"]:
        """Encode one protein as int32 tokens, `<cls>` first and `<eos>` last."""
        text = sequence if isinstance(sequence, str) else "|".join(sequence)
        if not text:
            raise InputError("empty sequence: expected at least 1 residue")
        tokens = [CLS]
        for match in self._pattern.finditer(text):
            token = self._ids.get(match.group())
            if token is None:
                allowed = f"Use {RESIDUES}, '|' between chains, '_' for a mask."
                raise InputError(f"position {match.start() + 1}: unknown character {match.group()!r}. {allowed}")
            tokens.append(token)
        return np.array([*tokens, EOS], np.int32)

    def encode_batch(
        self, sequences: Sequence[str | Sequence[str]], length: int | None = None
    ) -> Int[np.ndarray, "batch length"]:
        """Encode proteins and pad them on the right, to `length` tokens or to the longest."""
        return pad([self.encode(sequence) for sequence in sequences], length)

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


def pad(rows: Sequence[Int[np.ndarray, " _"]], length: int | None = None) -> Int[np.ndarray, "batch length"]:
    """Stack token rows, padded on the right to `length` tokens or to the longest."""
    longest = max((len(row) for row in rows), default=0)
    length = longest if length is None else length
    if longest > length:
        raise InputError(f"a protein has {longest} tokens, more than the {length} asked for")
    batch = np.full((len(rows), length), PAD, np.int32)
    for filled, row in zip(batch, rows, strict=True):
        filled[: len(row)] = row
    return batch
