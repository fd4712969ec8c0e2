"""The `eqxesm` command."""

import argparse
import logging
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import shtab

from eqxesm.cli import evaluate, explore, info, predict, pull, push, train
from eqxesm.errors import InputError

# No command imports JAX before it runs, so --help and usage errors answer at once.
COMMANDS = {
    "predict": predict,
    "train": train,
    "evaluate": evaluate,
    "explore": explore,
    "push": push,
    "pull": pull,
    "info": info,
}

EXAMPLES = """examples:
  eqxesm predict proteins.fasta                 a table on the terminal
  eqxesm predict proteins.csv -o out.csv        or .tsv, .jsonl, .parquet
  eqxesm info                                   what the default model is
  eqxesm COMMAND --help                         more about a command"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. The exit status is 0, 2 after an error, or 130 after Ctrl-C."""
    options = make_parser().parse_args(arguments)
    try:
        with _show_log():
            options.run(options)
        sys.stdout.flush()
    except InputError as error:
        print(f"eqxesm: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of the output, `head` for example, has enough. Closing it must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as interrupt:
        print(f"eqxesm: interrupted, {str(interrupt) or 'nothing was written'}", file=sys.stderr)
        return 130
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


@contextmanager
def _show_log() -> Generator[None, None, None]:
    """Show the library's log on standard error."""
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
