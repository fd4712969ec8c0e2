"""`eqxesm evaluate`."""

import sys
from argparse import ArgumentParser, Namespace

from eqxesm.cli.arguments import PROTEINS_HELP, add_columns, add_model, needs_extra, read_columns
from eqxesm.cli.compilation import add_compilation_cache

SUMMARY = "how good a model is on labelled proteins, beside two baselines"

DESCRIPTION = """Measure a model on labelled proteins beside two baselines: one reads only the tags
and the initial Met, the other only the composition. A model is worth what it adds to those two, on
all proteins and on those that start with Met and have no tag.

  eqxesm evaluate proteins.csv --model MODEL --out report
  eqxesm evaluate proteins.fasta --model MODEL --training training.csv --out report

Labels are 1 (soluble), 0 or nothing in a table; -1, -0 or -U at the end of a FASTA header. The baselines
are fitted on the file of --training; else taken from the model's record; else fitted out of fold on
the data. With --training there are figures by the identity to the nearest training protein, too.

A model of an assay is measured on the columns that its targets are named after (--label-column
names another one), beside a regression on composition and the value of the most similar protein."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="FILE", help=PROTEINS_HELP)
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder of the report")
    add_model(parser, "--model")
    parser.add_argument("--training", metavar="FILE", help="labelled proteins that the model was trained on")
    add_columns(parser, label=True)
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    with needs_extra("evaluate"):
        from eqxesm.evaluation.evaluate_file import evaluate_file, format_evaluation, format_remarks

    report = evaluate_file(
        options.data,
        options.out,
        read_columns(options),
        model=options.model,
        revision=options.revision,
        training=options.training,
        progress=True,
    )
    print(format_evaluation(report))
    print("\n".join([*format_remarks(report), f"report: {options.out}"]), file=sys.stderr)
