"""The labelled proteins of a file; those that cannot be used are left out and reported."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from eqxesm.data.cleaning import Cleaned, Cleaning, is_nucleic_acid
from eqxesm.data.protein import Columns, Protein
from eqxesm.data.proteins import read_proteins
from eqxesm.errors import InputError, pluralise

MAX_LISTED = 20


@dataclass(frozen=True)
class LabelledFile:
    """Proteins of both classes, in upper case with nothing stripped, and what was left out."""

    path: str
    proteins: list[Protein]
    left_out: list[tuple[str, str]]
    without_label: int

    @property
    def sequences(self) -> list[str]:
        return [protein.sequence for protein in self.proteins]

    @property
    def labels(self) -> Int[np.ndarray, " proteins"]:
        return np.array([protein.label for protein in self.proteins], np.int64)

    def accepted_by(self, clean: Callable[[str], Cleaned]) -> "LabelledFile":
        """Leave out what a model cannot predict."""
        cleaned, left_out = _clean_all(self.proteins, clean)
        proteins = [protein for protein, _ in cleaned]
        return _checked(self.path, proteins, self.left_out + left_out, self.without_label)

    def describe_left_out(self) -> dict[str, Any]:
        """What was left out, as JSON values."""
        first = [{"id": name, "reason": reason} for name, reason in self.left_out[:MAX_LISTED]]
        return {"left_out": first, "not_used": len(self.left_out), "without_label": self.without_label}


def read_labelled(path: str | os.PathLike, columns: Columns = Columns()) -> LabelledFile:
    """Read the labelled proteins of a file."""
    labelled, without_label = [], 0
    unreadable = []
    for protein in read_proteins(path, columns, labelled=True):
        if protein.remark and not protein.sequence:
            unreadable.append((protein.id, protein.remark))
        elif protein.label is None:
            without_label += 1
        else:
            labelled.append(protein)
    if not labelled:
        raise InputError(f"{path}: no protein has a label, 1 (soluble) or 0 (insoluble)")
    cleaned, left_out = _clean_all(labelled, _clean_protein)
    proteins = [replace(protein, sequence=result.sequence) for protein, result in cleaned]
    return _checked(os.fspath(path), proteins, unreadable + left_out, without_label)


def format_left_out(report: Mapping[str, Any]) -> list[str]:
    """Lines that say what a report left out."""
    lines = []
    if number := report["not_used"]:
        first = report["left_out"][0]
        lines.append(f"{pluralise(number, 'protein')} left out, first {first['id']}: {first['reason']}")
    if number := report["without_label"]:
        lines.append(f"{pluralise(number, 'protein')} without a label left out")
    return lines


def _clean_protein(sequence: str) -> Cleaned:
    cleaned = Cleaning().clean(sequence)
    if is_nucleic_acid(cleaned.sequence):
        raise InputError("reads as DNA or RNA. Translate it.")
    return cleaned


def _clean_all(
    proteins: Iterable[Protein], clean: Callable[[str], Cleaned]
) -> tuple[list[tuple[Protein, Cleaned]], list[tuple[str, str]]]:
    cleaned, left_out = [], []
    for protein in proteins:
        try:
            cleaned.append((protein, clean(protein.sequence)))
        except InputError as error:
            left_out.append((protein.id, str(error)))
    return cleaned, left_out


def _checked(path: str, proteins: list[Protein], left_out: list[tuple[str, str]], without_label: int) -> LabelledFile:
    if not proteins:
        name, reason = left_out[0]
        raise InputError(f"{path}: no labelled protein can be used, first {name}: {reason}")
    classes = {protein.label for protein in proteins}
    if len(classes) == 1:
        raise InputError(
            f"{path}: all {len(proteins)} usable proteins have label {classes.pop()}. Both classes are needed."
        )
    return LabelledFile(path, proteins, left_out, without_label)
