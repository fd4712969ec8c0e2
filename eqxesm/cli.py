"""The command line: each command parses, calls one function and prints."""

import argparse
import dataclasses
import logging
import os
import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
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

EVALUATE = """Measure a model on labelled proteins beside two baselines: one reads nothing but the
tags and the initial Met, the other the composition. What a model adds is what it adds to those
two, on all proteins and on those that start with Met and have no tag.

  eqxesm evaluate proteins.csv --model MODEL --out report
  eqxesm evaluate proteins.fasta --model MODEL --training training.csv --out report

A table's label column holds 1 (soluble), 0 or nothing; a FASTA header ends in -1, -0 or -U. The
baselines are fitted on the file of --training, else taken from the model's record, else fitted
out of fold on the data. With --training there are also figures by the identity to the nearest
training protein. The report holds metrics.json and pictures."""

TRAIN = """Train a model as a recipe says, and measure it beside two baselines. examples/recipes has
recipes from amino-acid frequencies to ESM-C with everything trained.

  eqxesm train examples/recipes/frequency.toml --out run
  eqxesm train recipe.toml --out run --set training.epochs=10 --set data.root=../data
  eqxesm train recipe.toml --out run --resume       after it was stopped or killed

The folder then holds the recipe spelled out (config.toml), a line for every epoch
(metrics.jsonl), the best checkpoint by validation, calibrated (model/), and a report (report/):
what was left out of the data and why, learning curves, and the figures on the test sets with
their pictures. Every device that JAX sees takes part; JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES
and JAX_PROCESS_ID join processes into one run, in a folder that all of them see."""

EXPLORE = """Show what goes with being soluble in labelled proteins, before a model is trained: the
balance of the classes, lengths, tags and initial Met, and the frequency of each residue.

  eqxesm explore proteins.csv --out report

A table's label column holds 1 (soluble), 0 or nothing; a FASTA header ends in -1, -0 or -U. The
report holds explore.json and pictures."""

PUSH = """Publish a model with its card on the Hugging Face Hub, in one commit. What a person wrote
into the card that stands there stays; figures, metadata and everything else that eqxesm writes is
written anew. The login is that of 'hf auth login', or HF_TOKEN in the environment.

  eqxesm push run/model me/solubility-esmc-300m
  eqxesm push run/model me/solubility-esmc-300m --form head --base me/esmc-300m-jax

Stored as full, a model stands alone. Stored as head or adapter it takes a few hundred kB, and names
the published encoder that it stands on by commit and fingerprint; loading it fetches that too."""

