"""Sequence identity between sets of proteins, by MMseqs2."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from eqxesm.errors import InputError

PROGRAM = "mmseqs"

FLAGS = (
    "-s", "7.5",              # the most sensitive prefilter: 30% identity is far for its k-mers
    "--alignment-mode", "3",  # align, and report start, end and identity
    "-a", "1",                # keep the alignment, so that identical pairs are counted, not rounded
    "--dbtype", "1",          # proteins, whatever letters the first of them happen to have
    "--threads", "2",
    "-v", "1",                # errors only
    "--format-output", "query,nident,alnlen,qstart,qend,qlen,tstart,tend,tlen",
)  # fmt: skip
"""Flags of `mmseqs easy-search`. The others keep their defaults: an E-value of at most 1e-3, the 300
best targets of the prefilter per query, low complexity masked."""


def nearest_identity(
    queries: Sequence[str], targets: Sequence[str], *, coverage: float = 0.5
) -> Float[np.ndarray, " queries"] | None:
    """Identity of each query to its most similar target, 0 to 1; None where MMseqs2 is missing.

    Identity is identical pairs by columns of the alignment. Only alignments over at least
    `coverage` of either sequence count.
    """
    if shutil.which(PROGRAM) is None:
        return None
    nearest = np.zeros(len(queries))
    if not len(queries) or not len(targets):
        return nearest
    for line in _search(queries, targets):
        query, identical, columns, *ends = map(int, line.split("\t"))
        query_start, query_end, query_length, target_start, target_end, target_length = ends
        covered = max((query_end - query_start + 1) / query_length, (target_end - target_start + 1) / target_length)
        if covered >= coverage:
            nearest[query] = max(nearest[query], identical / columns)
    return nearest


def _search(queries: Sequence[str], targets: Sequence[str]) -> Iterable[str]:
    with tempfile.TemporaryDirectory(prefix="eqxesm-") as name:
        folder = Path(name)
        paths = [folder / "queries.fasta", folder / "targets.fasta", folder / "found.tsv"]
        for path, sequences in zip(paths, (queries, targets), strict=False):
            with path.open("w") as file:
                file.writelines(f">{i}\n{sequence}\n" for i, sequence in enumerate(sequences))
        command = [PROGRAM, "easy-search", *map(str, paths), str(folder / "temporary"), *FLAGS]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            output = " ".join((done.stdout + done.stderr).split())[-200:]
            raise InputError(f"{PROGRAM} easy-search failed with status {done.returncode} ({output})")
        return paths[2].read_text().splitlines()
