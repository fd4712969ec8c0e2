"""One pass over a split of labelled proteins: what of it is kept, without holding its sequences."""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene_report import Portion, listed
from eqxesm.data.records import LabelledProtein, Selection
from eqxesm.data.tags import count
from eqxesm.errors import InputError

RULES = (
    "kept",
    "not readable",
    "conflicting labels",
    "duplicate",
    "too long",
    "leaks exactly",
    "leaks by cluster",
    "leaks by identity",
)
"""What may become of a protein; each is left out by the first rule that it breaks."""


@dataclass(frozen=True)
class Split:
    """The proteins of a split, looked up when they are asked for.

    Attributes:
        proteins: as they were read, not cleaned.
        lengths: residues of each after cleaning.
        labels: 1 for soluble, 0 for insoluble, one a protein.
    """

    proteins: Sequence[LabelledProtein]
    lengths: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]


class Scan:
    """One pass over a split: a digest, a length and a label of each protein, and its fate."""

    def __init__(
        self,
        name: str,
        proteins: Sequence[LabelledProtein],
        cleaning: Cleaning,
        is_test: bool = False,
    ):
        self.name, self.proteins, self.cleaning, self.is_test = name, proteins, cleaning, is_test
        self.title = f"test set {name!r}" if is_test else name
        self.origins: dict[tuple[str, str | None], int] = {}
        digests, clusters = bytearray(), bytearray()
        lengths, labels, origins = array("i"), array("i"), array("i")
        for protein in proteins:
            sequence = cleaned(cleaning, protein)
            digests += digest(sequence)
            clusters += digest(protein.cluster)
            lengths.append(len(sequence or ""))
            labels.append(protein.label)
            origin = protein.source, protein.license
            origins.append(self.origins.setdefault(origin, len(self.origins)))
        self.digests = np.frombuffer(digests, "V16")
        self.clusters = np.frombuffer(clusters, "V16")
        self.lengths, self.labels = np.array(lengths, np.int32), np.array(labels, np.int32)
        self.origin = np.array(origins, np.int32)
        self.rule = np.where(self.lengths > 0, 0, RULES.index("not readable")).astype(np.int8)

    @property
    def rows(self) -> Int[np.ndarray, " kept"]:
        """Indices of what is kept."""
        return np.flatnonzero(self.rule == 0)

    def leave_out(self, mask: Bool[np.ndarray, " n"], rule: str) -> None:
        """Leave proteins out that are still kept.

        Args:
            mask: True at them `[n]`.
            rule: the one of `RULES` that they break.
        """
        self.rule[mask & (self.rule == 0)] = RULES.index(rule)

    def repeats(self) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Find sequences with both labels, and of the others all but the first of equal ones."""
        rows = self.rows
        _, first, group = np.unique(self.digests[rows], return_index=True, return_inverse=True)
        share = np.bincount(group, self.labels[rows]) / np.bincount(group)
        conflicting, repeated = np.zeros((2, len(self.rule)), bool)
        conflicting[rows] = ((share > 0) & (share < 1))[group]
        repeated[rows] = first[group] != np.arange(len(rows))
        return conflicting, repeated & ~conflicting

    def check(self) -> None:
        """Refuse a split of which nothing is left, or one class.

        Raises:
            InputError: it is such a one; a test set may hold one class.
        """
        labels = self.labels[self.rows]
        if not len(labels):
            raise InputError(
                f"{self.title}: of {count(len(self.rule), 'protein')} none is left "
                f"({listed(self._left_out(self.rule)) or 'none was read'}): give others"
            )
        if not self.is_test and labels.min() == labels.max():
            raise InputError(
                f"{self.title}: every protein that is left has label {labels[0]}: give both classes"
            )

    def split(self) -> Split:
        """Select what is kept."""
        rows = self.rows
        return Split(Selection(self.proteins, rows), self.lengths[rows], self.labels[rows])

    def portions(self) -> Iterator[Portion]:
        """Tell what became of the proteins of every source."""
        conflicting, repeated = self.repeats()
        for (source, license_), code in self.origins.items():
            own = self.origin == code
            repeats = {"conflicting labels": conflicting, "duplicate": repeated}
            yield Portion(
                split=self.name,
                source=source,
                license=license_,
                read=int(own.sum()),
                soluble=int(self.labels[own].sum()),
                kept=int((self.rule[own] == 0).sum()),
                left_out=self._left_out(self.rule[own]),
                repeats={name: int(m[own].sum()) for name, m in repeats.items() if m[own].any()},
            )

    def _left_out(self, rules: Int[np.ndarray, " _"]) -> dict[str, int]:
        numbers = np.bincount(rules, minlength=len(RULES))
        return {
            rule: int(n) for rule, n in zip(RULES, numbers, strict=True) if rule != "kept" and n
        }


class Sequences(Sequence[str]):
    """The cleaned sequences of the kept proteins of some splits, each made when it is asked for."""

    def __init__(self, *scans: Scan):
        self._places = [(scan, row) for scan in scans for row in scan.rows.tolist()]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index):
        scan, row = self._places[index]
        return scan.cleaning.clean(scan.proteins[row].sequence).sequence


def cleaned(cleaning: Cleaning, protein: LabelledProtein) -> str | None:
    """Clean a protein's sequence.

    Args:
        cleaning: how.
        protein: which.

    Returns:
        The residues, or None where it cannot be cleaned.
    """
    try:
        return cleaning.clean(protein.sequence).sequence
    except InputError:
        return None


NOTHING = bytes(16)
"""What stands for a sequence that cannot be cleaned, or for no cluster."""


def digest(text: str | None) -> bytes:
    """Stand in for a text by 16 bytes.

    Args:
        text: a sequence, or the name of a cluster.

    Returns:
        Its BLAKE2 digest, or `NOTHING` where there is none.
    """
    if text is None:
        return NOTHING
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
