"""Make the proteins that the default model's encoder is pretrained on, without what it is tested on.

    python model_cards/default/corpus.py --data ../shared/data --out corpus

reads `pretrain/*.fasta.gz`, holds out a hundredth for validation, and leaves out of training every protein with an
alignment of at least 30% identity over half of either sequence to the held-out ones or to a test split: those of
DeepSol, PLM_Sol and eSOL, and of every task. MMseqs2 must be installed.
"""

import argparse
import gzip
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eqxesm.data.cleaning import Cleaning
from eqxesm.data.protein import Columns
from eqxesm.data.proteins import read_proteins
from eqxesm.data.similarity import PROGRAM, nearest_identity, nearest_identity_to_few

MAX_IDENTITY = 0.3
HELD_OUT = 0.01
# What a quick search finds, the slow one need not look at.
SENSITIVITIES = (4.0, 7.5)
SEED = 0
MIN_RESIDUES, MAX_RESIDUES = 30, 2046


def read_tests(data: Path) -> dict[str, list[str]]:
    """The sequences of every test split that is reported."""
    paths = {
        "DeepSol": data / "proteinea_solubility" / "solubility_testing.csv",
        "PLM_Sol": data / "plm_sol" / "test_dataset.fasta",
        "eSOL": data / "esol" / "test.csv",
        **{path.parent.name: path for path in sorted(data.glob("tasks/*/test.csv"))},
    }
    return {name: sorted(set(read_sequences(path))) for name, path in paths.items()}


def read_sequences(path: Path) -> list[str]:
    """The cleaned sequences of a file."""
    return [Cleaning().clean(protein.sequence).sequence for protein in read_proteins(path, Columns())]


def find_similar(queries: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """Which queries are as similar to a target as the rule says."""
    similar = np.zeros(len(queries), bool)
    for sensitivity in SENSITIVITIES:
        left = np.flatnonzero(~similar)
        identities = nearest_identity([queries[number] for number in left], targets, sensitivity=sensitivity)
        similar[left] = identities >= MAX_IDENTITY
    return similar


def write_fasta(path: Path, sequences: Sequence[str]) -> None:
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.writelines(f">{number}\n{sequence}\n".encode() for number, sequence in enumerate(sequences, 1))


def make_corpus(
    proteins: Sequence[str], tests: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[str], dict[str, int]]:
    """Training and validation proteins, and what was left out."""
    unique = list(dict.fromkeys(each for each in proteins if MIN_RESIDUES <= len(each) <= MAX_RESIDUES))
    known = set(unique)
    same = {f"the same as in the {name} test": len(known & set(sequences)) for name, sequences in tests.items()}
    # Once for all tests: what takes the time is to index the proteins.
    similar = find_similar(unique, sorted({sequence for sequences in tests.values() for sequence in sequences}))
    kept = [sequence for sequence, like in zip(unique, similar, strict=True) if not like]
    chosen = np.random.default_rng(SEED).permutation(len(kept))[: round(HELD_OUT * len(kept))]
    validation = [kept[number] for number in sorted(chosen)]
    held_out = set(validation)
    training = [sequence for sequence in kept if sequence not in held_out]
    like = nearest_identity_to_few(training, validation) >= MAX_IDENTITY
    left_out = {
        "not 30 to 2,046 residues, or there already": len(proteins) - len(unique),
        "like a protein of a test split": int(similar.sum()),
        **same,
        "like a validation protein": int(like.sum()),
    }
    return [sequence for sequence, each in zip(training, like, strict=True) if not each], validation, left_out


def main() -> None:
    """Make the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if shutil.which(PROGRAM) is None:
        raise SystemExit("MMseqs2 (mmseqs) is not installed, and the test proteins cannot be found without it")
    proteins = [each for path in sorted(options.data.glob("pretrain/*.fasta.gz")) for each in read_sequences(path)]
    training, validation, left_out = make_corpus(proteins, read_tests(options.data))
    options.out.mkdir(parents=True, exist_ok=True)
    write_fasta(options.out / "training.fasta.gz", training)
    write_fasta(options.out / "validation.fasta.gz", validation)
    facts = {
        "proteins": len(proteins),
        "training": {"proteins": len(training), "residues": sum(map(len, training))},
        "validation": {"proteins": len(validation), "residues": sum(map(len, validation))},
        "left_out": left_out,
    }
    (options.out / "corpus.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
