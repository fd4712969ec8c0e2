"""Labelled proteins of a file; those that cannot be used are left out and told."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from eqxesm.data.cleaning import Cleaned, Cleaning
from eqxesm.data.records import Record, read_records
from eqxesm.data.tags import count
from eqxesm.errors import InputError

SHOWN = 20


@dataclass(frozen=True)
class Labelled:
    """Proteins with labels, soluble and insoluble ones.

    Attributes:
        path: of the file.
        records: the proteins, as they were published, in the spelling of `Cleaning()`.
        left_out: id and reason of each labelled record that is not among them.
        without_label: number of records that have no label.
    """

    path: str
    records: list[Record]
    left_out: list[tuple[str, str]]
    without_label: int

    @property
    def sequences(self) -> list[str]:
        """The sequences, in upper case, nothing stripped."""
        return [record.sequence for record in self.records]

    @property
    def labels(self) -> Int[np.ndarray, " proteins"]:
        """1 = soluble, 0 = insoluble."""
        return np.array([record.label for record in self.records], np.int64)

    def accepted_by(self, clean: Callable[[str], Cleaned]) -> "Labelled":
        """Leave out what a model cannot predict.

        Args:
            clean: refuses a sequence; what it gives is not looked at.

        Returns:
            The others.

        Raises:
            InputError: none is left, or one class only.
        """
        cleaned, left_out = _sift(self.records, clean)
        records = [record for record, _ in cleaned]
        return _checked(self.path, records, self.left_out + left_out, self.without_label)

    def told(self) -> dict[str, Any]:
        """Say what was left out.

        Returns:
            What JSON holds: the first `left_out` with their reasons, how many they are in all
            (`not_used`), and how many records had no label (`without_label`).
        """
        first = [{"id": name, "reason": reason} for name, reason in self.left_out[:SHOWN]]
        return {
            "left_out": first,
            "not_used": len(self.left_out),
            "without_label": self.without_label,
        }


def read_labelled(
    path: str | os.PathLike,
    *,
    sequence_column: str = "sequence",
    label_column: str = "label",
    id_column: str | None = None,
) -> Labelled:
    """Read the labelled proteins of a file.

    Args:
        path: FASTA, CSV or TSV, as `read_records` takes it.
        sequence_column: a table's column of sequences.
        label_column: a table's column of labels.
        id_column: a table's column of ids.

    Returns:
        The proteins that have a label and consist of residues.

    Raises:
        InputError: the file cannot be read, no protein has a label, none is left, or one class
            only.
    """
    records = read_records(
        path,
        labels=True,
        sequence_column=sequence_column,
        label_column=label_column,
        id_column=id_column,
    )
    labelled = [record for record in records if record.label is not None]
    if not labelled:
        raise InputError(f"{path}: no protein has a label: give each 1 (soluble) or 0")
    cleaned, left_out = _sift(labelled, Cleaning().clean)
    spelled = [Record(record.id, result.sequence, record.label) for record, result in cleaned]
    return _checked(os.fspath(path), spelled, left_out, len(records) - len(labelled))


def describe_left_out(report: Mapping[str, Any]) -> list[str]:
    """Say what a report left out.

    Args:
        report: what JSON holds, `Labelled.told` among it.

    Returns:
        Sentences, a line each.
    """
    lines = []
    if number := report["not_used"]:
        first = report["left_out"][0]
        lines.append(f"{count(number, 'protein')} left out, first {first['id']}: {first['reason']}")
    if number := report["without_label"]:
        lines.append(f"{count(number, 'protein')} without a label left out")
    return lines


def _sift(
    records: Iterable[Record], clean: Callable[[str], Cleaned]
) -> tuple[list[tuple[Record, Cleaned]], list[tuple[str, str]]]:
    cleaned, left_out = [], []
    for record in records:
        try:
            cleaned.append((record, clean(record.sequence)))
        except InputError as error:
            left_out.append((record.id, str(error)))
    return cleaned, left_out


def _checked(
    path: str, records: list[Record], left_out: list[tuple[str, str]], without_label: int
) -> Labelled:
    if not records:
        name, reason = left_out[0]
        raise InputError(f"{path}: no labelled protein can be used; the first, {name}: {reason}")
    classes = {record.label for record in records}
    if len(classes) == 1:
        raise InputError(
            f"{path}: all {len(records)} proteins that can be used have the label {classes.pop()}: "
            "give soluble and insoluble ones"
        )
    return Labelled(path, records, left_out, without_label)
