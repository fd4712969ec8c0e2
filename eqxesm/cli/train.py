"""`eqxesm train`."""

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from eqxesm.cli.arguments import add_recipe, describe_command, needs_extra
from eqxesm.cli.compilation import add_compilation_cache
from eqxesm.files import expand_user

SUMMARY = "train a model by a recipe"

DESCRIPTION = """Train a model as a recipe says, and measure it beside two baselines. The package has recipes
from amino-acid frequencies to an ESM-C with everything trained: eqxesm recipes lists them.

  eqxesm train recipe:esmc-lora --out run              data and weights are fetched
  eqxesm train recipe:tutorial-frozen --out run --data FOLDER
  eqxesm train recipe.toml --out run --set training.epochs=10
  eqxesm train recipe.toml --out run --resume          after it was stopped or killed

The run's folder then holds config.toml (the recipe with every default), metrics.jsonl (a line per
epoch), model/ (the best by validation loss, calibrated) and report/. Every device that JAX sees takes
part; JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID join processes into one run."""


def add_arguments(parser: ArgumentParser) -> None:
    add_recipe(parser, "training.epochs=10")
    parser.add_argument("--data", metavar="FOLDER", help="where the recipe's data are (sets data.root)")
    parser.add_argument("--quick", action="store_true", help="few proteins and one epoch, to see that it runs")
    parser.add_argument("--mlflow", action="store_true", help="log to an MLflow store in the folder as well")
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    with needs_extra("train"):
        from eqxesm.training.devices import is_first, start_processes
        from eqxesm.training.recipe import make_quick, read_recipe
        from eqxesm.training.run import train
    from eqxesm.evaluation.evaluate_file import format_evaluation

    data = [f"data.root={json.dumps(options.data)}"] if options.data else []
    recipe = read_recipe(options.recipe, [*options.settings, *data])
    if options.quick:
        recipe = make_quick(recipe)
    start_processes()
    tracker = None
    if options.mlflow:
        with needs_extra("mlflow"):
            from eqxesm.training.tracking import MlflowTracker
        tracker = MlflowTracker(Path(expand_user(options.out)), recipe)
    try:
        result = train(
            recipe,
            options.out,
            resume=options.resume,
            command=describe_command("train", options),
            on_epoch=tracker,
            progress=True,
        )
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt("--resume goes on from the last checkpoint") from interrupt
    if is_first():
        if tracker is not None:
            tracker.finish()
        for name, measured in result["tests"].items():
            print(f"\n{name}")
            print(format_evaluation(measured))
        models = "fold-*/model" if recipe.data.cross_validation else "model"
        print(f"model: {options.out}/{models}, report: {options.out}/report", file=sys.stderr)
