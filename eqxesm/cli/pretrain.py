"""`eqxesm pretrain`."""

import sys
from argparse import ArgumentParser, Namespace

from eqxesm.cli.arguments import add_recipe, describe_command, needs_extra
from eqxesm.cli.compilation import add_compilation_cache

SUMMARY = "pretrain an encoder on unlabelled proteins"

DESCRIPTION = """Train an encoder of your own on unlabelled proteins, by hiding residues and having it guess
them. The proteins are streamed from FASTA, plain or gzipped, of any size.

  eqxesm pretrain examples/pretraining/esmc.toml --out run
  eqxesm pretrain recipe.toml --out run --set training.steps=20000 --set data.root=../data
  eqxesm pretrain recipe.toml --out run --resume          after it was stopped or killed

The run's folder then holds config.toml (the recipe with every default), metrics.jsonl (a line per look at
the validation proteins), model/ (the best encoder by validation loss, for ESMC.from_pretrained or
encoder = {pretrained = "run/model"} in a recipe of eqxesm train) and report/ (a curve, and a table by
residue beside two guesses by frequency)."""


def add_arguments(parser: ArgumentParser) -> None:
    add_recipe(parser, "training.steps=1000")
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    with needs_extra("train"):
        from eqxesm.training.devices import is_first, start_processes
        from eqxesm.training.pretrain import pretrain
        from eqxesm.training.pretrain_recipe import PretrainRecipe
        from eqxesm.training.recipe import read_recipe

    recipe = read_recipe(options.recipe, options.settings, PretrainRecipe)
    start_processes()
    command = describe_command("pretrain", options)
    try:
        pretrain(recipe, options.out, resume=options.resume, command=command, progress=True)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt("--resume goes on from the last checkpoint") from interrupt
    if is_first():
        print(f"encoder: {options.out}/model, report: {options.out}/report", file=sys.stderr)
