"""Clusters of similar sequences, so that what is held out is new."""

import shutil
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import CountVectorizer

from eqxesm.data.similarity import BEST_TARGETS, PROGRAM, align

SENSITIVITY = 5.7
"""MMseqs2's own for searches: clusters need no more."""

WORD, SHARED = 5, 0.3
"""Where MMseqs2 is missing, sequences that share so much of their stretches of so many residues are similar."""

BLOCK = 256


def cluster(sequences: Sequence[str], identity: float) -> tuple[Int[np.ndarray, " sequences"], str]:
    """The number of the cluster of each sequence, and how they were found.

    By MMseqs2, at an identity of at least `identity` over half of either sequence; where it is missing, sequences are
    joined that share three tenths of the stretches of five residues of the shorter one.
    """
    unique, places = np.unique(np.array(sequences, object), return_inverse=True)
    if shutil.which(PROGRAM) is None:
        pairs = _share_words(unique.tolist())
        found = "shared stretches of five residues, since MMseqs2 is not installed"
    else:
        hits = align(unique.tolist(), unique.tolist(), 0.5, SENSITIVITY, BEST_TARGETS)
        pairs = np.array([hit[:2] for hit in hits if hit[2] >= identity] or np.zeros((0, 2), int))
        found = f"MMseqs2, {identity:.0%} identity over half of either sequence"
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(unique),) * 2)
    return connected_components(graph, directed=False)[1][places], found


def _share_words(sequences: list[str]) -> Int[np.ndarray, "pairs 2"]:
    """Pairs of sequences that share many of their words."""
    words = CountVectorizer(analyzer="char", ngram_range=(WORD, WORD), lowercase=False, binary=True, dtype=np.int32)
    counts = words.fit_transform([each.ljust(WORD, "X") for each in sequences])
    sizes = np.asarray(counts.sum(axis=1)).ravel()
    pairs = []
    # Variants of one protein all share words, so that all pairs would not fit into memory.
    for start in range(0, len(sequences), BLOCK):
        shared = (counts[start : start + BLOCK] @ counts.T).tocoo()
        rows, columns = shared.row + start, shared.col
        close = shared.data >= SHARED * np.minimum(sizes[rows], sizes[columns])
        pairs.append(np.stack([rows[close], columns[close]], axis=1))
    return np.concatenate(pairs)
