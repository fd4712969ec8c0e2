"""Made-up labelled proteins, and the files that they are read from."""

import numpy as np

RESIDUES = "LAGVSERTIDPKQNFYMHWC"
STARTS, ENDS = ("M", "M", "M", "", "MGSSHHHHHHSSG"), ("", "", "", "LEHHHHHH")


def make_proteins(number: int, seed: int) -> tuple[list[str], np.ndarray]:
    """As many soluble as insoluble ones; the soluble have more Glu and Lys, and fewer tags."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(number) % 2)
    proteins = []
    for label in labels:
        weights = np.array([1.3 + label if r in "EK" else 1.0 for r in RESIDUES])
        body = rng.choice(list(RESIDUES), rng.integers(30, 160), p=weights / weights.sum())
        start = rng.choice(STARTS, p=np.array([2, 2, 2, 1, 2 - label]) / (9 - label))
        proteins.append(start + "".join(body) + rng.choice(ENDS))
    return proteins, labels


PROTEINS, LABELS = make_proteins(60, 0)
UNTAGGED = np.array([p[0] == "M" and "HHHHHH" not in p for p in PROTEINS])


def write_csv(proteins, labels) -> str:
    rows = enumerate(zip(proteins, labels, strict=True))
    return "id,sequence,label\n" + "".join(f"p{i},{protein},{label}\n" for i, (protein, label) in rows)


def write_fasta(proteins, labels) -> str:
    rows = enumerate(zip(proteins, labels, strict=True))
    return "".join(f">p{i} made-up-{label}\n{protein}\n" for i, (protein, label) in rows)
