"""`eqxesm predict`."""

import dataclasses
import os
import sys
from argparse import ArgumentParser, Namespace

from eqxesm import tables
from eqxesm.cli.arguments import PROTEINS_HELP, add_columns, add_model, read_columns
from eqxesm.cli.compilation import add_compilation_cache
from eqxesm.errors import InputError, pluralise
from eqxesm.files import expand_user

SUMMARY = "solubility of every protein in a file"

DESCRIPTION = """Predict for every protein of a file the probability that it is soluble when it is
expressed in E. coli. The table has one row per record, in the order of the file:

  id           first word of the FASTA header, or id or number of the row
  length       residues as read
  probability  calibrated, 0 to 1
  soluble      whether the probability reaches the model's threshold
  interval_low, interval_high
               around the probability, if the model has an interval; see eqxesm info
  note         what was changed in the sequence, or why it was not predicted

A record that cannot be predicted gets a note and no probability. Nothing is ever cut to a length.

  eqxesm predict proteins.fasta
  eqxesm predict proteins.fasta.gz -o out.csv          or .tsv, .jsonl, .parquet
  cat proteins.fasta | eqxesm predict -                from standard input
  eqxesm predict proteins.csv --sequence-column seq --id-column name"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("proteins", metavar="FILE", help=f"{PROTEINS_HELP}; - reads FASTA")
    add_model(parser, "--model")
    parser.add_argument("-o", "--out", metavar="FILE", help="write .csv, .tsv, .jsonl or .parquet")
    parser.add_argument("--strict", action="store_true", help="refuse the file if a record cannot be predicted")
    add_columns(parser, label=False)
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    from eqxesm.data.proteins import STANDARD_INPUT, read_proteins
    from eqxesm.model import DEFAULT, SolubilityModel
    from eqxesm.predict import predict_proteins

    if options.out:
        tables.check_output(options.out)
        paths = [expand_user(path) for path in (options.out, options.proteins)]
        if all(map(os.path.exists, paths)) and os.path.samefile(*paths):
            raise InputError(f"{options.out}: is the input. Name another file to write to.")
    elif not sys.stdout.writable():
        raise InputError("standard output is closed. Name a file with --out.")
    proteins = list(read_proteins(options.proteins, read_columns(options)))
    model = SolubilityModel.from_pretrained(options.model, revision=options.revision)
    where = "standard input" if options.proteins == STANDARD_INPUT else options.proteins
    predictions = predict_proteins(model, proteins, where, strict=options.strict, progress=True)
    rows = [dataclasses.asdict(prediction) for prediction in predictions]
    if options.out:
        tables.write_table(options.out, rows)
    else:
        print(tables.format_table(rows))
    missing = sum(prediction.probability is None for prediction in predictions)
    done = f"{pluralise(len(rows) - missing, 'protein')} predicted"
    skipped = f", {missing} not predicted: see the notes" if missing else ""
    print(f"{done}{skipped}{f': {options.out}' if options.out else ''}", file=sys.stderr)
    if options.model == DEFAULT:
        print(
            "Note: the default model is a weak baseline. Use it to rank many candidates, not to "
            "judge one. See: eqxesm info",
            file=sys.stderr,
        )
