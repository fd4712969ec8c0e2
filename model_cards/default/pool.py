"""The labelled proteins that the default model is trained and measured on.

    python model_cards/default/pool.py --data ../shared/data

searches them once more for relatives of test proteins, by MMseqs2 and with tags stripped, and lists what it finds in
`like_tests.txt`. These are left out too.
"""

import argparse
import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from eqxesm.data.cleaning import Cleaning, is_nucleic_acid
from eqxesm.data.protein import Columns
from eqxesm.data.proteins import read_proteins
from eqxesm.data.similarity import nearest_identity_to_few

LIKE_TESTS = Path(__file__).parent / "like_tests.txt"
MAX_IDENTITY = 0.3

COPIES = 3
"""Further copies of each protein in training."""
SHARE_OF_ENDS = 0.7
"""Share of the ends of the copies at which there are random vector residues."""

SOURCES = {
    "DeepSol validation": ("sameerkhurana10/DSOL_rv0.2, as the Hub data set proteinea/solubility", "MIT"),
    "PLM_Sol validation": ("Violet969/PLM_Sol, UESolDS", "MIT"),
    "ProtSol test split": ("binbinbinv/ProtSol at c6375e138348, a sample of DeepSol's data", "MIT"),
    "PDBSol validation": (
        "tyang816/ProtSolM at 85ee585674db",
        "Apache-2.0 at that commit; CC BY-NC-ND 4.0 since 3ae6593 of 2025-05-16",
    ),
    "eSOL >= 0.5 (GraphSol train)": (
        "jcchan23/GraphSol at 43be8f6e761d, from eSOL",
        "MIT for the repository; the terms of eSOL itself are not known",
    ),
}
"""Where the rows of each source were taken from, and the licence stated there."""

SAME_LABELS = ("DeepSol validation", "ProtSol test split")
"""Two samples of one data set: none of them tells anything about the other that is not known."""


@dataclass(frozen=True)
class Proteins:
    """Proteins with labels, as they were published and cleaned. Those of one cluster are at least 30% identical."""

    sequences: list[str]
    cleaned: list[str]
    labels: Int[np.ndarray, " n"]
    sources: np.ndarray
    folds: Int[np.ndarray, " n"]
    clusters: np.ndarray

    def unrelated(self, source: str) -> Bool[np.ndarray, " n"]:
        """Which proteins are of another source with labels of its own, and in no cluster of this one's."""
        own = self.sources == source
        alike = np.isin(self.sources, SAME_LABELS) if source in SAME_LABELS else own
        return ~alike & ~np.isin(self.clusters, self.clusters[own])


def read_pool(data: Path, cleaning: Cleaning, most: int | None = None) -> Proteins:
    """The rows of the pool whose licences let weights be published, without those near the eSOL test."""
    with open(data / "train_pool" / "pool2.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["publish"] == "yes" and row["near_esol_test"] == "no"]
    # One of DeepSol's is the DNA of its protein.
    like_tests = set(LIKE_TESTS.read_text().split())
    rows = [row for row in rows if not is_nucleic_acid(row["sequences"]) and digest(row["sequences"]) not in like_tests]
    rows = rows[:: max(1, len(rows) // most)] if most else rows

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows])

    sequences = [row["sequences"] for row in rows]
    cleaned = [cleaning.clean(each).sequence for each in sequences]
    labels, folds = column("labels").astype(int), column("fold").astype(int)
    return Proteins(sequences, cleaned, labels, column("source"), folds, column("cluster30"))


def digest(sequence: str) -> str:
    """A short name of a sequence."""
    return hashlib.sha256(sequence.encode()).hexdigest()[:16]


def read_tests(data: Path, cleaning: Cleaning, most: int | None = None) -> dict[str, tuple[list[str], np.ndarray]]:
    """Sequences and labels of the test sets, and of the part of PLM_Sol in which no tag or vector residue is found."""
    columns = Columns(sequence="sequences", label="labels")
    paths = {
        "DeepSol test": read_proteins(data / "proteinea_solubility" / "solubility_testing.csv", columns, labelled=True),
        "PLM_Sol test": read_proteins(data / "plm_sol" / "test_dataset.fasta", labelled=True),
    }
    tests = {}
    for name, records in paths.items():
        proteins = list(records)
        proteins = proteins[:: max(1, len(proteins) // most)] if most else proteins
        tests[name] = [each.sequence for each in proteins], np.array([each.label for each in proteins])
    sequences, labels = tests["PLM_Sol test"]
    bare = [number for number, each in enumerate(sequences) if not cleaning.clean(each).notes]
    tests["PLM_Sol test, scar-free part"] = [sequences[number] for number in bare], labels[bare]
    return tests


def main() -> None:
    """List the proteins of the pool that are like one of a test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    cleaning = Cleaning(strip_tags=True)
    LIKE_TESTS.write_text("")
    pool = read_pool(data, cleaning)
    esol = read_proteins(data / "esol" / "test.csv", Columns(sequence="sequence"))
    tests = [sequence for sequences, _ in read_tests(data, cleaning).values() for sequence in sequences]
    tests = sorted({cleaning.clean(each).sequence for each in [*tests, *(protein.sequence for protein in esol)]})
    nearest = nearest_identity_to_few(pool.cleaned, tests)
    if nearest is None:
        raise SystemExit("MMseqs2 (mmseqs) is not installed")
    found = [digest(pool.sequences[row]) for row in np.flatnonzero(nearest >= MAX_IDENTITY)]
    LIKE_TESTS.write_text("\n".join(sorted(found)) + "\n")
    print(f"{len(found)} of {len(pool.sequences):,} proteins are like one of a test")


if __name__ == "__main__":
    main()
