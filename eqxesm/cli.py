"""The command line: each command parses, calls one function and prints."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from eqxesm import tables
from eqxesm.errors import InputError

EXAMPLES = """examples:
  eqxesm predict proteins.fasta                      a table on the terminal
  eqxesm predict proteins.fasta.gz -o out.csv        a file; .tsv, .jsonl and .parquet too
  cat proteins.fasta | eqxesm predict -              from standard input
  eqxesm predict proteins.csv --sequence-column seq --id-column name
  eqxesm info                                        what the default model is
"""

PREDICT = """Predict for every protein of a file the probability that it is soluble when it is
expressed in E. coli. The table has one row per record, in the order of the file:

  id           the first word of the FASTA header, or the row's number in a CSV
  length       residues as read
  probability  calibrated, 0 to 1
  soluble      whether the probability reaches the model's threshold
  note         what was changed in the sequence, or why it was not predicted

A record that cannot be predicted gets a note and no probability; the others are predicted.
Nothing is ever cut to a length."""

MODEL: dict[str, Any] = {
    "metavar": "MODEL",
    "default": "default",
    "help": "a folder, a Hugging Face Hub repository, or 'default', the model inside the package",
}
REVISION: dict[str, Any] = {"metavar": "R", "help": "commit, tag or branch of the repository"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the program's name; those of the process by default.

    Returns:
        The exit status: 0, or 2 after an error.
    """
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
    except InputError as error:
        print(f"eqxesm: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output, `head` say, has enough; closing it again must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("eqxesm: interrupted, nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eqxesm",
        description="Protein solubility from sequence, with ESM-C in JAX and Equinox.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"eqxesm {version('eqxesm')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    predict = commands.add_parser(
        "predict",
        help="a solubility probability for every protein of a file",
        description=PREDICT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.set_defaults(command=_predict)
    predict.add_argument(
        "proteins", metavar="FILE", help="FASTA, CSV or TSV, plain or .gz; - reads FASTA"
    )
    predict.add_argument("--model", **MODEL)
    predict.add_argument("--revision", **REVISION)
    predict.add_argument("-o", "--out", metavar="FILE", help="write .csv, .tsv, .jsonl or .parquet")
    predict.add_argument(
        "--strict", action="store_true", help="refuse the file if one record cannot be predicted"
    )
    predict.add_argument(
        "--sequence-column", metavar="NAME", default="sequence", help="of a CSV (default: sequence)"
    )
    predict.add_argument(
        "--id-column", metavar="NAME", help="of a CSV (default: id, or the number of the row)"
    )
    info = commands.add_parser("info", help="what a model is: parts, cleaning, calibration, origin")
    info.set_defaults(command=_info)
    info.add_argument("model", nargs="?", **MODEL)
    info.add_argument("--revision", **REVISION)
    return parser


def _predict(options: argparse.Namespace) -> None:
    # Imported late, so that --help and a mistyped option answer at once.
    from eqxesm.data.records import read_records
    from eqxesm.data.tags import count
    from eqxesm.prediction import predict_records
    from eqxesm.solubility import DEFAULT, SolubilityModel

    if options.out:
        tables.check_path(options.out)
        if os.path.exists(options.out) and os.path.realpath(options.out) == os.path.realpath(
            options.proteins
        ):
            raise InputError(f"{options.out}: is the file that is read: name another one to write")
    records = read_records(
        options.proteins, sequence_column=options.sequence_column, id_column=options.id_column
    )
    model = SolubilityModel.from_pretrained(options.model, revision=options.revision)
    where = "standard input" if options.proteins == "-" else options.proteins
    predictions = predict_records(model, records, where, strict=options.strict, progress=True)
    rows = [dataclasses.asdict(prediction) for prediction in predictions]
    if options.out:
        tables.write(options.out, rows)
    else:
        print(tables.format_text(rows))
    missing = sum(prediction.probability is None for prediction in predictions)
    done = f"{count(len(rows) - missing, 'protein')} predicted"
    skipped = f", {missing} not: see the notes" if missing else ""
    print(f"{done}{skipped}{f': {options.out}' if options.out else ''}", file=sys.stderr)
    if options.model == DEFAULT:
        print(
            "the default model is a weak baseline: sort many candidates by it, but do not decide "
            "about one (eqxesm info)",
            file=sys.stderr,
        )


def _info(options: argparse.Namespace) -> None:
    from eqxesm.checkpoint.format import CARD
    from eqxesm.description import describe_model, read_record
    from eqxesm.solubility import SolubilityModel, locate

    folder = locate(options.model, options.revision)
    model = SolubilityModel.from_pretrained(folder)
    record = read_record(folder)
    pairs = {"model": options.model, **describe_model(model)}
    pairs["record"] = record["summary"] if record else "how it was trained is not recorded"
    pairs["card"] = str(folder / CARD)
    print(tables.format_pairs(pairs))