PULL = """Fetch a model or an encoder from the Hugging Face Hub, load it once to check it, and say
what it is. It is kept in the Hub client's cache, where every other command finds it by the same
name, with or without a network.

  eqxesm pull me/solubility-esmc-300m
  eqxesm pull me/solubility-esmc-300m --revision v1 --out folder"""

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
        with _telling():
            options.command(options)
        sys.stdout.flush()
    except InputError as error:
        print(f"eqxesm: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output, `head` say, has enough; closing it again must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as interrupt:
        print(f"eqxesm: interrupted, {str(interrupt) or 'nothing was written'}", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _telling() -> Generator[None, None, None]:
    """Tell on standard error what the library notes, such as the encoder that a model stands on."""
    logger, handler = logging.getLogger("eqxesm"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("eqxesm: %(message)s"))
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eqxesm",
        description="Protein solubility from sequence, with ESM-C in JAX and Equinox.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"eqxesm {version('eqxesm')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        name: str,
        run: Callable[[argparse.Namespace], None],
        summary: str,
        description: str | None = None,
        epilog: str | None = None,
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(command=run)
        return command

    predict = add(
        "predict",
        _predict,
        "a solubility probability for every protein of a file",
        description=PREDICT,
        epilog=EXAMPLES,
    )
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
    train = add("train", _train, "train a model by a recipe", description=TRAIN)
    train.add_argument("recipe", metavar="RECIPE.toml", help="what is trained, on what, and how")
    train.add_argument("--out", metavar="RUN", required=True, help="the folder of the run")
    train.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="in the place of what the recipe says, such as training.epochs=10",
    )
    train.add_argument(
        "--resume", action="store_true", help="go on with the run that is there, if there is one"
    )
    train.add_argument(
        "--mlflow", action="store_true", help="log to an MLflow store in the folder too"
    )
    evaluate = add(
        "evaluate",
        _evaluate,
        "how good a model is on labelled proteins, beside two baselines",
        description=EVALUATE,
    )
    evaluate.add_argument("--model", **MODEL)
    evaluate.add_argument("--revision", **REVISION)
    evaluate.add_argument(
        "--training", metavar="FILE", help="labelled proteins that the model was trained on"
    )
    explore = add(
        "explore",
        _explore,
        "what goes with being soluble in labelled proteins",
        description=EXPLORE,
    )
    for command in (evaluate, explore):
        command.add_argument("data", metavar="FILE", help="FASTA, CSV or TSV, plain or .gz")
        command.add_argument("--out", metavar="FOLDER", required=True, help="the report's folder")
        for name, default in (("sequence", "sequence"), ("label", "label")):
            command.add_argument(
                f"--{name}-column",
                metavar="NAME",
                default=default,
                help=f"of a table (default: {default})",
            )
        command.add_argument(
            "--id-column", metavar="NAME", help="of the table (default: id, if any)"
        )
    push = add("push", _push, "publish a model on the Hugging Face Hub", description=PUSH)
    push.add_argument("folder", metavar="MODEL", help="a checkpoint of a model or an encoder")
    push.add_argument("repository", metavar="REPO", help="owner/name; made if it is not there")
    push.add_argument(
        "--form", choices=("full", "head", "adapter"), help="default: as the folder has it"
    )
    push.add_argument(
        "--base", metavar="REPO[@R]", help="the published encoder that head or adapter stand on"
    )
    push.add_argument(
        "--private",
        action="store_true",
        help="make it private; a public one is refused",
    )
    push.add_argument("--revision", metavar="BRANCH", help="commit to this branch; made if need be")
    push.add_argument("--create-pr", action="store_true", help="propose it in a pull request")
    push.add_argument("--message", metavar="TEXT", help="of the commit")
    pull = add("pull", _pull, "fetch a model from the Hugging Face Hub", description=PULL)
    pull.add_argument("repository", metavar="REPO", help="owner/name")
    pull.add_argument("--revision", **REVISION)
    pull.add_argument("--out", metavar="FOLDER", help="put a copy there")
    info = add("info", _info, "what a model is: parts, cleaning, calibration, origin")
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


def _train(options: argparse.Namespace) -> None:
    with _extra("evaluate"):
        from eqxesm.evaluation.report import format_report
        from eqxesm.training.devices import is_first, start_processes
        from eqxesm.training.recipe import read_recipe
        from eqxesm.training.run import train
    recipe = read_recipe(options.recipe, options.settings)
    start_processes()
    tracker = None
    if options.mlflow:
        with _extra("mlflow"):
            from eqxesm.training.tracking import MlflowTracker
        tracker = MlflowTracker(Path(options.out), recipe)
    words = [options.recipe, *(word for each in options.settings for word in ("--set", each))]
    try:
        result = train(
            recipe,
            options.out,
            resume=options.resume,
            command=shlex.join(["eqxesm", "train", *words, "--out", options.out]),
            watch=tracker,
            progress=True,
        )
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt("--resume goes on from the last checkpoint") from interrupt
    if is_first():
        if tracker is not None:
            tracker.finish()
        for name, measured in result["tests"].items():
            print(f"\n{name}")
            print(format_report(measured))
        models = "fold-*/model" if recipe.cross_validation else "model"
        print(f"model: {options.out}/{models}, report: {options.out}/report", file=sys.stderr)


def _evaluate(options: argparse.Namespace) -> None:
    with _extra("evaluate"):
        from eqxesm.evaluation.report import describe_report, evaluate_file, format_report

    report = evaluate_file(
        options.data,
        options.out,
        model=options.model,
        revision=options.revision,
        training=options.training,
        **_columns(options),
        progress=True,
    )
    print(format_report(report))
    print("\n".join([*describe_report(report), f"report: {options.out}"]), file=sys.stderr)


def _explore(options: argparse.Namespace) -> None:
    with _extra("evaluate"):
        from eqxesm.evaluation.explore import explore_file, format_exploration
        from eqxesm.evaluation.labelled import describe_left_out

    report = explore_file(options.data, options.out, **_columns(options))
    print(format_exploration(report))
    print("\n".join([*describe_left_out(report), f"report: {options.out}"]), file=sys.stderr)


def _columns(options: argparse.Namespace) -> dict[str, Any]:
    return {
        f"{name}_column": getattr(options, f"{name}_column") for name in ("sequence", "label", "id")
    }


@contextmanager
def _extra(name: str) -> Generator[None, None, None]:
    """Say which extra brings a package that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "eqxesm":
            raise
        raise InputError(f"{package} is not installed: pip install 'eqxesm[{name}]'") from error


def _push(options: argparse.Namespace) -> None:
    from eqxesm.publishing import push_folder

    if options.base and options.form not in ("head", "adapter"):
        raise InputError("--base goes with --form head or --form adapter: name the form")
    address = push_folder(
        options.folder,
        options.repository,
        form=options.form,
        base=options.base,
        private=True if options.private else None,
        revision=options.revision,
        create_pr=options.create_pr,
        commit_message=options.message,
    )
    print(address)


def _pull(options: argparse.Namespace) -> None:
    from eqxesm.publishing import pull

    pairs = pull(options.repository, options.revision, options.out)
    print(tables.format_pairs(pairs))


def _info(options: argparse.Namespace) -> None:
    from eqxesm.checkpoint.schema import CARD
    from eqxesm.description import describe_model
    from eqxesm.solubility import SolubilityModel, locate

    folder = locate(options.model, options.revision)
    model = SolubilityModel.from_pretrained(folder)
    facts = model.record.facts if model.record else {}
    pairs = {"model": options.model, **describe_model(model)}
    pairs["record"] = facts.get("summary", "how it was trained is not recorded")
    pairs["card"] = str(folder / CARD)
    print(tables.format_pairs(pairs))
