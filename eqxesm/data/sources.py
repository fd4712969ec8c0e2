"""Where labelled proteins come from, and how they are read."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np

from eqxesm.data.hub_sets import read_hub_set
from eqxesm.data.records import DELIMITERS, LabelledProtein, Record, Selection, read_records
from eqxesm.errors import InputError

_HUB_SET = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Source:
    """A file, or a part of one, that holds labelled proteins.

    Attributes:
        path: a FASTA, CSV or TSV file, plain or gzipped, or an ArrayRecord file; or a folder or a
            data set of the Hub (owner/name), of which `file` then names a CSV file.
        name: what reports call it; by default the file's name without its ending.
        file: a CSV file of the folder or of the Hub's data set.
        revision: commit of the Hub's data set, 40 hexadecimal digits. It must be given there.
        sequence_column: a table's column of sequences.
        label_column: a table's column of labels: 0, 1 or nothing.
        id_column: a table's column of ids; by default `id`, or name and row where there is none.
        source_column: a table's column of collections; by default all of it is one, by its name.
        fold_column: a table's column of folds.
        cluster_column: a table's column of families.
        license_column: a table's column of terms.
        license: the terms of proteins for which no column tells them.
        citation: whom to cite for them.
        where: conditions `column=value` on a table's rows, all of which must hold.
        folds: folds to keep; all of them by default.

    Raises:
        ValueError: a value is not of these forms.
    """

    path: str
    name: str = ""
    file: str | None = None
    revision: str | None = None
    sequence_column: str = "sequence"
    label_column: str = "label"
    id_column: str | None = None
    source_column: str | None = None
    fold_column: str | None = None
    cluster_column: str | None = None
    license_column: str | None = None
    license: str | None = None
    citation: str | None = None
    where: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.path:
            raise ValueError("path is empty: name a file, a folder or a data set of the Hub")
        if self.revision is not None and not _COMMIT.fullmatch(self.revision):
            raise ValueError(
                f"revision is {self.revision!r}: give a commit, 40 hexadecimal digits in lower case"
            )
        for condition in self.where:
            if "=" not in condition:
                raise ValueError(f"where has {condition!r}: write column=value")

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.name or Path((self.file or self.path).removesuffix(".gz")).stem

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """The pairs of column and value in `where`."""
        parts = [condition.partition("=") for condition in self.where]
        return [(column.strip(), value.strip()) for column, _, value in parts]


@dataclass(frozen=True)
class Read:
    """What a source holds.

    Attributes:
        proteins: those that have a label, in the source's order.
        unlabelled: number of those without one, which are left out.
    """

    proteins: Sequence[LabelledProtein]
    unlabelled: int


def read_source(source: Source, root: Path) -> Read:
    """Read the labelled proteins of a source.

    ArrayRecord files stay on disk; everything else is held in memory.

    Args:
        source: what to read.
        root: folder that a relative path starts from.

    Returns:
        The proteins, at least one, their ids unique, and how many had no label.

    Raises:
        InputError: the source cannot be read, lacks a column, has two proteins of one id, or
            nothing of it is left; or a setting does not go with its kind.
    """
    path = root / source.path
    if path.suffix == ".arrayrecord":
        return Read(_array_record(source, path), 0)
    if source.file is not None or source.revision is not None or os.path.isdir(path):
        reader = partial(read_hub_set, *_data_set(source, path), source.revision)
        is_table = True
    else:
        reader = partial(read_records, path, labels=True)
        is_table = Path(source.path.lower().removesuffix(".gz")).suffix in DELIMITERS
    records = reader(
        sequence_column=source.sequence_column,
        label_column=source.label_column,
        id_column=source.id_column,
        extra_columns=_extra_columns(source),
    )
    return _label(source, path, records, numbered=is_table and source.id_column is None)


def _array_record(source: Source, path: Path) -> Sequence[LabelledProtein]:
    # Imported late, as it imports grain.
    from eqxesm.data.array_record import ArrayRecords

    given = [
        field.name
        for field in fields(source)
        if field.name not in ("path", "name", "folds")
        and getattr(source, field.name) != field.default
    ]
    if given:
        raise InputError(
            f"{path}: an ArrayRecord file holds all that is known of a protein: "
            f"leave out {', '.join(given)}"
        )
    proteins = ArrayRecords(path)
    if source.folds:
        kept = [i for i, protein in enumerate(proteins) if protein.fold in source.folds]
        proteins = Selection(proteins, np.array(kept, np.int64))
    if not proteins:
        raise InputError(f"{path}: no protein is left: check folds")
    return proteins


def _data_set(source: Source, path: Path) -> tuple[str, str]:
    """Tell the folder or the name on the Hub, and the file in it."""
    if os.path.isfile(path):
        raise InputError(f"{path}: a file: leave out file and revision")
    if source.file is None or not source.file.lower().endswith(".csv"):
        raise InputError(f"{source.path}: holds several files: name a CSV file of it as file")
    if os.path.isdir(path):
        if source.revision is not None:
            raise InputError(f"{path}: a folder, which has no revision: leave it out")
        return str(path), source.file
    if not _HUB_SET.fullmatch(source.path):
        raise InputError(
            f"{path}: no such folder, and no name of a Hub data set (owner/name): check the path"
        )
    if source.revision is None:
        raise InputError(
            f"{source.path}: no such folder, and as a data set of the Hub it must be pinned: give "
            "the commit as revision, 40 hexadecimal digits"
        )
    return source.path, source.file


def _extra_columns(source: Source) -> list[str]:
    roles = (
        source.source_column,
        source.fold_column,
        source.cluster_column,
        source.license_column,
        *(column for column, _ in source.conditions),
    )
    return list(dict.fromkeys(column for column in roles if column is not None))


def _label(source: Source, path: Path, records: list[Record], *, numbered: bool) -> Read:
    """Keep what has a label and fulfils the conditions."""
    if source.folds and source.fold_column is None:
        raise InputError(f"{path}: folds are chosen, but no fold_column says which a row is in")

    def field(record: Record, column: str | None) -> str | None:
        return record.extra[column] or None if column is not None else None

    proteins, ids, unlabelled = [], set(), 0
    for row, record in enumerate(records, start=1):
        fold = field(record, source.fold_column)
        holds = all(record.extra[column] == value for column, value in source.conditions)
        if not holds or (source.folds and fold not in source.folds):
            continue
        if record.label is None:
            unlabelled += 1
            continue
        # The reader numbers the rows of a table without ids, and numbers repeat between tables.
        id_ = f"{source.title}:{row}" if numbered and record.id == str(row) else record.id
        if id_ in ids:
            raise InputError(f"{path}: id {id_!r} stands there twice: make the ids unique")
        ids.add(id_)
        proteins.append(
            LabelledProtein(
                id_,
                record.sequence,
                record.label,
                source=field(record, source.source_column) or source.title,
                license=field(record, source.license_column) or source.license,
                fold=fold,
                cluster=field(record, source.cluster_column),
            )
        )
    if not proteins:
        raise InputError(
            f"{path}: of {len(records)} proteins, none that is wanted has a label "
            f"({unlabelled} without one): check where, folds and the labels"
        )
    return Read(proteins, unlabelled)
