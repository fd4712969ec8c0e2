"""Sequence identity by MMseqs2: against closed forms and Biopython, and with a stand-in for the program."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from Bio.Align import PairwiseAligner, substitution_matrices

from eqxesm.data.similarity import PROGRAM, nearest_identity, nearest_identity_to_few
from eqxesm.errors import InputError

needs_mmseqs = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="MMseqs2 is not installed")
LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def made_up(seed: int, length: int) -> str:
    return "".join(np.random.default_rng(seed).choice(LETTERS, length))


def mutant(sequence: str, substitutions: int) -> str:
    """Substitute far from the ends, so that a local alignment spans everything."""
    rng = np.random.default_rng(7)
    residues = list(sequence)
    for place in rng.choice(np.arange(8, len(sequence) - 8), substitutions, replace=False):
        residues[place] = rng.choice(LETTERS[residues[place] != LETTERS])
    return "".join(residues)


def by_biopython(query: str, target: str) -> float:
    aligner = PairwiseAligner(mode="local", open_gap_score=-11, extend_gap_score=-1)
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    best = aligner.align(query, target)[0]
    pairs = list(zip(best[0], best[1], strict=True))
    return sum(a == b for a, b in pairs) / len(pairs)


@needs_mmseqs
def test_substitutions_give_the_identity_in_closed_form():
    target = made_up(0, 200)
    queries = [mutant(target, substitutions) for substitutions in (0, 1, 40, 60)]
    queries.append(made_up(1, 200))
    found = nearest_identity(queries, [made_up(2, 150), target, made_up(3, 250)])
    np.testing.assert_allclose(found, [1.0, 0.995, 0.8, 0.7, 0.0], rtol=1e-12)


@needs_mmseqs
def test_gaps_give_the_identity_that_biopython_counts():
    target = made_up(4, 180)
    changed = mutant(target, 30)
    queries = [
        changed[:60] + changed[72:],
        changed[:90] + "GSGSGSWWG" + changed[90:],
        changed[:40] + changed[43:120] + "PPWPP" + changed[120:],
    ]
    expected = [by_biopython(query, target) for query in queries]
    assert all(0.5 < identity < 0.95 for identity in expected)
    np.testing.assert_allclose(nearest_identity(queries, [target]), expected, rtol=1e-12)


@pytest.mark.slow
@needs_mmseqs
def test_the_nearest_target_counts_whatever_the_order():
    targets = [made_up(seed, 120) for seed in range(5)]
    queries = [mutant(targets[4], 30), mutant(targets[1], 12), targets[2]]
    both = [*targets, mutant(queries[0], 3)]
    found = nearest_identity(queries, both)
    np.testing.assert_allclose(found, [0.975, 0.9, 1.0], rtol=1e-12)
    assert nearest_identity(queries[:1], targets).item() == 0.75
    np.testing.assert_array_equal(nearest_identity(queries, both[::-1]), found)


@pytest.mark.slow
@needs_mmseqs
def test_searching_with_the_few_finds_the_same():
    few = [made_up(seed, 120) for seed in range(4)]
    proteins = [mutant(few[seed % 4], seed) for seed in range(1, 30)] + [made_up(99, 200)]
    np.testing.assert_allclose(nearest_identity_to_few(proteins, few), nearest_identity(proteins, few), rtol=1e-12)


@pytest.mark.slow
@needs_mmseqs
def test_either_sequence_may_be_covered():
    domain, other = made_up(5, 80), made_up(12, 80)
    long, longer = (made_up(6, 400) + domain, made_up(13, 200) + other + made_up(14, 200))
    assert nearest_identity([domain, longer], [long, other]).tolist() == [1.0, 1.0]
    far = ([made_up(8, 120) + domain + made_up(9, 120)], [made_up(10, 120) + domain + made_up(11, 120)])
    assert nearest_identity(*far).item() == 0.0
    assert nearest_identity(*far, coverage=0.2).item() > 0.7


@needs_mmseqs
def test_proteins_that_look_like_nucleotides_are_compared_as_proteins():
    sequence = "ACGTNGCATCGANTGCAAGCTNCGATGCA" * 4
    assert nearest_identity([sequence], [sequence, "GATTACA" * 12]).item() == 1.0


def program(folder: Path, monkeypatch, script: str) -> None:
    """Put a program of this name on the path."""
    path = folder / PROGRAM
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_identity_and_coverage_come_from_the_alignments(tmp_path, monkeypatch):
    rows = [
        "0 0 30 100 1 50 100 1 100 300",  # half of the query
        "0 0 90 100 1 49 100 1 100 300",  # less of both
        "0 0 20 100 1 100 100 1 100 100",
        "2 0 7 8 11 20 100 6 10 10",  # half of the target
        "2 0 1 2 11 20 100 1 10 10",
    ]
    lines = "".join(row.replace(" ", "\\t") + "\\n" for row in rows)
    program(tmp_path, monkeypatch, f"printf '{lines}' > \"$4\"")
    found = nearest_identity(["M", "M", "M"], ["M"])
    np.testing.assert_allclose(found, [0.3, 0.0, 7 / 8], rtol=1e-15)
    assert found.dtype == np.float64


def test_sequences_are_given_as_fasta(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, f'cp "$2" "$3" {tmp_path}; : > "$4"')
    assert nearest_identity(["MKV", "ML"], ["MA"]).tolist() == [0.0, 0.0]
    assert (tmp_path / "queries.fasta").read_text() == ">0\nMKV\n>1\nML\n"
    assert (tmp_path / "targets.fasta").read_text() == ">0\nMA\n"


def test_a_failure_of_the_program_is_one_line(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, "echo 'no room'; echo 'at all' >&2; exit 3")
    with pytest.raises(InputError, match=r"failed with status 3 \(no room at all\)") as caught:
        nearest_identity(["M"], ["M"])
    assert "\n" not in str(caught.value)


def test_nothing_to_compare_needs_no_search(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, "exit 1")
    assert nearest_identity([], ["M"]).shape == (0,)
    assert nearest_identity(["M", "M"], []).tolist() == [0.0, 0.0]


def test_without_the_program_there_is_no_answer(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert nearest_identity(["M"], ["M"]) is None
