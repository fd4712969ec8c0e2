"""Sequence identity between sets of proteins, by MMseqs2."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from eqxesm.errors import InputError

PROGRAM = "mmseqs"

SENSITIVITY = 7.5
"""Of the prefilter, the highest that MMseqs2 has: 30% identity is far for its k-mers."""

FLAGS = (
    "--alignment-mode", "3",  # align, and report start, end and identity
    "-a", "1",                # keep the alignment, so that identical pairs are counted, not rounded
    "--dbtype", "1",          # proteins, whatever letters the first of them happen to have
    "--threads", "2",
    "-v", "1",                # errors only
    "--format-output", "query,target,nident,alnlen,qstart,qend,qlen,tstart,tend,tlen",
)  # fmt: skip
"""Flags of `mmseqs easy-search`. The others keep their defaults: an E-value of at most 1e-3, low complexity masked."""

BEST_TARGETS = 300
"""Targets of the prefilter that are aligned for each query, MMseqs2's default."""


def nearest_identity(
    queries: Sequence[str], targets: Sequence[str], *, coverage: float = 0.5, sensitivity: float = SENSITIVITY
) -> Float[np.ndarray, " queries"] | None:
    """Identity of each query to its most similar target, 0 to 1; None where MMseqs2 is missing.

    Identity is identical pairs by columns of the alignment. Only alignments over at least
    `coverage` of either sequence count. `sensitivity` is MMseqs2's `-s`.
    """
    if shutil.which(PROGRAM) is None:
        return None
    nearest = np.zeros(len(queries))
    for query, _, identity in align(queries, targets, coverage, sensitivity, BEST_TARGETS):
        nearest[query] = max(nearest[query], identity)
    return nearest


def nearest_identity_to_few(
    proteins: Sequence[str], few: Sequence[str], *, coverage: float = 0.5
) -> Float[np.ndarray, " proteins"] | None:
    """As `nearest_identity(proteins, few)`, but found by searching with the few, which takes far less time.

    E-values grow with what is searched, so that weaker hits are missed: use it where none need be found.
    """
    if shutil.which(PROGRAM) is None:
        return None
    nearest = np.zeros(len(proteins))
    for _, protein, identity in align(few, proteins, coverage, SENSITIVITY, len(proteins)):
        nearest[protein] = max(nearest[protein], identity)
    return nearest


def find_nearest(queries: Sequence[str], targets: Sequence[str]) -> Int[np.ndarray, " queries"] | None:
    """The most similar target of each query, by number; -1 where none is found. None where MMseqs2 is missing."""
    if shutil.which(PROGRAM) is None:
        return None
    nearest, identities = np.full(len(queries), -1), np.zeros(len(queries))
    for query, target, identity in align(queries, targets, 0.5, SENSITIVITY, BEST_TARGETS):
        if identity > identities[query]:
            nearest[query], identities[query] = target, identity
    return nearest


def align(
    queries: Sequence[str], targets: Sequence[str], coverage: float, sensitivity: float, most: int
) -> Iterator[tuple[int, int, float]]:
    """Query, target and identity of every alignment over at least `coverage` of either sequence."""
    if not len(queries) or not len(targets):
        return
    for line in _search(queries, targets, sensitivity, most):
        query, target, identical, columns, *ends = map(int, line.split("\t"))
        query_start, query_end, query_length, target_start, target_end, target_length = ends
        covered = max((query_end - query_start + 1) / query_length, (target_end - target_start + 1) / target_length)
        if covered >= coverage:
            yield query, target, identical / columns


def _search(queries: Sequence[str], targets: Sequence[str], sensitivity: float, most: int) -> Iterable[str]:
    with tempfile.TemporaryDirectory(prefix="eqxesm-") as name:
        folder = Path(name)
        paths = [folder / "queries.fasta", folder / "targets.fasta", folder / "found.tsv"]
        for path, sequences in zip(paths, (queries, targets), strict=False):
            with path.open("w") as file:
                file.writelines(f">{i}\n{sequence}\n" for i, sequence in enumerate(sequences))
        limits = ["-s", str(sensitivity), "--max-seqs", str(most)]
        command = [PROGRAM, "easy-search", *map(str, paths), str(folder / "temporary"), *FLAGS, *limits]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            output = " ".join((done.stdout + done.stderr).split())[-200:]
            raise InputError(f"{PROGRAM} easy-search failed with status {done.returncode} ({output})")
        return paths[2].read_text().splitlines()
