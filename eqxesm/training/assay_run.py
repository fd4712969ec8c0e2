"""A run of a recipe for an assay: training, and a report beside baselines."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from eqxesm.assay import AssayModel
from eqxesm.checkpoint.record import without_folders
from eqxesm.evaluation.assay import PREDICTORS, Figures, measure
from eqxesm.evaluation.assay_plots import draw_assay
from eqxesm.evaluation.calibration import conformal_bound, minimise_temperature
from eqxesm.evaluation.evaluate_assay import format_target, predict_baselines
from eqxesm.evaluation.measured import Measured
from eqxesm.evaluation.metrics import to_json
from eqxesm.files import cache_folder, expand_user, file_name, make_folder, write_file
from eqxesm.forms import Limits
from eqxesm.targets import COVERED, Target, split_outputs
from eqxesm.training import run_folder
from eqxesm.training.assay_data import AssaySplits, load_assay, make_examples
from eqxesm.training.assay_recipe import AssayRecipe, build_assay_model, complete
from eqxesm.training.curves import best_epoch, draw_curves, format_epochs, format_head
from eqxesm.training.devices import is_first, wait_for_all
from eqxesm.training.loop import fit
from eqxesm.training.recipe import build_encoder, check_pretrained, start_keys
from eqxesm.training.report import describe_training, distinct, recorded_parity
from eqxesm.training.run import score_sets
from eqxesm.training.run_folder import MODEL, REPORT, RESULT, choose_form, writing_report
from eqxesm.training.run_log import EpochLog, OnEpoch, Run
from eqxesm.training.state import Epoch, RunState

NOTES = "data.md"

LIMITS = [
    "It predicts what this assay measured, of constructs and conditions like those in the training data.",
    "The test proteins were held out by similarity or by the files that were named; a design that differs from all "
    "of them is another matter.",
]


def train_assay(
    recipe: AssayRecipe,
    folder: str | os.PathLike,
    *,
    resume: bool = False,
    command: str = "",
    on_epoch: OnEpoch | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train by a recipe for an assay, and write down everything about it; see `eqxesm.training.run.train`."""
    folder = Path(expand_user(folder))
    check_pretrained(recipe.model.encoder, "model.encoder")
    encoder = build_encoder(recipe.model.encoder, start_keys(recipe)[0])
    splits = load_assay(recipe)
    recipe = complete(recipe, encoder, splits.targets)
    run_folder.check_run_folder(folder, recipe, resume)
    model = build_assay_model(recipe, encoder, splits.targets)
    lengths = [len(sequence) for sequence in splits.training.sequences]
    model = model.replace(limits=Limits.of(max(lengths), min(lengths)))
    _start(folder, recipe, splits, model)
    run = Run(recipe, folder, command, on_epoch, progress)
    run.say(recipe.to_toml())
    run.say("\n".join(splits.notes))
    run.say(f"{len(splits.training):,} training proteins, {len(splits.validation):,} for validation")
    run.say(format_head(list(splits.tests), accuracy=False))
    log, state = EpochLog(folder, run.say, on_epoch), RunState(folder)
    log.show(state.progress().epochs)
    sets = {name: make_examples(each) for name, each in {"validation": splits.validation, **splits.tests}.items()}
    training, tests = make_examples(splits.training), {name: sets[name] for name in splits.tests}
    model, epochs = fit(
        model,
        training,
        sets["validation"],
        recipe.training,
        tests=tests,
        state=state,
        cache=cache_folder("features"),
        report=log,
        progress=progress,
    )
    outputs = score_sets(model, recipe.training, sets, training)
    result = _finish(run, splits, model, epochs, outputs, recorded_parity(encoder)) if is_first() else {}
    wait_for_all("report")
    return result


def _start(folder: Path, recipe: AssayRecipe, splits: AssaySplits, model: AssayModel) -> None:
    digests = run_folder.make_digests(recipe.model.encoder, splits.digest, model)
    run_folder.check_digests(folder, digests)
    run_folder.check_disk_space(folder, model, recipe.training, 1)
    wait_for_all("checked")
    if is_first():
        make_folder(folder / REPORT)
        write_file(folder / run_folder.RECIPE, recipe.to_toml())
        write_file(folder / REPORT / NOTES, "".join(f"- {note}\n" for note in splits.notes))
        run_folder.write_digests(folder, digests)
    wait_for_all("started")


