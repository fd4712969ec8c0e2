"""The options of the `eqxesm` command."""

import argparse
from collections.abc import Sequence
from importlib.metadata import version

import shtab

from eqxesm.cli import (
    compare,
    design,
    embed,
    evaluate,
    explain,
    explore,
    export,
    info,
    join,
    predict,
    pretrain,
    pull,
    push,
    recipes,
    scan,
    score,
    train,
    web,
)
from eqxesm.cli.compilation import set_compilation_cache

# No command imports JAX before it runs, so --help and usage errors answer at once.
COMMANDS = {
    "predict": predict,
    "embed": embed,
    "explain": explain,
    "scan": scan,
    "design": design,
    "score": score,
    "join": join,
    "recipes": recipes,
    "train": train,
    "pretrain": pretrain,
    "compare": compare,
    "evaluate": evaluate,
    "explore": explore,
    "export": export,
    "push": push,
    "pull": pull,
    "web": web,
    "info": info,
}

EXAMPLES = """examples:
  eqxesm predict proteins.fasta                 a table on the terminal
  eqxesm predict proteins.csv -o out.csv        or .tsv, .jsonl, .parquet
  eqxesm embed proteins.fasta -o out.h5         an embedding of each
  eqxesm info                                   what the default model is
  eqxesm COMMAND --help                         more about a command"""


def run(arguments: Sequence[str] | None) -> int:
    """Parse and run a command."""
    options = make_parser().parse_args(arguments)
    if "compilation_cache" in options:
        set_compilation_cache(options.compilation_cache)
    options.run(options)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command and all of its subcommands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="eqxesm",
        description="Protein solubility from sequence, with ESM-C in JAX and Equinox.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"eqxesm {version('eqxesm')}")
    shtab.add_argument_to(parser, help="print a completion script for bash, zsh or tcsh")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.SUMMARY, description=module.DESCRIPTION, formatter_class=raw)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
