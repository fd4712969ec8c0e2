"""Tasks that encoders are compared on: proteins, labels, and what is trained on, chosen by and tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int
from pydantic import Strict

from eqxesm.alphabet import Tokenizer
from eqxesm.config import configuration
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.formats import open_delimited, read_lines
from eqxesm.data.sources import split_conditions
from eqxesm.errors import InputError, at
from eqxesm.files import check_input, expand_user
from heads.fields import Count

UNKNOWN = "-"
"""Label of a residue that is neither trained on nor scored."""


@configuration
class Task:
    """A task: a folder with three tables, or one table with a column of folds that are held out in turn.

    `kind` is `binary` (labels 0 and 1), `classes`, `regression`, or `residues` (a letter for each residue). `most`
    bounds the proteins of each table. With `strip_tags`, purification tags and what vectors leave are cut off.
    """

    name: str
    kind: Literal["binary", "classes", "regression", "residues"]
    path: str
    training: str = "train.csv"
    validation: str = "valid.csv"
    test: str = "test.csv"
    sequence_column: str = "sequence"
    label_column: str = "label"
    fold_column: str | None = None
    where: Annotated[tuple[str, ...], Strict(False)] = ()
    most: Count | None = None
    strip_tags: bool = False

    def __post_init__(self):
        split_conditions(self.where)
        if self.strip_tags and self.kind == "residues":
            raise InputError("strip_tags cuts residues off that have labels. Leave it out of a task of kind residues")


@dataclass(frozen=True)
class Table:
    """Proteins with their labels and folds. A task without folds has empty ones."""

    proteins: list[Int[np.ndarray, " _"]]
    labels: np.ndarray
    folds: np.ndarray


@dataclass(frozen=True)
class Split:
    """Rows of a task to train on, to choose by and to test on, by index."""

    training: Int[np.ndarray, " _"]
    validation: Int[np.ndarray, " _"]
    test: Int[np.ndarray, " _"]


@dataclass(frozen=True)
class Data:
    """A task as it was read: all of its proteins, and its splits."""

    task: Task
    table: Table
    splits: list[Split]


def read_task(task: Task, root: Path, max_residues: int) -> Data:
    """Read a task, whole or not at all."""
    root = root / expand_user(task.path)
    with at(f"task {task.name}"):
        if task.fold_column is not None:
            table = _read_table(root, task, max_residues)
            folds = sorted(set(table.folds))
            if len(folds) < 3:
                raise InputError(f"{root}: {len(folds)} folds in column {task.fold_column!r}, expected at least 3")
            return Data(task, table, [_hold_out(table, folds, number) for number in range(len(folds))])
        tables = [_read_table(root / name, task, max_residues) for name in (task.training, task.validation, task.test)]
        joined = Table(
            [protein for table in tables for protein in table.proteins],
            np.concatenate([table.labels for table in tables]),
            np.concatenate([table.folds for table in tables]),
        )
        ends = np.cumsum([0, *(len(table.proteins) for table in tables)])
        return Data(task, joined, [Split(*(np.arange(*ends[i : i + 2]) for i in range(3)))])


def _hold_out(table: Table, folds: Sequence[str], number: int) -> Split:
    held_out, following = folds[number], folds[(number + 1) % len(folds)]
    rest = ~np.isin(table.folds, [held_out, following])
    return Split(*(np.flatnonzero(each) for each in (rest, table.folds == following, table.folds == held_out)))


def _read_table(path: Path, task: Task, max_residues: int) -> Table:
    check_input(path)
    proteins, labels, folds = [], [], []
    cleaning = Cleaning(strip_tags=task.strip_tags)
    conditions = dict(split_conditions(task.where))
    columns = [task.sequence_column, task.label_column, *conditions, *([task.fold_column] if task.fold_column else [])]
    table = open_delimited(str(path), read_lines(str(path), path), ",", lambda header: task.sequence_column in header)
    if missing := [name for name in columns if name not in table.header]:
        raise InputError(f"{path}: no column {missing[0]!r}. Its columns: {', '.join(table.header)}")
    for place, row in table.read(columns):
        if isinstance(row, str):
            raise InputError(f"{path}: {row}")
        if any(row[name].strip() != value for name, value in conditions.items()):
            continue
        with at(place):
            sequence = cleaning.clean(row[task.sequence_column]).sequence
            labels.append(_read_label(row[task.label_column].strip(), task.kind, len(sequence), max_residues))
        proteins.append(Tokenizer().encode(sequence[:max_residues]))
        folds.append(row[task.fold_column].strip() if task.fold_column else "")
        if task.most is not None and len(proteins) == task.most:
            break
    if not proteins:
        raise InputError(f"{path}: no proteins")
    return Table(proteins, np.array(labels), np.array(folds))


def _read_label(text: str, kind: str, length: int, max_residues: int) -> Any:
    try:
        if kind == "regression":
            return float(text)
        if kind == "binary":
            return {"0": 0, "1": 1}[text]
    except (KeyError, ValueError):
        expected = "a number" if kind == "regression" else "0 or 1"
        raise InputError(f"label {text!r}, expected {expected}") from None
    if kind == "residues" and len(text) != length:
        raise InputError(f"{len(text)} labels for {length} residues")
    return text[:max_residues] if kind == "residues" else text
