"""`eqxesm explore`."""

import sys
from argparse import ArgumentParser, Namespace

from eqxesm.cli.arguments import PROTEINS_HELP, add_columns, needs_extra, read_columns

SUMMARY = "what goes with being soluble in labelled proteins"

DESCRIPTION = """Show what goes with being soluble in labelled proteins, before a model is trained:
the balance of the classes, lengths, tags and initial Met, and the frequency of each residue.

  eqxesm explore proteins.csv --out report

Labels are 1 (soluble), 0 or nothing in a table; -1, -0 or -U at the end of a FASTA header."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="FILE", help=PROTEINS_HELP)
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder of the report")
    add_columns(parser, label=True)


def run(options: Namespace) -> None:
    with needs_extra("evaluate"):
        from eqxesm.evaluation.explore import explore_file, format_exploration
        from eqxesm.evaluation.labelled import format_left_out

    report = explore_file(options.data, options.out, read_columns(options))
    print(format_exploration(report))
    print("\n".join([*format_left_out(report), f"report: {options.out}"]), file=sys.stderr)
