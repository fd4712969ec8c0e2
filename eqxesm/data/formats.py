"""File formats of proteins: rows of CSV, TSV and Parquet, and records of FASTA."""

import csv
import gzip
import io
import logging
import os
import re
import sys
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from eqxesm.errors import InputError, missing_extra, one_line, pluralise
from eqxesm.tables import import_parquet

Rows = Iterator[tuple[str, Mapping[str, str] | str]]
"""Rows of a table, each with the place that errors name. A row that cannot be read is what is wrong with it."""

Records = Iterator[tuple[str, list[str], str]]
"""Place, words of the header and sequence of each record."""

STANDARD_INPUT = "-"

ANNOTATED = {
    ".gb": "genbank", ".gbk": "genbank", ".gp": "genbank", ".pdb": "pdb-seqres", ".cif": "cif-seqres",
    ".xml": "uniprot-xml",
}  # fmt: skip
"""Biopython's name of a format, by the ending of the file."""

OTHER_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive. Unpack it"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook. Save it as CSV"),
    (b"PAR1", "Parquet. Give its name the ending .parquet"),
    (b"\xff\xfe", "UTF-16 text. Save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text. Save it as UTF-8"),
    (b"%PDF", "a PDF. Export its sequences as FASTA or CSV"),
    (b"{\\rtf", "an RTF document. Save it as plain text"),
    (b"\x89HDF", "HDF5. Export its sequences as FASTA or CSV"),
    (b"BZh", "compressed with bzip2. Unpack it, or use gzip"),
    (b"\xfd7zXZ", "compressed with xz. Unpack it, or use gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd. Unpack it, or use gzip"),
)
"""What files are that are often given by mistake, by their first bytes."""

MAX_ROW_LINES = 100
"""Lines that one row of a table may have."""

_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a]")

_log = logging.getLogger(__name__)

# Python's limit of 131,072 characters is below what a cell may hold.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Table:
    """A table: its header, and its rows with some of the columns, which are read when they are asked for."""

    header: list[str]
    read: Callable[[Sequence[str]], Rows]


def open_delimited(name: str, lines: Iterator[str], delimiter: str, is_header: Callable[[list[str]], bool]) -> Table:
    """Read the header of CSV or TSV, after blank lines and comments, whatever the delimiter is."""
    first, skipped, delimiters = "", -1, []
    for line in lines:
        first, skipped = line, skipped + 1
        if named := re.fullmatch(r"sep=(.)\s*", line):
            # Excel's own line says what the delimiter is.
            delimiter = named[1]
            continue
        possible = (delimiter, *(each for each in ",\t;|" if each in line))
        delimiters = [each for each in possible if is_header(_split_header(line, each))]
        if delimiters or (line.strip(" \t\n,;|") and not line.startswith("#")):
            break
    delimiter = delimiters[0] if delimiters else delimiter

    header = _split_header(first, delimiter)

    def read(_: Sequence[str]) -> Rows:
        for number, fields in _read_rows(lines, skipped + 2, delimiter):
            line = f"line {number}"
            if isinstance(fields, csv.Error):
                yield f"{name}, {line}", f"{line} is malformed ({fields}): check its quotes"
                continue
            if not any(field.strip() for field in fields):
                continue
            if len(fields) == len(header):
                yield f"{name}, {line}", dict(zip(header, fields, strict=True))
            elif not fields[0].startswith("#"):
                yield f"{name}, {line}", f"{line} has {pluralise(len(fields), 'field')}, the header {len(header)}"

    return Table(header, read)


def _split_header(line: str, delimiter: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])]


