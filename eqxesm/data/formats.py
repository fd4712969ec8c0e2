"""File formats of proteins: rows of CSV, TSV and Parquet, and records of FASTA."""

import csv
import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from eqxesm.errors import InputError, missing_extra, one_line, pluralise
from eqxesm.tables import import_parquet

Rows = Iterator[tuple[str, Mapping[str, str]]]
"""Rows of a table, each with the place that errors name."""

Records = Iterator[tuple[str, list[str], str]]
"""Place, words of the header and sequence of each record."""

STANDARD_INPUT = "-"

ANNOTATED = {
    ".gb": "genbank", ".gbk": "genbank", ".gp": "genbank", ".pdb": "pdb-seqres", ".cif": "cif-seqres",
    ".xml": "uniprot-xml",
}  # fmt: skip
"""Biopython's name of a format, by the ending of the file."""

# Python's limit of 131,072 characters is below what a cell may hold.
csv.field_size_limit(2**31 - 1)


def check_columns(name: str, header: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse a table that lacks a column."""
    for column in wanted:
        if column not in header:
            # Without a header row these are the fields of a protein, which may be long.
            present = ", ".join(repr(each[:30]) for each in header)
            raise InputError(f"{name}: no column {column!r}. Its columns: {present}")


def read_delimited(name: str, lines: Iterator[str], delimiter: str, wanted: list[str]) -> Rows:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for fields in reader:
            if not fields:
                continue
            place = f"{name}, line {reader.line_num}"
            if not header:
                header = [field.strip() for field in fields]
                check_columns(name, header, wanted)
            elif len(fields) != len(header):
                raise InputError(f"{place}: {pluralise(len(fields), 'field')}, but the header has {len(header)}")
            else:
                # The first of several columns of one name counts.
                yield place, dict(zip(reversed(header), reversed(fields), strict=True))
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: malformed ({error}). Check its quotes.") from None


def read_parquet(path: str | os.PathLike[str], wanted: list[str]) -> Rows:
    parquet = import_parquet()
    from pyarrow import ArrowException

    if not os.path.exists(path):
        raise InputError(f"{path}: file not found")
    try:
        with parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            check_columns(os.fspath(path), header, wanted)
            columns = [*wanted, *(["id"] if "id" in header and "id" not in wanted else [])]
            number = 0
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", {name: _as_text(value) for name, value in row.items()}
    except (OSError, ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:150]
        raise InputError(f"{path}: not readable as Parquet ({reason})") from error


def _as_text(value: Any) -> str:
    """Write a value of Parquet as a CSV file would hold it."""
    if value is None or value != value:
        return ""
    # Where a number is missing, pandas stores the whole column as fractions.
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if is_whole or isinstance(value, bool) else str(value)


@contextmanager
def _open_unzipped(name: str, path: str | os.PathLike[str]) -> Generator[Any, None, None]:
    """Open a file or standard input, gzipped or not, and explain what goes wrong until it is closed."""
    try:
        stdin: Any = sys.stdin
        is_stdin = os.fspath(path) == STANDARD_INPUT
        with nullcontext(stdin.buffer) if is_stdin else open(path, "rb") as file:
            zipped = file.peek(2)[:2] == b"\x1f\x8b"
            yield gzip.GzipFile(fileobj=file) if zipped else file
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(f"{name}: gzip data are corrupt or cut short") from None
    except FileNotFoundError:
        raise InputError(f"{name}: file not found") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder. Name a file in it.") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None


def read_lines(name: str, path: str | os.PathLike[str]) -> Iterator[str]:
    """Lines of a UTF-8 file or of standard input, gzipped or not, with any line ending."""
    number = 0
    try:
        with _open_unzipped(name, path) as file:
            for raw in file:
                text = raw.decode("utf-8-sig" if number == 0 else "utf-8")
                if "\0" in text:
                    raise UnicodeDecodeError("utf-8", raw, 0, 1, "NUL")
                for line in re.split("\r\n|\r|\n", text.removesuffix("\n").removesuffix("\r")):
                    number += 1
                    yield line + "\n"
    except UnicodeDecodeError:
        raise InputError(f"{name}, line {number + 1}: not text. Expected FASTA, CSV or TSV in UTF-8.") from None


def read_fasta(name: str, lines: Iterator[str]) -> Records:
    """Read FASTA."""
    header: tuple[str, list[str]] | None = None
    parts: list[str] = []
    for number, line in enumerate(lines, 1):
        if header is None:
            line = line.lstrip()
        if line.startswith(">"):
            if header:
                yield *header, "".join(parts)
            header, parts = (f"{name}, line {number}", line[1:].split()), []
            if not header[1]:
                raise InputError(f"{header[0]}: header without an id. Write one after '>'.")
        elif header:
            parts += line.split()
        elif line.strip():
            hint = "a record starts with '>' and its id"
            if "," in line or "\t" in line:
                hint = "for a table, use a file name that ends in .csv or .tsv"
            raise InputError(f"{name}, line {number}: not FASTA: {hint}")
    if header:
        yield *header, "".join(parts)


def read_annotated(path: str | os.PathLike[str]) -> Records:
    """Read GenBank, PDB, mmCIF or UniProt XML by Biopython; the last three by their chains or entries."""
    try:
        from Bio import SeqIO
    except ModuleNotFoundError as error:
        raise missing_extra("biopython", "formats") from error
    kind = ANNOTATED[suffix_of(path)]
    try:
        with _open_unzipped(os.fspath(path), path) as file:
            text: Any = file if kind == "uniprot-xml" else io.TextIOWrapper(file, "utf-8")
            for number, record in enumerate(SeqIO.parse(text, kind), 1):
                yield f"{path}, record {number}", [record.id], str(record.seq)
    except InputError:
        raise
    except Exception as error:
        # Its parsers raise whatever a malformed file leads to, assertions among them.
        reason = one_line(error, 150) or type(error).__name__
        raise InputError(f"{path}: not readable as {kind} ({reason})") from error


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The ending that tells a file's format, in lower case and without `.gz`."""
    return Path(os.fspath(path).lower().removesuffix(".gz")).suffix
