"""What a language model is measured beside: guessing a residue by frequencies alone."""

import numpy as np
from jaxtyping import Float, Int

from eqxesm.alphabet import FIRST_RESIDUE, PAD, STANDARD_RESIDUES, VOCAB_SIZE, is_standard
from eqxesm.data.corpus import Rows

RESIDUE_KINDS = len(STANDARD_RESIDUES)


class NGrams:
    """Counts of every standard residue between its two neighbours.

    `<cls>`, `<eos>` and rare letters count as neighbours. Every residue is counted once more than it was
    seen (Laplace's rule), so that none is impossible.
    """

    def __init__(self):
        self.counts = np.zeros((VOCAB_SIZE, VOCAB_SIZE, RESIDUE_KINDS), np.int64)

    def add(self, tokens: Int[np.ndarray, " length"]) -> None:
        """Count the residues of a protein."""
        middle = np.flatnonzero(is_standard(tokens[1:-1])) + 1
        np.add.at(self.counts, (tokens[middle - 1], tokens[middle + 1], tokens[middle] - FIRST_RESIDUE), 1)

    def unigram(self) -> Float[np.ndarray, " kinds"]:
        """Probability of every residue by its frequency."""
        return _normalise(self.counts.sum((0, 1)) + 1)

    def trigram(self, rows: Rows) -> Float[np.ndarray, "hidden kinds"]:
        """Probabilities of the residues that are hidden in `Rows`, between the neighbours that they really have."""
        whole = np.where(rows.targets == PAD, rows.tokens, rows.targets)
        apart = rows.sequence_id[:, 1:] != rows.sequence_id[:, :-1]
        edge = np.full((len(whole), 1), PAD)
        left = np.concatenate([edge, np.where(apart, PAD, whole[:, :-1])], axis=1)
        right = np.concatenate([np.where(apart, PAD, whole[:, 1:]), edge], axis=1)
        hidden = rows.targets != PAD
        return _normalise(self.counts[left[hidden], right[hidden]] + 1)


def _normalise(counts: Int[np.ndarray, "*rows kinds"]) -> Float[np.ndarray, "*rows kinds"]:
    return counts / counts.sum(axis=-1, keepdims=True)
