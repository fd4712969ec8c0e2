"""Proteins, read one by one from FASTA, CSV, TSV, Parquet, ArrayRecord or a data set of the Hub."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from eqxesm.data import formats
from eqxesm.data.formats import STANDARD_INPUT, Rows, suffix_of
from eqxesm.data.protein import Columns, Protein
from eqxesm.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
ARRAY_RECORD = ".arrayrecord"


def read_proteins(
    path: str | os.PathLike[str],
    columns: Columns = Columns(),
    *,
    labelled: bool = False,
    where: Sequence[tuple[str, str]] = (),
    number_prefix: str = "",
) -> Iterator[Protein]:
    """Read the proteins of a file, one by one and in order.

    Args:
        path: its ending tells the format: .csv, .tsv, .parquet, .arrayrecord, an annotated format (see
            `formats.ANNOTATED`), else FASTA. Text may be gzipped. `-` is standard input, as FASTA.
        labelled: read labels: a column of 1, 0 or nothing, or FASTA headers that end in -1, -0, -U.
        where: pairs of a column and the value that a row must have in it.
        number_prefix: comes before the row's number where a table has no ids.
    """
    name = "standard input" if os.fspath(path) == STANDARD_INPUT else os.fspath(path)
    suffix = suffix_of(name)
    found = False
    if not is_table(name):
        _refuse_columns(name, columns, where)
    if suffix == ARRAY_RECORD:
        # Imported late: it takes half a second, and is an extra.
        from eqxesm.data.array_record import ArrayRecords

        proteins: Iterable[Protein] = ArrayRecords(path)
    elif is_table(name):
        wanted = wanted_columns(columns, labelled, where)
        rows = (
            formats.read_parquet(path, wanted)
            if suffix == ".parquet"
            else formats.read_delimited(name, formats.read_lines(name, path), DELIMITERS[suffix], wanted)
        )
        proteins = to_proteins(rows, columns, labelled, where, number_prefix)
    else:
        annotated = suffix in formats.ANNOTATED
        records = (
            formats.read_annotated(path) if annotated else formats.read_fasta(name, formats.read_lines(name, path))
        )
        proteins = (
            Protein(words[0], sequence, _parse_header(place, words) if labelled else None)
            for place, words, sequence in records
        )
    for protein in proteins:
        found = True
        yield protein
    if not found:
        conditions = ", ".join("=".join(condition) for condition in where)
        raise InputError(f"{name}: no proteins found{' with ' if where else ''}{conditions}")


def _refuse_columns(name: str, columns: Columns, where: Sequence[tuple[str, str]]) -> None:
    """Refuse columns that only a table has. The others have defaults, which other formats pass over."""
    for column in (columns.source, columns.license, columns.fold, columns.cluster, *(column for column, _ in where)):
        if column is not None:
            raise InputError(f"{name}: not read as a table, so it has no column {column!r}")


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a file is read as a table, by its ending."""
    return suffix_of(path) in (*DELIMITERS, ".parquet")


def wanted_columns(columns: Columns, labelled: bool, where: Sequence[tuple[str, str]]) -> list[str]:
    """The columns that a table must have."""
    names = [columns.sequence, columns.label if labelled else None, columns.id, columns.source,
             columns.license, columns.fold, columns.cluster, *(name for name, _ in where)]  # fmt: skip
    return list(dict.fromkeys(name for name in names if name is not None))


def to_proteins(
    rows: Rows, columns: Columns, labelled: bool, where: Sequence[tuple[str, str]] = (), number_prefix: str = ""
) -> Iterator[Protein]:
    """Make proteins of the rows of a table, each given with the place that errors name."""
    for number, (place, row) in enumerate(rows, 1):
        id_column = columns.id or ("id" if "id" in row else None)
        protein_id = f"{number_prefix}{number}" if id_column is None else row[id_column]
        if not protein_id.strip():
            raise InputError(f"{place}: column {id_column!r} is empty. Write an id.")
        if not all(row[name].strip() == value for name, value in where):
            continue
        label = parse_label(f"{place} ({protein_id})", row[columns.label]) if labelled else None
        yield Protein(
            protein_id,
            row[columns.sequence],
            label,
            _read_field(row, columns.source),
            _read_field(row, columns.license),
            _read_field(row, columns.fold),
            _read_field(row, columns.cluster),
        )


def _read_field(row: Mapping[str, str], column: str | None) -> str | None:
    return None if column is None else row[column].strip() or None


def parse_label(place: str, text: str) -> int | None:
    """Read a label: 1, 0 or nothing."""
    text = text.strip()
    if text not in ("0", "1", ""):
        raise InputError(f"{place}: label is {text[:30]!r}, expected 0 or 1. Leave it empty if unknown.")
    return int(text) if text else None


def _parse_header(place: str, words: list[str]) -> int | None:
    match = re.search("-([01U])$", words[-1])
    if match is None:
        raise InputError(f"{place} ({words[0]}): header ends in {words[-1]!r}, expected a label: -0, -1 or -U")
    return None if match[1] == "U" else int(match[1])