def _read_rows(lines: Iterator[str], number: int, delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Fields of each row, or what is wrong with it, with the number of its first line."""
    waiting: deque[str] = deque()

    def take() -> str:
        return waiting.popleft() if waiting else next(lines, "")

    while line := take():
        row, quotes = [line], line.count('"')
        while quotes % 2 and len(row) < MAX_ROW_LINES and (more := take()):
            row.append(more)
            quotes += more.count('"')
        reader = csv.reader(row, delimiter=delimiter, strict=True)
        fields: list[str] | csv.Error
        try:
            fields, used = next(reader), reader.line_num
        except csv.Error as error:
            # A quote that nobody closes spoils its own line alone.
            fields, used = error, 1
        waiting.extendleft(reversed(row[used:]))
        yield number, fields
        number += used


def open_parquet(path: str | os.PathLike[str]) -> Table:
    """Read the header of a Parquet file."""
    parquet = import_parquet()

    def read(columns: Sequence[str]) -> Rows:
        number = 0
        with _explain_parquet(path), parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=list(columns)):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", {name: _as_text(value) for name, value in row.items()}

    with _explain_parquet(path):
        return Table(parquet.read_schema(path).names, read)


@contextmanager
def _explain_parquet(path: str | os.PathLike[str]) -> Generator[None, None, None]:
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:150]
        raise InputError(f"{path}: not readable as Parquet ({reason})") from error


def _as_text(value: Any) -> str:
    """Write a value of Parquet as a CSV file would hold it."""
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        # Older writers do not mark their strings.
        return value.decode("utf-8", errors="replace")
    # Where a number is missing, pandas stores the whole column as fractions.
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if is_whole or isinstance(value, bool) else str(value)


@contextmanager
def _open_unzipped(name: str, source: str | os.PathLike[str] | BufferedIOBase) -> Generator[Any, None, None]:
    """Open a file, standard input or a stream, gzipped or not, and explain what goes wrong until it is closed."""
    try:
        stdin: Any = sys.stdin
        stream: Any = stdin.buffer if source == STANDARD_INPUT else source
        with nullcontext(stream) if hasattr(stream, "peek") else open(stream, "rb") as file:
            zipped = file.peek(2)[:2] == b"\x1f\x8b"
            opened: Any = gzip.GzipFile(fileobj=file) if zipped else file
            _refuse_other_formats(name, opened.peek(4096))
            yield opened
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(f"{name}: gzip data are corrupt or cut short") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None


def _refuse_other_formats(name: str, head: bytes) -> None:
    if head.startswith(b"PK\x03\x04") and (b"xl/" in head or b"[Content_Types].xml" in head):
        raise InputError(f"{name}: is an Excel workbook. Save it as CSV.")
    for first, advice in OTHER_FORMATS:
        if head.startswith(first):
            raise InputError(f"{name}: is {advice}.")


def read_lines(name: str, source: str | os.PathLike[str] | BufferedIOBase) -> Iterator[str]:
    """Lines of a UTF-8 file, of standard input or of a stream, gzipped or not, with any line ending."""
    number, encoding_told = 0, False
    try:
        with _open_unzipped(name, source) as file:
            for raw in file:
                try:
                    text = raw.decode("utf-8-sig" if number == 0 else "utf-8")
                except UnicodeDecodeError:
                    if _CONTROL.search(raw + file.peek(4096)):
                        raise
                    # Excel on Windows writes CSV so.
                    text = raw.decode("cp1252")
                    if not encoding_told:
                        _log.warning("%s, line %d: not UTF-8, read as Windows-1252", name, number + 1)
                    encoding_told = True
                if b"\0" in raw:
                    raise UnicodeDecodeError("utf-8", raw, 0, 1, "NUL")
                for line in re.split("\r\n|\r|\n", text.removesuffix("\n").removesuffix("\r")):
                    number += 1
                    yield line + "\n"
    except UnicodeDecodeError:
        raise InputError(f"{name}, line {number + 1}: not text. Expected FASTA, CSV or TSV in UTF-8.") from None


def read_fasta(name: str, lines: Iterator[str]) -> Records:
    """Read FASTA. Lines that start with `;` or `#` are comments."""
    header: tuple[str, list[str]] | None = None
    parts: list[str] = []
    for number, line in enumerate(lines, 1):
        if header is None:
            line = line.lstrip()
        if line.startswith(">"):
            if header:
                yield *header, "".join(parts)
            header, parts = (f"{name}, line {number}", line[1:].split()), []
        elif line.startswith((";", "#")):
            continue
        elif header:
            parts += line.split()
        elif line.strip():
            hint = "a record starts with '>' and its id"
            if line.lstrip().startswith(("{", "[")):
                hint = "JSON is not read. Write a table, .csv or .tsv"
            elif "," in line or "\t" in line:
                hint = "a table has a header with a column sequence, and a file name that ends in .csv or .tsv"
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
