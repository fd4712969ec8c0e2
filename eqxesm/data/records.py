"""Read proteins from FASTA, CSV and TSV, plain or gzipped, a file or standard input."""

import csv
import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
from Bio.SeqIO.FastaIO import SimpleFastaParser
from jaxtyping import Int

from eqxesm.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""Endings that are read as tables; every other one is read as FASTA."""


@dataclass(frozen=True)
class Record:
    """One protein as it was read: 1 is soluble, 0 insoluble, None not labelled.

    `extra` holds the other columns that were asked for, without the white space around them.
    """

    id: str
    sequence: str
    label: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LabelledProtein:
    """One protein to train on or to measure with: 1 is soluble, 0 insoluble.

    Attributes:
        id: unique within its source.
        sequence: residues as they were read.
        label: 0 or 1.
        source: which collection it comes from.
        license: the terms that it stands under, where they are known.
        fold: the fold of a cross-validation that it belongs to.
        cluster: the family that it belongs to.
    """

    id: str
    sequence: str
    label: int
    source: str
    license: str | None = None
    fold: str | None = None
    cluster: str | None = None


class Selection(Sequence[LabelledProtein]):
    """Some proteins of a sequence, each looked up when it is asked for."""

    def __init__(self, proteins: Sequence[LabelledProtein], indices: Int[np.ndarray, " selected"]):
        self._proteins = proteins
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> LabelledProtein: ...
    @overload
    def __getitem__(self, index: slice) -> "Selection": ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return Selection(self._proteins, self._indices[index])
        return self._proteins[int(self._indices[index])]


def read_records(
    path: str | os.PathLike[str],
    *,
    labels: bool = False,
    sequence_column: str = "sequence",
    label_column: str = "label",
    id_column: str | None = None,
    extra_columns: Sequence[str] = (),
) -> list[Record]:
    """Read every protein of a file, in its order.

    The file's ending tells FASTA, CSV and TSV apart; gzip is told by its content. Sequences are
    not looked at: residues, empty sequences and repeated ids come through.

    Args:
        path: a file, or `-` for FASTA on standard input.
        labels: read labels too. A FASTA header's last word then ends in `-0`, `-1` or, without
            a label, `-U`; a table's label column holds 0, 1 or nothing.
        sequence_column: a table's column of sequences.
        label_column: a table's column of labels.
        id_column: a table's column of ids; by default `id`, or the row's number where there is
            none.
        extra_columns: columns of a table that come along as they are.

    Returns:
        The records, at least one.

    Raises:
        InputError: the file cannot be read, is no text or no FASTA, CSV or TSV, holds no records,
            or lacks a column, an id or a label; or extra columns of FASTA are asked for.
    """
    name = "standard input" if os.fspath(path) == "-" else os.fspath(path)
    text = _decode(name, _read_bytes(path))
    stem = name.lower().removesuffix(".gz")
    delimiter = DELIMITERS.get(Path(stem).suffix)
    if delimiter is None and extra_columns:
        raise InputError(
            f"{name} is read as FASTA, which has no column {extra_columns[0]!r}: leave it out, or "
            "give a file whose name ends in .csv or .tsv"
        )
    if delimiter is None:
        records = list(_fasta(name, text, labels))
    else:
        columns = (sequence_column, label_column if labels else None, id_column)
        records = list(_table(name, text, delimiter, *columns, extra_columns))
    if not records:
        raise InputError(f"{name} holds no records: give at least 1 protein")
    return records


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    if os.fspath(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        problem = "no such file: check the path"
    except IsADirectoryError:
        problem = "a folder, not a file: name a file in it"
    except PermissionError:
        problem = "no permission to read it: change its mode or its owner"
    except OSError as error:
        problem = f"cannot be read ({error.strerror}): check the path"
    raise InputError(f"{path}: {problem}")


def _decode(name: str, data: bytes) -> str:
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error):
            message = f"{name}: the gzip data is corrupt or cut short: copy or compress it again"
            raise InputError(message) from None
    try:
        text = data.decode("utf-8-sig")
        readable, is_text = text.split("\0", 1)[0], "\0" not in text
    except UnicodeDecodeError as error:
        # The error counts from behind a byte order mark, in its own copy of the data.
        text, readable, is_text = "", error.object[: error.start].decode(), False
    if not is_text:
        line = _unix_lines(readable).count("\n") + 1
        raise InputError(f"{name}: line {line} is not text: give FASTA, CSV or TSV in UTF-8")
    return _unix_lines(text)


def _unix_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _fasta(name: str, text: str, labels: bool) -> Iterator[Record]:
    blank = len(text) - len(text.lstrip())
    body, first_line = text[blank:], text[:blank].count("\n") + 1
    if body and not body.startswith(">"):
        line = body.split("\n", 1)[0]
        remedy = "a record starts with '>' and its id"
        if "," in line or "\t" in line:
            remedy = "if this is a table, read it from a file whose name ends in .csv or .tsv"
        raise InputError(f"{name}: line {first_line} is not FASTA: {remedy}")
    lines = enumerate(body.split("\n"), first_line)
    header_lines = [number for number, line in lines if line.startswith(">")]
    parsed = SimpleFastaParser(io.StringIO(body))
    for number, (title, sequence) in zip(header_lines, parsed, strict=True):
        words = title.split()
        if not words:
            raise InputError(f"{name}: line {number}: a header with no id: write one after '>'")
        label = _header_label(f"{name}: line {number}", words) if labels else None
        yield Record(words[0], "".join(sequence.split()), label)


def _header_label(place: str, words: list[str]) -> int | None:
    match = re.search("-([01U])$", words[-1])
    if match is None:
        raise InputError(
            f"{place}, record {words[0]!r}: no label: end the header in -0, -1 or -U, "
            f"not in {words[-1]!r}"
        )
    return None if match[1] == "U" else int(match[1])


def _table(
    name: str,
    text: str,
    delimiter: str,
    sequence_column: str,
    label_column: str | None,
    id_column: str | None,
    extra_columns: Sequence[str],
) -> Iterator[Record]:
    rows = _rows(name, text, delimiter)
    _, header = next(rows, (0, []))
    if not header:
        return
    if id_column is None and "id" in (field.strip() for field in header):
        id_column = "id"
    at = {
        column: _column(name, header, column)
        for column in (sequence_column, label_column, id_column, *extra_columns)
        if column is not None
    }
    for count, (line, fields) in enumerate(rows, start=1):
        record_id = str(count) if id_column is None else fields[at[id_column]]
        if not record_id.strip():
            raise InputError(f"{name}: line {line}: no id in column {id_column!r}: write one")
        label = None
        if label_column is not None:
            place = f"{name}: line {line}, record {record_id!r}"
            label = parse_label(place, label_column, fields[at[label_column]])
        extra = {column: fields[at[column]].strip() for column in extra_columns}
        yield Record(record_id, fields[at[sequence_column]], label, extra)


def _rows(name: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    width = 0
    try:
        for fields in reader:
            if not fields:
                continue
            width = width or len(fields)
            if len(fields) != width:
                raise InputError(
                    f"{name}: line {reader.line_num} has {_count(len(fields))} where the header "
                    f"has {width}: give every row one field a column"
                )
            yield reader.line_num, fields
    except csv.Error as error:
        raise InputError(
            f"{name}: line {reader.line_num} is malformed ({error}): check its quotes"
        ) from None


def _column(name: str, header: list[str], column: str) -> int:
    names = [field.strip() for field in header]
    if column not in names:
        # Without a header row these are a protein's fields, and a protein may be long.
        there = ", ".join(repr(each[:30]) for each in names)
        raise InputError(f"{name}: no column {column!r}: name one of those there: {there}")
    return names.index(column)


def parse_label(place: str, column: str, text: str) -> int | None:
    """Read a label.

    Args:
        place: what to name as the place in an error.
        column: the column that it stands in.
        text: what stands there.

    Returns:
        1 for soluble, 0 for insoluble, None where nothing stands there.

    Raises:
        InputError: something else stands there.
    """
    text = text.strip()
    if text not in ("0", "1", ""):
        raise InputError(f"{place}: column {column!r} holds {text[:30]!r}: write 0, 1 or nothing")
    return int(text) if text else None


def _count(number: int) -> str:
    return f"{number} field" + "s" * (number != 1)
