"""Tables of results: on the terminal, or as CSV, TSV, JSON lines or Parquet."""

import csv
import io
import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqxesm.errors import InputError, missing_extra, printable
from eqxesm.files import check_writable, expand_user, write_file

Row = Mapping[str, Any]


def format_table(rows: Sequence[Row]) -> str:
    """Rows with the same columns as aligned text, numbers to the right, None as blank."""
    columns = list(rows[0])
    numeric = {name: _is_numeric(row[name] for row in rows) for name in columns}
    cells = [columns, *([_format_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]

    def align(line: list[str]) -> str:
        padded = [
            cell.rjust(width) if numeric[name] else cell.ljust(width)
            for cell, width, name in zip(line, widths, columns, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join(align(line) for line in cells)


def _is_numeric(values: Any) -> bool:
    first = next((value for value in values if value is not None), None)
    return isinstance(first, int | float) and not isinstance(first, bool)


def _format_cell(value: Any) -> str:
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
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"{path}: unknown ending. Use one of {', '.join(_WRITERS)}.")
    check_writable(path)
    if path.suffix.lower() == ".parquet":
        import_parquet()


def write_table(path: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Write rows with the same columns, in the format that the file's ending names."""
    check_output(path)
    write_file(path, _WRITERS[Path(path).suffix.lower()](rows))


def import_parquet() -> Any:
    """Import pyarrow's Parquet module late: it takes a third of a second, and is an extra."""
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise missing_extra("pyarrow", "parquet") from error
    return parquet


def _separated(rows: Sequence[Row], delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: str(v).lower() if isinstance(v, bool) else v for name, v in row.items()})
    return text.getvalue().encode()


def _json_lines(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow

    columns = {name: [row[name] for row in rows] for name in rows[0]}
    stream = io.BytesIO()
    import_parquet().write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


_WRITERS = {
    ".csv": lambda rows: _separated(rows, ","),
    ".tsv": lambda rows: _separated(rows, "\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
