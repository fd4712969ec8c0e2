"""One pass over a split of labelled proteins: what is kept of it, without holding its sequences."""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from eqxesm.data.cleaning import Cleaning, is_nucleic_acid
from eqxesm.data.hygiene_report import Portion, format_counts
from eqxesm.data.lazy import LazySequence, select
from eqxesm.data.protein import Protein
from eqxesm.errors import InputError, pluralise

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
"""Why a protein is left out. The first rule that it breaks counts."""

NO_DIGEST = bytes(16)
"""Digest of a sequence that cannot be cleaned, or of no cluster."""


@dataclass(frozen=True)
class Split:
    """The proteins of a split, looked up when they are asked for. Lengths are in residues."""

    proteins: Sequence[Protein]
    lengths: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]


class Scan:
    """A digest, a length, a label and a rule for each protein of a split."""

    def __init__(self, name: str, proteins: Sequence[Protein], cleaning: Cleaning, is_test: bool = False):
        self.name, self.proteins, self.cleaning, self.is_test = name, proteins, cleaning, is_test
        self.title = f"test set {name!r}" if is_test else name
        self.origins: dict[tuple[str, str | None], int] = {}
        digests, clusters = bytearray(), bytearray()
        lengths, labels, origins = array("i"), array("i"), array("i")
        for protein in proteins:
            if protein.label is None:
                raise InputError(f"{self.title}: {protein.id} has no label")
            sequence = clean_or_none(cleaning, protein)
            digests += digest(sequence)
            clusters += digest(protein.cluster)
            lengths.append(len(sequence or ""))
            labels.append(protein.label)
            origin = protein.source or "", protein.license
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
        """Leave out proteins that are still kept."""
        self.rule[mask & (self.rule == 0)] = RULES.index(rule)

    def find_repeats(self) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Masks of sequences with both labels, and of duplicates after the first."""
        rows = self.rows
        _, first, group = np.unique(self.digests[rows], return_index=True, return_inverse=True)
        share = np.bincount(group, self.labels[rows]) / np.bincount(group)
        conflicting, repeated = np.zeros((2, len(self.rule)), bool)
        conflicting[rows] = ((share > 0) & (share < 1))[group]
        repeated[rows] = first[group] != np.arange(len(rows))
        return conflicting, repeated & ~conflicting

    def check(self) -> None:
        """Refuse a split of which nothing, or one class, is left."""
        labels = self.labels[self.rows]
        if not len(labels):
            reasons = format_counts(self._left_out(self.rule)) or "none was read"
            raise InputError(f"{self.title}: none of {pluralise(len(self.rule), 'protein')} is left ({reasons})")
        if not self.is_test and labels.min() == labels.max():
            raise InputError(
                f"{self.title}: every protein that is left has label {labels[0]}. Both classes are needed."
            )

    def split(self) -> Split:
        rows = self.rows
        return Split(select(self.proteins, rows), self.lengths[rows], self.labels[rows])

    def sequences(self) -> Sequence[str]:
        """Cleaned sequences of what is kept, each made when it is asked for."""
        rows = self.rows

        def make(i: int) -> str:
            return self.cleaning.clean(self.proteins[int(rows[i])].sequence).sequence

        return LazySequence(len(rows), make)

    def portions(self) -> Iterator[Portion]:
        """What became of the proteins of every source."""
        conflicting, repeated = self.find_repeats()
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
        return {rule: int(n) for rule, n in zip(RULES, numbers, strict=True) if rule != "kept" and n}


def clean_or_none(cleaning: Cleaning, protein: Protein) -> str | None:
    """The cleaned sequence, or None if it cannot be cleaned or is no protein."""
    try:
        sequence = cleaning.clean(protein.sequence).sequence
    except InputError:
        return None
    return None if is_nucleic_acid(sequence) else sequence


def digest(text: str | None) -> bytes:
    """Hash a text to 16 bytes."""
    if text is None:
        return NO_DIGEST
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
