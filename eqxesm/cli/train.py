"""`eqxesm train`."""

import json
import sys
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from eqxesm.cli.arguments import MODEL_HELP, add_recipe, describe_command, needs_extra
from eqxesm.cli.compilation import add_compilation_cache
from eqxesm.errors import InputError
from eqxesm.files import check_input, expand_user

if TYPE_CHECKING:
    from eqxesm.training.assay_recipe import AssayRecipe
    from eqxesm.training.recipe import Recipe

SUMMARY = "train a model by a recipe, or on columns of a table"

DESCRIPTION = """Train a model as a recipe says, and measure it beside two baselines. The package has recipes
from amino-acid frequencies to an ESM-C with everything trained: eqxesm recipes lists them.

  eqxesm train recipe:esmc-lora --out run              data and weights are fetched
  eqxesm train recipe:tutorial-frozen --out run --data FOLDER
  eqxesm train recipe.toml --out run --set training.epochs=10
  eqxesm train recipe.toml --out run --resume          after it was stopped or killed

Without a recipe, columns of a table are predicted, of whatever kind they are: yes or no, numbers,
classes, or a letter for every residue. Clusters of similar proteins are held out to stop by and to
test on. The recipe that was made of it is printed.

  eqxesm train my.csv --target yield --out run
  eqxesm train my.csv --target yield --target tm --out run --set targets.0.unit=mg/L
  eqxesm train train.csv --validation valid.csv --test test.csv --target class --out run

The run's folder then holds config.toml (the recipe with every default), metrics.jsonl (a line per
epoch), model/ (the best by validation loss, calibrated) and report/. Every device that JAX sees takes
part; JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID join processes into one run."""


def add_arguments(parser: ArgumentParser) -> None:
    add_recipe(parser, "training.epochs=10", "TOML file, recipe:NAME of the package, or a table with --target")
    parser.add_argument("--data", metavar="FOLDER", help="where the recipe's data are (sets data.root)")
    parser.add_argument("--quick", action="store_true", help="few proteins and one epoch, to see that it runs")
    parser.add_argument("--target", metavar="COLUMN", action="append", default=[], help="column of a table to predict")
    parser.add_argument("--validation", metavar="FILE", help="table to stop by (default: clusters that are held out)")
    parser.add_argument("--test", metavar="FILE", help="table to measure on (default: clusters that are held out)")
    parser.add_argument("--model", metavar="MODEL", help=f"whose features are used, with --target: {MODEL_HELP}")
    parser.add_argument(
        "--sequence-column", metavar="NAME", help="of the tables (default: sequence, or a name like it)"
    )
    parser.add_argument("--id-column", metavar="NAME", help="of the tables (default: id)")
    parser.add_argument(
        "--mlflow", action="store_true", help="log to MLFLOW_TRACKING_URI, or to an MLflow store in the folder"
    )
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    with needs_extra("train"):
        from eqxesm.training.assay_recipe import AssayRecipe
        from eqxesm.training.assay_run import format_figures, train_assay
        from eqxesm.training.devices import is_first, start_processes
        from eqxesm.training.quick import make_quick
        from eqxesm.training.run import train
    from eqxesm.evaluation.evaluate_file import format_evaluation

    recipe = _read_recipe(options)
    if options.quick:
        recipe = make_quick(recipe)
    start_processes()
    tracker = nullcontext()
    if options.mlflow:
        with needs_extra("mlflow"):
            from eqxesm.training.tracking import MlflowTracker
        if is_first():
            tracker = MlflowTracker(Path(expand_user(options.out)), recipe)
    asked = {"resume": options.resume, "command": describe_command("train", options), "progress": True}
    try:
        with tracker as on_epoch:
            if isinstance(recipe, AssayRecipe):
                result = train_assay(recipe, options.out, on_epoch=on_epoch, **asked)
            else:
                result = train(recipe, options.out, on_epoch=on_epoch, **asked)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt("--resume goes on from the last checkpoint") from interrupt
    if is_first():
        if isinstance(recipe, AssayRecipe):
            print(format_figures(result["tests"]))
        else:
            for name, measured in result["tests"].items():
                print(f"\n{name}")
                print(format_evaluation(measured))
        models = "fold-*/model" if getattr(recipe.data, "cross_validation", False) else "model"
        print(f"model: {options.out}/{models}, report: {options.out}/report", file=sys.stderr)


def _read_recipe(options: Namespace) -> "Recipe | AssayRecipe":
    from eqxesm.data.proteins import is_table
    from eqxesm.training.assay_recipe import read_any_recipe, recipe_for_table

    given = {
        "--validation": options.validation,
        "--test": options.test,
        "--model": options.model,
        "--sequence-column": options.sequence_column,
        "--id-column": options.id_column,
    }
    data = [f"data.root={json.dumps(options.data)}"] if options.data else []
    if options.target and options.data:
        raise InputError("--data goes with a recipe. Leave it out: the table is the data.")
    if options.target:
        check_input(expand_user(options.recipe))
        return recipe_for_table(
            options.recipe,
            options.target,
            options.settings,
            validation=options.validation,
            test=options.test,
            model=options.model or "default",
            sequence_column=options.sequence_column,
            id_column=options.id_column,
        )
    if is_table(options.recipe):
        raise InputError(f"{options.recipe}: is a table. Name the column to predict: --target COLUMN.")
    if named := [name for name, value in given.items() if value is not None]:
        raise InputError(f"{named[0]} goes with --target. A recipe names these itself.")
    return read_any_recipe(options.recipe, [*options.settings, *data])
