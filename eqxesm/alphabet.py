"""The vocabulary of ESM-C and the tokenizer that maps proteins to it."""

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
"""The 33 named tokens, by index, as the ESM-C release orders them."""

VOCAB_SIZE = 64
"""Rows of the embedding and of the LM head; rows 33 to 63 have no name."""

CLS, PAD, EOS, UNK, CHAIN_BREAK, MASK = (
    VOCABULARY.index(name) for name in ("<cls>", "<pad>", "<eos>", "<unk>", "|", "<mask>")
)

FIRST_RESIDUE, LAST_RESIDUE = VOCABULARY.index("L"), VOCABULARY.index("O")
"""Residue letters hold one run of indices: the 20 standard ones first, then X B U Z O."""

STANDARD_RESIDUES = "".join(VOCABULARY[FIRST_RESIDUE : FIRST_RESIDUE + 20])
RESIDUES = "".join(VOCABULARY[FIRST_RESIDUE : LAST_RESIDUE + 1])


def is_residue(tokens: Int[AnyArray, "*shape"]) -> Bool[AnyArray, "*shape"]:
    """True where a token stands for a residue: a letter, or a mask in a letter's place.

    Args:
        tokens: vocabulary indices, any shape, of numpy or of JAX.

    Returns:
        Boolean array of the same shape and kind.
    """
    return ((tokens >= FIRST_RESIDUE) & (tokens <= LAST_RESIDUE)) | (tokens == MASK)


@dataclass(frozen=True)
class Tokenizer:
    """Maps proteins to token indices and back, one character a token.

    A protein becomes `<cls>` residues `<eos>`. Chains of a complex are written with `|` between
    them, or given as a list. `_` is the short form of `<mask>`. Letters are taken as they stand:
    a character outside the vocabulary is refused, never turned into `<unk>`.
    """

    _ids: ClassVar[dict[str, int]] = {
        **{name: i for i, name in enumerate(VOCABULARY)},
        "_": MASK,
    }
    _pattern: ClassVar[re.Pattern[str]] = re.compile(r"<[a-z]+>|.", re.DOTALL)

    def encode(self, sequence: str | Sequence[str]) -> Int[np.ndarray, " length"]:
        """Encode one protein.

        Args:
            sequence: one chain, chains joined with `|`, or a list of chains.

        Returns:
            int32 tokens `[length]`, `<cls>` first and `<eos>` last.

        Raises:
            InputError: the sequence is empty or holds a character outside the vocabulary.
        """
        text = sequence if isinstance(sequence, str) else "|".join(sequence)
        if not text:
            raise InputError("empty sequence: there is nothing to encode; give at least 1 residue")
        tokens = [CLS]
        for match in self._pattern.finditer(text):
            token = self._ids.get(match.group())
            if token is None:
                raise InputError(
                    f"character {match.group()!r} at position {match.start() + 1} is not in the "
                    f"ESM-C vocabulary: use one of {RESIDUES}, '|' between chains, '_' for a mask"
                )
            tokens.append(token)
        return np.array([*tokens, EOS], np.int32)

    def encode_batch(
        self, sequences: Sequence[str | Sequence[str]], length: int | None = None
    ) -> Int[np.ndarray, "batch length"]:
        """Encode proteins and pad them on the right to one length.

        Args:
            sequences: proteins, each as `encode` takes it.
            length: tokens per row, `<cls>` and `<eos>` counted; the longest protein's by default.

        Returns:
            int32 tokens `[batch length]`, `<pad>` after each `<eos>`.

        Raises:
            InputError: a protein is empty, holds an unknown character or does not fit `length`.
        """
        return pad([self.encode(sequence) for sequence in sequences], length)

    def decode(self, tokens: Int[np.ndarray, " length"]) -> str:
        """Write tokens as text, without `<cls>`, `<eos>` and `<pad>`.

        Args:
            tokens: one protein's indices `[length]`.

        Returns:
            The sequence, masks as `<mask>` and chains joined with `|`.

        Raises:
            InputError: an index has no name.
        """
        unnamed = [int(token) for token in tokens if not 0 <= token < len(VOCABULARY)]
        if unnamed:
            raise InputError(f"token {unnamed[0]} has no name: named tokens are 0 to 32")
        return "".join(VOCABULARY[t] for t in tokens if t not in (CLS, PAD, EOS))

    def sequence_id(
        self, tokens: Int[np.ndarray, "*batch length"]
    ) -> Int[np.ndarray, "*batch length"]:
        """Number the chains, so that attention can be kept within each.

        A chain break belongs to the chain before it, `<cls>` to the first, `<eos>` to the last.

        Args:
            tokens: indices, one protein or a batch.

        Returns:
            int32 array of the same shape: 0, 1, ... by chain, -1 at padding.
        """
        breaks = (tokens == CHAIN_BREAK).astype(np.int32)
        chain = np.cumsum(breaks, axis=-1, dtype=np.int32) - breaks
        return np.where(tokens == PAD, np.int32(-1), chain)


def pad(
    rows: Sequence[Int[np.ndarray, " _"]], length: int | None = None
) -> Int[np.ndarray, "batch length"]:
    """Stack token rows of unequal lengths, padded on the right.

    Args:
        rows: int32 tokens, one array a protein.
        length: tokens per row of the result; the longest row's by default.

    Returns:
        int32 tokens `[batch length]`.

    Raises:
        InputError: a row is longer than `length`.
    """
    longest = max((len(row) for row in rows), default=0)
    length = longest if length is None else length
    if longest > length:
        raise InputError(
            f"a protein of {longest} tokens does not fit into {length}: nothing is cut"
        )
    batch = np.full((len(rows), length), PAD, np.int32)
    for filled, row in zip(batch, rows, strict=True):
        filled[: len(row)] = row
    return batch