def _finish(
    run: Run[AssayRecipe],
    splits: AssaySplits,
    model: AssayModel,
    epochs: Sequence[Epoch],
    outputs: Mapping[str, Any],
    parity: list[dict[str, Any]],
) -> dict[str, Any]:
    """Calibrate, measure, and write the model with its record, and the report."""
    recipe, folder = run.recipe, run.folder
    model = model.replace(targets=_calibrate(model.targets, splits.validation, outputs["validation"]))
    measured: dict[str, Figures] = {}
    drawn = []
    for name, test in splits.tests.items():
        for number, (target, own) in enumerate(split_outputs(model.targets, outputs[name])):
            truth, predictions = _predict_all(target, number, splits.training, test, own)
            figures = {each: to_json(measure(target, truth, found)) for each, found in predictions.items()}
            measured.setdefault(name, {})[target.name] = figures
            drawn.append((f"{file_name(name)}-{file_name(target.name)}", target, truth, predictions["model"]))
    best, seconds = best_epoch(epochs), sum(epoch.seconds for epoch in epochs)
    facts = {
        "name": recipe.name,
        "summary": recipe.summary or f"Trained by the recipe {recipe.name}.",
        "training": describe_assay_data(recipe, splits)
        | {"recipe": describe_training(recipe.model.encoder, recipe.training, run.command, best, seconds)},
        "evaluation": {"sets": describe_figures(splits, measured)},
        "limits": LIMITS,
        "parity": parity,
    }
    model.save_pretrained(folder / MODEL, facts, form=choose_form(model, recipe.training))
    result = {"recipe": recipe.name, "best_epoch": best, "epochs": len(epochs), "tests": measured}
    with writing_report(folder) as report:
        draw_curves(report, epochs)
        write_file(report / "table.md", format_epochs(epochs))
        for name, *what in drawn:
            draw_assay(report, name, *what)
        write_file(report / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def _calibrate(targets: Sequence[Target], validation: Measured, outputs: Any) -> list[Target]:
    """Temperatures of classes, and margins of numbers, by the validation proteins."""
    calibrated = []
    labels = np.asarray(make_examples(validation).labels)
    for number, (target, own) in enumerate(split_outputs(targets, outputs)):
        values = labels[..., number]
        known = ~np.isnan(values)
        own, values = jnp.asarray(own[known]), jnp.asarray(values[known], jnp.float32)
        if target.is_number:
            errors = np.abs(np.asarray(target.quantity(own)) - np.asarray(values))
            calibrated.append(replace(target, margin=conformal_bound(errors, COVERED)))
        else:
            calibrated.append(replace(target, temperature=_fit_temperature(target, own, values)))
    return calibrated


def _fit_temperature(target: Target, outputs: Any, values: Any) -> float:
    def loss(log_temperature: float) -> float:
        return float(target.losses(outputs / jnp.float32(np.exp(log_temperature)), values).mean())

    return minimise_temperature(loss)


def _predict_all(
    target: Target, number: int, training: Measured, test: Measured, outputs: Any
) -> tuple[Any, dict[str, Any]]:
    """Values of the test proteins that have one, and what each predictor says of them."""
    known, asked = training.select(training.known(number)), test.select(test.known(number))
    quantity: Any = np.asarray(target.quantity(jnp.asarray(outputs[test.known(number)])), np.float32)
    truth = asked.values_of(number)
    if target.kind == "residues":
        quantity = [rows[1 : 1 + len(values)] for rows, values in zip(quantity, truth, strict=True)]
    return truth, {"model": quantity, **predict_baselines(target, number, known, asked)}


def describe_assay_data(recipe: AssayRecipe, splits: AssaySplits) -> dict[str, Any]:
    """What the card says of the data."""
    sources = [*recipe.data.training, *recipe.data.validation]
    sizes = {"training": len(splits.training), "validation": len(splits.validation)}
    return {
        "data": [
            {
                "name": source.title,
                "source": source.hub_set or without_folders(source.path),
                "license": source.license or "not recorded",
            }
            for source in sources
        ],
        "datasets": distinct(source.hub_set for source in sources),
        "citations": distinct(source.citation for source in recipe.sources),
        "notes": [
            f"{sizes['training']:,} proteins for training, {sizes['validation']:,} for validation",
            *splits.notes,
        ],
    }


def describe_figures(splits: AssaySplits, measured: Mapping[str, Figures]) -> list[dict[str, Any]]:
    """The figures of every test set and target, as the card shows them."""
    return [
        {
            "name": name,
            "variant": target,
            "dataset": None,
            "proteins": len(splits.tests[name]),
            "rows": [{"name": PREDICTORS[each], "metrics": metrics} for each, metrics in rows.items()],
        }
        for name, targets in measured.items()
        for target, rows in targets.items()
    ]


def format_figures(tests: Mapping[str, Figures]) -> str:
    """The figures of all test sets for the terminal."""
    titled = [(f"\n{name}: {target}", rows) for name, of_set in tests.items() for target, rows in of_set.items()]
    return "\n".join(format_target(*each) for each in titled)
