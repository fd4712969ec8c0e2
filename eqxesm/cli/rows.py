"""What commands share that write rows of a table for each protein."""

import functools
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eqxesm import tables
from eqxesm.cli.arguments import needs_extra
from eqxesm.cli.compilation import add_compilation_cache
from eqxesm.cli.streams import add_proteins, check_paths, write_in_parts
from eqxesm.errors import InputError
from eqxesm.files import check_writable, expand_user

LANGUAGE_MODEL_HELP = (
    "an ESM-C with its language-model head: folder, Hugging Face Hub repository, or esmc_300m, _600m, _6b"
)


def add_rows(parser: ArgumentParser) -> None:
    """Add the input, how it is worked through, and the table."""
    add_proteins(parser)
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="write .csv, .tsv, .jsonl or .parquet")
    add_compilation_cache(parser)


def add_plot(parser: ArgumentParser) -> None:
    """Add a picture of the first protein."""
    parser.add_argument("--plot", metavar="FILE", help="draw the first protein, as .png or .svg")


def check_rows(options: Namespace) -> None:
    """Refuse files that cannot be read or written, before the work is done."""
    tables.check_output(options.out)
    check_paths(options)
    if getattr(options, "plot", None):
        _check_plot(options)


def _check_plot(options: Namespace) -> None:
    if options.resume or options.shard or options.ray:
        raise InputError("--plot draws the first protein of a whole run: leave out --resume, --shard and --ray")
    path = Path(expand_user(options.plot))
    if path.suffix.lower() not in (".png", ".svg"):
        raise InputError(f"--plot {options.plot}: unknown ending. Use .png or .svg.")
    check_writable(path)
    with needs_extra("evaluate"):
        import eqxesm.design.plots  # noqa: F401


def write_rows(options: Namespace, make_worker: Callable[[], Any], columns: Sequence[str]) -> Any:
    """Work through the input, and write the table. Returns the worker, which knows what came of it."""
    worker = make_worker()
    write = functools.partial(tables.write_table, columns=columns)
    write_in_parts(options, make_worker, worker, write, tables.join_tables)
    return worker
