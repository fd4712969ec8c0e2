"""Tables of results: on the terminal, or as CSV, TSV, JSON lines or Parquet."""

import csv
import io
import json
import os
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from eqxesm.errors import InputError, missing_extra, printable
from eqxesm.files import check_writable, expand_user, write_file

Row = Mapping[str, Any]


class TextTable:
    """Rows with the same columns as aligned text, in columns as wide as the first rows need."""

    def __init__(self) -> None:
        self._numeric: dict[str, bool] = {}
        self._widths: list[int] = []

    def format(self, rows: Sequence[Row]) -> str:
        """The rows, the first ones below a header: numbers to the right, None as blank."""
        columns = list(rows[0])
        cells = [[format_cell(row[name]) for name in columns] for row in rows]
        if not self._widths:
            self._numeric = {name: _is_numeric(row[name] for row in rows) for name in columns}
            cells.insert(0, columns)
            self._widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
        return "\n".join(map(self._align, cells))

    def _align(self, line: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, self._widths, self._numeric.values(), strict=True)
        ]
        return "  ".join(padded).rstrip()


def format_table(rows: Sequence[Row]) -> str:
    """Rows with the same columns as aligned text; see `TextTable`."""
    return TextTable().format(rows)


def _is_numeric(values: Any) -> bool:
    first = next((value for value in values if value is not None), None)
    return isinstance(first, int | float) and not isinstance(first, bool)


def format_cell(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else printable(str(value))


def format_pairs(pairs: Mapping[str, str]) -> str:
    """Names and values in two columns, long values wrapped."""
    width = max(map(len, pairs)) + 2
    return "\n".join(
        textwrap.fill(
            printable(value),
            100,
            initial_indent=name.ljust(width),
            subsequent_indent=" " * width,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, value in pairs.items()
    )


def check_output(path: str | os.PathLike) -> None:
    """Refuse a file that `write_table` could not write, before the work is done."""
    path = Path(expand_user(path))
    if not is_output(path):
        raise InputError(f"{path}: unknown ending. Use one of {', '.join(_WRITERS)}.")
    check_writable(path)
    if path.suffix.lower() == ".parquet":
        import_parquet()


def write_table(path: str | os.PathLike, rows: Sequence[Row], columns: Sequence[str] = ()) -> None:
    """Write rows with the same columns, in the format that the file's ending names.

    The columns must be named if there may be no row.
    """
    check_output(path)
    write_file(path, _WRITERS[Path(path).suffix.lower()](rows, columns or list(rows[0])))


def is_output(path: str | os.PathLike) -> bool:
    """Whether `write_table` knows the file's ending."""
    return Path(path).suffix.lower() in _WRITERS


def join_tables(paths: Sequence[Path], out: Path) -> None:
    """Join tables of the same columns and format, of which `paths` has at least one, into one file."""
    _JOINERS[paths[0].suffix.lower()](paths, out)


def import_parquet() -> Any:
    """Import pyarrow's Parquet module late: it takes a third of a second, and is an extra."""
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise missing_extra("pyarrow", "parquet") from error
    return parquet


def format_separated(rows: Sequence[Row], columns: Sequence[str], delimiter: str = ",") -> bytes:
    """Rows as CSV, or with another delimiter."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: str(v).lower() if isinstance(v, bool) else v for name, v in row.items()})
    return text.getvalue().encode()


def _json_lines(rows: Sequence[Row], _: Sequence[str]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    import pyarrow

    stream = io.BytesIO()
    import_parquet().write_table(pyarrow.table({name: [row[name] for row in rows] for name in columns}), stream)
    return stream.getvalue()


def _join_lines(paths: Sequence[Path], out: Path, *, header: bool) -> None:
    with out.open("wb") as joined:
        for number, path in enumerate(paths):
            with path.open("rb") as file:
                if header and number:
                    file.readline()
                shutil.copyfileobj(file, joined)


def _join_parquet(paths: Sequence[Path], out: Path) -> None:
    import pyarrow

    parquet = import_parquet()
    # A column that is empty in one part has its type from another.
    schema = pyarrow.unify_schemas([parquet.read_schema(path) for path in paths])
    with parquet.ParquetWriter(out, schema) as writer:
        for path in paths:
            writer.write_table(parquet.read_table(path).cast(schema))


_WRITERS = {
    ".csv": partial(format_separated, delimiter=","),
    ".tsv": partial(format_separated, delimiter="\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}

_JOINERS = {
    ".csv": partial(_join_lines, header=True),
    ".tsv": partial(_join_lines, header=True),
    ".jsonl": partial(_join_lines, header=False),
    ".parquet": _join_parquet,
}
