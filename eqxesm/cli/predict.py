"""`eqxesm predict`."""

import functools
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqxesm import tables
from eqxesm.cli.arguments import add_model, read_columns
from eqxesm.cli.compilation import add_compilation_cache
from eqxesm.cli.devices import add_precision, use_device
from eqxesm.cli.streams import SHARING, absolute, add_proteins, add_windows, check_paths, report, write_in_parts
from eqxesm.errors import InputError

if TYPE_CHECKING:
    from eqxesm.predict import AssayPredictor, Prediction, Predictor

SUMMARY = "solubility of every protein in some files, or what else a model predicts"

DESCRIPTION = """Predict for every protein the probability that it is soluble when it is
expressed in E. coli. The table has one row per record, in the order of the input:

  id           first word of the FASTA header, or id or number of the row
  length       residues as read
  probability  calibrated, 0 to 1
  soluble      whether the probability reaches the model's threshold
  interval_low, interval_high
               around the probability, if the model has an interval; see eqxesm info
  note         what was changed in the sequence, or why it was not predicted

A model of an assay has its own columns in the place of probability to interval_high: the name of
what it predicts, with its unit; the ends of an interval of numbers; the probability of a class.

A record that cannot be predicted gets a note and no probability. Nothing is ever cut to a length.

  eqxesm predict proteins.fasta
  eqxesm predict a.fasta.gz b.csv -o out.csv           or .tsv, .jsonl, .parquet
  cat proteins.fasta | eqxesm predict -                or a table with a header
  eqxesm predict proteins.csv --sequence-column seq --id-column name

""" + SHARING.format(command="predict proteins.fasta -o out.csv", out="out.csv")


def add_arguments(parser: ArgumentParser) -> None:
    add_proteins(parser)
    add_windows(parser)
    add_model(parser, "--model")
    parser.add_argument("-o", "--out", metavar="FILE", help="write .csv, .tsv, .jsonl or .parquet")
    add_precision(parser, "--dtype")
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    from eqxesm.protein_model import DEFAULT

    if options.out:
        tables.check_output(options.out)
    elif not sys.stdout.writable():
        raise InputError("standard output is closed. Name a file with --out.")
    check_paths(options)
    model, device, dtype = absolute(options.model), options.device, options.dtype
    make_worker = functools.partial(
        _make_worker, model, options.revision, device, dtype, options.windows, options.strict
    )
    worker = make_worker()
    if options.out:
        write_in_parts(options, make_worker, worker, _write, tables.join_tables)
    else:
        _print_table(options, worker)
    report(options, worker, "predicted", "not predicted: see the notes")
    if options.model == DEFAULT:
        from eqxesm.predict import WEAK

        print(f"Note: {WEAK} See: eqxesm info", file=sys.stderr)


def _make_worker(
    source: str, revision: str | None, device: str | None, dtype: str | None, windows: bool, strict: bool
) -> "Predictor | AssayPredictor":
    use_device(device)

    from eqxesm.loading import load_model
    from eqxesm.predict import make_predictor

    return make_predictor(load_model(source, revision, dtype), windows=windows, strict=strict)


def _write(path: Path, predictions: "list[Prediction] | list[dict[str, Any]]") -> None:
    from eqxesm.predict import as_rows

    tables.write_table(path, as_rows(predictions))


def _print_table(options: Namespace, worker: "Predictor | AssayPredictor") -> None:
    """Print block after block, in columns as wide as the first needs; with --strict all at once, or nothing."""
    from eqxesm.inference import show_progress
    from eqxesm.predict import as_rows
    from eqxesm.records import count_records, cut_blocks, read_records

    records = read_records(options.proteins, read_columns(options))
    table, held = tables.TextTable(), []
    with show_progress(lambda: count_records(options.proteins), " proteins", True) as bar:
        for block in cut_blocks(records, worker.parameters):
            rows = as_rows(worker(block, bar.update))
            held.append(table.format(rows))
            if not (options.strict and block.more):
                bar.clear()
                print("\n".join(held), flush=True)
                held.clear()
