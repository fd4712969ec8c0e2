"""`eqxesm info`."""

from argparse import ArgumentParser, Namespace

from eqxesm import tables
from eqxesm.cli.arguments import add_model

SUMMARY = "what a model is: parts, cleaning, calibration, origin"

DESCRIPTION = """Say what a model is: its parts, cleaning, calibration, limits and origin, and where
its card is.

  eqxesm info
  eqxesm info run/model"""


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser, "model", nargs="?")


def run(options: Namespace) -> None:
    from eqxesm.checkpoint.record import CARD
    from eqxesm.description import describe_model
    from eqxesm.loading import load_model
    from eqxesm.protein_model import locate_model

    folder = locate_model(options.model, options.revision)
    model = load_model(folder)
    pairs = {"model": options.model, **describe_model(model), "card": str(folder / CARD)}
    print(tables.format_pairs(pairs))
