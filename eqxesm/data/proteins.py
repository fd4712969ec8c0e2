"""Proteins, read one by one from FASTA, CSV, TSV, Parquet, ArrayRecord or a data set of the Hub."""

import io
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from eqxesm.alphabet import RESIDUES
from eqxesm.data import formats
from eqxesm.data.formats import STANDARD_INPUT, Rows, suffix_of
from eqxesm.data.labels import LabelReader
from eqxesm.data.protein import Columns, Protein
from eqxesm.errors import InputError
from eqxesm.files import check_input, expand_user
from eqxesm.sequences import is_missing

DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLES = (*DELIMITERS, ".parquet")
ARRAY_RECORD = ".arrayrecord"

SEQUENCE_NAMES = ("sequence", "seq", "sequences", "protein_sequence", "aa_sequence", "aa_seq", "amino_acid_sequence")
ID_NAMES = (
    "id", "identifier", "name", "protein_id", "protein_name", "protein", "accession", "entry", "entry_name",
    "uniprot_id", "uniprot", "seq_id", "sequence_id", "sample", "sample_id", "header",
)  # fmt: skip
"""Usual names of columns, the most telling first."""

_log = logging.getLogger(__name__)


def read_proteins(
    path: str | os.PathLike[str],
    columns: Columns = Columns(),
    *,
    labelled: bool = False,
    where: Sequence[tuple[str, str]] = (),
    values: Sequence[str] = (),
    number_prefix: str = "",
) -> Iterator[Protein]:
    """Read the proteins of a file, one by one and in order.

    A record that is not whole has a `remark`. A missing value may be written as `NA` or the like.

    Args:
        path: its ending tells the format: .csv, .tsv, .parquet, .arrayrecord, an annotated format (see
            `formats.ANNOTATED`), else FASTA. Text may be gzipped. `-` is standard input, FASTA or a
            table with a header.
        labelled: read labels: a column of 1 and 0 (or see `labels.SPELLINGS`), or FASTA headers that end in
            -1, -0, -U.
        values: further columns to read, into `Protein.values`.
        where: pairs of a column and the value that a row must have in it.
        number_prefix: comes before the row's number where a table has no ids. With it, ids are in a
            column `id` alone: what others name may repeat.
    """
    path = expand_user(path)
    name = "standard input" if path == STANDARD_INPUT else path
    if path != STANDARD_INPUT:
        check_input(path)
    suffix = suffix_of(name)
    lines = formats.read_lines(name, path)
    if path == STANDARD_INPUT:
        lines, suffix = _find_format(lines, columns)
    if suffix not in TABLES:
        _refuse_columns(name, columns, [*values, *(column for column, _ in where)])
    if suffix == ARRAY_RECORD:
        # Imported late: it takes half a second, and is an extra.
        from eqxesm.data.array_record import ArrayRecords

        proteins: Iterable[Protein] = ArrayRecords(path)
    elif suffix in TABLES:
        table = formats.open_parquet(path) if suffix == ".parquet" else _open_delimited(name, lines, suffix, columns)
        proteins = _read_table(name, table, columns, labelled, where, values, number_prefix)
    else:
        annotated = suffix in formats.ANNOTATED
        records = formats.read_annotated(path) if annotated else formats.read_fasta(name, lines)
        proteins = _read_records(records, labelled)
    conditions = ", ".join("=".join(condition) for condition in where)
    yield from _expect_some(f"{name}: no proteins found{' with ' if where else ''}{conditions}", proteins)


def read_text(name: str, text: str, columns: Columns = Columns()) -> Iterator[Protein]:
    """Read the proteins of a text, as `read_proteins` reads those of standard input. Errors call it by the name."""
    stream = io.BufferedReader(io.BytesIO(text.encode("utf-8", errors="replace")))
    lines, suffix = _find_format(formats.read_lines(name, stream), columns)
    if suffix:
        proteins = _read_table(name, _open_delimited(name, lines, suffix, columns), columns, False, (), (), "")
    else:
        proteins = _read_records(formats.read_fasta(name, lines), False)
    return _expect_some(f"{name}: no proteins found", proteins)


def _open_delimited(name: str, lines: Iterator[str], suffix: str, columns: Columns) -> formats.Table:
    return formats.open_delimited(name, lines, DELIMITERS[suffix], partial(_has_sequences, columns=columns))


def _read_records(records: formats.Records, labelled: bool) -> Iterator[Protein]:
    for number, (place, words, sequence) in enumerate(records, 1):
        if words:
            yield Protein(words[0], sequence, _parse_header(place, words) if labelled else None)
        else:
            yield Protein(f"record_{number}", sequence, remark="header without an id")


def _expect_some(refusal: str, proteins: Iterable[Protein]) -> Iterator[Protein]:
    found = False
    for protein in proteins:
        found = True
        yield protein
    if not found:
        raise InputError(refusal)


def _find_format(lines: Iterator[str], columns: Columns) -> tuple[Iterator[str], str]:
    """The lines again, and the ending of a file that has them: a table if its first line is a header of one."""
    head: list[str] = []
    for line in lines:
        head.append(line)
        if line.strip() and not line.startswith(("#", "sep=")):
            break
    first = head[-1] if head else ""
    fields = (first.strip().split(each) for each in ",\t;|")
    is_header = not first.lstrip().startswith(">") and any(_has_sequences(each, columns) for each in fields)
    return chain(head, lines), ".csv" if is_header else ""


def _refuse_columns(name: str, columns: Columns, others: Sequence[str]) -> None:
    """Refuse columns that only a table has. The others have defaults, which other formats pass over."""
    for column in (columns.source, columns.license, columns.fold, columns.cluster, *others):
        if column is not None:
            raise InputError(f"{name}: not read as a table, so it has no column {column!r}")


