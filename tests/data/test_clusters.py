"""Clusters of sequences, with MMseqs2 and without."""

import shutil

import numpy as np
import pytest

from eqxesm.data.clusters import cluster
from eqxesm.data.similarity import PROGRAM

RNG = np.random.default_rng(1)
LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def made_up(length: int) -> str:
    return "".join(RNG.choice(LETTERS, length))


def mutant(sequence: str, share: float) -> str:
    residues = np.array(list(sequence))
    changed = RNG.random(len(residues)) < share
    residues[changed] = RNG.choice(LETTERS, int(changed.sum()))
    return "".join(residues)


@pytest.mark.parametrize(
    "present",
    [False, pytest.param(True, marks=pytest.mark.skipif(not shutil.which(PROGRAM), reason="MMseqs2 is missing"))],
)
def test_relatives_are_in_one_cluster_and_strangers_are_not(present, monkeypatch):
    if not present:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    first, second = made_up(150), made_up(120)
    sequences = [first, second, mutant(first, 0.1), first, mutant(second, 0.1), made_up(140), "MKV"]
    numbers, how = cluster(sequences, 0.3)
    same = numbers[:, None] == numbers[None]
    expected = np.eye(7, dtype=bool)
    for group in ([0, 2, 3], [1, 4]):
        expected[np.ix_(group, group)] = True
    np.testing.assert_array_equal(same, expected)
    assert ("MMseqs2 is not installed" in how) is not present
