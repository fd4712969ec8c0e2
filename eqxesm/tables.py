"""Tables of results: on the terminal, or as CSV, TSV, JSON lines or Parquet."""

import csv
import io
import json
import os
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqxesm.errors import InputError

Row = Mapping[str, Any]


def format_text(rows: Sequence[Row]) -> str:
    """Lay a table out in aligned columns.

    Args:
        rows: values by column, the same columns in every row; None is left blank.

    Returns:
        Lines of text, the names of the columns first.
    """
    columns = list(rows[0])
    numeric = {name: isinstance(_first(rows, name), int | float) for name in columns}
    cells = [columns, *([_text(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]

    def align(line: list[str]) -> str:
        padded = [
            cell.rjust(width) if numeric[name] else cell.ljust(width)
            for cell, width, name in zip(line, widths, columns, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join(align(line) for line in cells)


def format_pairs(pairs: Mapping[str, str]) -> str:
    """Lay names and values out in two columns.

    Args:
        pairs: values by name.

    Returns:
        A line each.
    """
    width = max(map(len, pairs)) + 2
    return "\n".join(
        textwrap.fill(
            value,
            100,
            initial_indent=name.ljust(width),
            subsequent_indent=" " * width,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, value in pairs.items()
    )


def _first(rows: Sequence[Row], name: str) -> Any:
    value = next((row[name] for row in rows if row[name] is not None), None)
    return None if isinstance(value, bool) else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def check_path(path: str | os.PathLike) -> None:
    """Refuse a file that `write` could not write, before the work is done.

    Args:
        path: where a table shall go.

    Raises:
        InputError: its ending is not known, or its folder does not exist or cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"{path}: name it with one of the endings {', '.join(_WRITERS)}")
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder: name a file")
    if not os.path.isdir(path.parent):
        raise InputError(f"{path}: its folder does not exist: make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: its folder cannot be written to: choose another")


def write(path: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Write a table, whole or not at all, in the format that the file's ending names.

    Args:
        path: a file that ends in .csv, .tsv, .jsonl or .parquet.
        rows: values by column, the same columns in every row.

    Raises:
        InputError: the ending is not known, or the file cannot be written.
    """
    check_path(path)
    path = Path(path)
    data = _WRITERS[path.suffix.lower()](rows)
    try:
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): choose another") from error


def _separated(rows: Sequence[Row], delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in row.items()
        }
        for row in rows
    )
    return text.getvalue().encode()


def _json_lines(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    # Imported late: it costs everybody else a third of a second.
    import pyarrow
    from pyarrow import parquet

    columns = {name: [row[name] for row in rows] for name in rows[0]}
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


_WRITERS = {
    ".csv": lambda rows: _separated(rows, ","),
    ".tsv": lambda rows: _separated(rows, "\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