def _read_table(
    name: str,
    table: formats.Table,
    columns: Columns,
    labelled: bool,
    where: Sequence[tuple[str, str]],
    values: Sequence[str],
    number_prefix: str,
) -> Iterator[Protein]:
    if not table.header:
        return iter(())
    id_names = ID_NAMES[:1] if number_prefix else ID_NAMES
    found = _find_columns(name, table.header, columns, labelled, id_names)
    wanted = wanted_columns(found, labelled, where, values)
    if found.id is None and not number_prefix and set(table.header) > set(wanted):
        _log.warning("%s: no column of ids, so rows are numbered. Name one with --id-column.", name)
    for column in wanted:
        if column not in table.header:
            raise InputError(f"{name}: no column {column!r}. Its columns: {_list_columns(table.header)}")
        if (times := table.header.count(column)) > 1:
            raise InputError(f"{name}: {times} columns have the same name, {column!r}. Rename all but one.")
    return to_proteins(table.read(wanted), found, labelled, where, values, number_prefix)


def _find_columns(name: str, header: list[str], columns: Columns, labelled: bool, id_names: Sequence[str]) -> Columns:
    """The columns of sequences, labels and ids as a table spells them."""
    found: dict[str, Any] = {}
    for kind, usual in (("sequence", SEQUENCE_NAMES), ("label", ("label",)), ("id", id_names)):
        if kind == "label" and not labelled:
            continue
        given = getattr(columns, kind)
        found[kind] = _spelling(header, given or "id", usual)
        if found[kind] is None and given is not None:
            if header[0].startswith(">"):
                raise InputError(f"{name}: is FASTA. Give its name the ending .fasta.")
            advice = f"Name the right one (--{kind}-column, in a recipe {kind}_column)."
            if any(len(field) > 20 and set(field.upper()) <= set(RESIDUES) for field in header):
                advice = "The first row seems to be a protein: put the names of the columns above it."
            raise InputError(f"{name}: no column {given!r}. Its columns: {_list_columns(header)}. {advice}")
        if found[kind] not in (None, given, "id"):
            _log.info("%s: the %s is read from column %r (--%s-column names another)", name, kind, found[kind], kind)
    return replace(columns, **found)


def _has_sequences(header: Sequence[str], columns: Columns) -> bool:
    return _spelling(header, columns.sequence, SEQUENCE_NAMES) is not None


def _spelling(header: Sequence[str], given: str, usual: Sequence[str]) -> str | None:
    """The column of a name, or of one spelt a little otherwise, or of a usual one if the name is the default."""
    if given in header:
        return given
    spelt = {_normalise_name(column): column for column in reversed(header)}
    names = (_normalise_name(given), *(usual if given == usual[0] else ()))
    return next((spelt[name] for name in names if name in spelt), None)


def _normalise_name(column: str) -> str:
    """A column's name without case, blanks and the like."""
    return re.sub(r"[\W_]+", "_", column.lower()).strip("_")


def _list_columns(header: Sequence[str]) -> str:
    # Without a header row these are the fields of a protein, which may be long.
    return ", ".join(repr(each[:30]) for each in header)


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a file is read as a table, by its ending."""
    return suffix_of(path) in TABLES


def wanted_columns(
    columns: Columns, labelled: bool, where: Sequence[tuple[str, str]], values: Sequence[str] = ()
) -> list[str]:
    """The columns that a table must have."""
    names = [columns.sequence, columns.label if labelled else None, columns.id, columns.source,
             columns.license, columns.fold, columns.cluster, *(name for name, _ in where), *values]  # fmt: skip
    return list(dict.fromkeys(name for name in names if name is not None))


def to_proteins(
    rows: Rows,
    columns: Columns,
    labelled: bool,
    where: Sequence[tuple[str, str]] = (),
    values: Sequence[str] = (),
    number_prefix: str = "",
) -> Iterator[Protein]:
    """Make proteins of the rows of a table, each given with the place that errors name."""
    labels = LabelReader()
    for number, (place, row) in enumerate(rows, 1):
        made_up = f"{number_prefix}{number}"
        if isinstance(row, str):
            yield Protein(made_up, "", remark=row)
            continue
        if not all(row[name].strip() == value for name, value in where):
            continue
        protein_id = made_up if columns.id is None else row[columns.id]
        remark = None
        if not protein_id.strip():
            protein_id, remark = made_up, "no id, so the row's number is used"
        sequence = row[columns.sequence]
        if "\n" in protein_id.strip():
            protein_id, sequence, remark = made_up, "", "the id spans several lines: check the quotes"
        elif is_missing(sequence):
            held = repr(sequence.strip()) if sequence.strip() else "nothing"
            sequence, remark = "", f"no sequence: the cell holds {held}"
        yield Protein(
            protein_id,
            sequence,
            labels.read(f"{place} ({protein_id})", row[columns.label]) if labelled else None,
            _read_field(row, columns.source),
            _read_field(row, columns.license),
            _read_field(row, columns.fold),
            _read_field(row, columns.cluster),
            remark,
            tuple(row[column] for column in values),
        )


def _read_field(row: Mapping[str, str], column: str | None) -> str | None:
    return None if column is None or is_missing(row[column]) else row[column].strip()


def _parse_header(place: str, words: list[str]) -> int | None:
    match = re.search("-([01U])$", words[-1])
    if match is None:
        raise InputError(f"{place} ({words[0]}): header ends in {words[-1]!r}, expected a label: -0, -1 or -U")
    return None if match[1] == "U" else int(match[1])
