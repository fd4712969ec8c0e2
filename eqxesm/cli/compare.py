"""`eqxesm compare`."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from eqxesm.cli.arguments import add_recipe, needs_extra
from eqxesm.cli.compilation import add_compilation_cache
from eqxesm.files import expand_user

SUMMARY = "compare encoders on tasks"

DESCRIPTION = """Compare encoders by what their frozen features are worth on tasks, all under one protocol: the same
probe, the same proteins, five seeds, intervals, and the difference to a reference such as one-hot.

  eqxesm compare examples/comparisons/encoders.toml --out report
  eqxesm compare encoders.toml --out report --resume      after it was stopped, or with one more encoder

The folder then holds scores/ (what was predicted, a file for each encoder and task) and report/ (a table, pictures
of the scores, of their cost, and by layer where layers = true, and comparison.json)."""


def add_arguments(parser: ArgumentParser) -> None:
    add_recipe(parser, "seeds=3")
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    with needs_extra("train"):
        from eqxesm.training.compare import Comparison, run_comparison
        from eqxesm.training.compare_report import format_table, write_report
        from eqxesm.training.recipe import read_recipe

    comparison = read_recipe(options.recipe, options.settings, Comparison)
    folder = Path(expand_user(options.out))
    found: dict = {}
    for named, task, stored in run_comparison(comparison, folder, options.resume):
        found.setdefault(named.name, {})[task.name] = stored
        print(f"{named.name}: {task.name}", file=sys.stderr, flush=True)
    print(format_table(write_report(comparison, found, folder)))
