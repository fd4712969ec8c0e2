"""A run of a recipe for an assay: training, and a report beside baselines."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

from eqxesm import tables
from eqxesm.assay import AssayModel
from eqxesm.checkpoint.card import title_metric
from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.checkpoint.record import About, without_folders
from eqxesm.evaluation.assay import fit_composition, measure, predict_nearest
from eqxesm.evaluation.assay_plots import draw_assay
from eqxesm.evaluation.metrics import Interval
from eqxesm.files import cache_folder, expand_user, make_folder, write_file
from eqxesm.forms import Limits
from eqxesm.targets import COVERED, Target, split_outputs
from eqxesm.training import run_folder
from eqxesm.training.assay_data import AssaySplits, Measured, load_assay
from eqxesm.training.assay_recipe import AssayRecipe, build_assay_model, complete
from eqxesm.training.curves import best_epoch, draw_curves, format_epoch, format_epochs, format_head
from eqxesm.training.devices import is_first, wait_for_all
from eqxesm.training.loop import fit
from eqxesm.training.recipe import Pretrained, build_encoder, check_pretrained, file_name, start_keys
from eqxesm.training.report import describe_training
from eqxesm.training.run import OnEpoch, choose_form, score_sets, writing_report
from eqxesm.training.run_folder import MODEL, REPORT, RESULT
from eqxesm.training.state import Epoch, RunState

NOTES = "data.md"

PREDICTORS = {"model": "this model", "composition": "composition regression", "nearest": "most similar protein"}

LIMITS = [
    "It predicts what this assay measured, of constructs and conditions like those in the training data.",
    "The test proteins were held out by similarity or by the files that were named; a design that differs from all "
    "of them is another matter.",
]

Figures = dict[str, dict[str, dict[str, Any]]]
"""Of a test set: by target and predictor, the metrics."""


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
    say = print if progress and is_first() else lambda *_, **__: None
    say(recipe.to_toml(), flush=True)
    say("\n".join(splits.notes), flush=True)
    say(f"{len(splits.training):,} training proteins, {len(splits.validation):,} for validation", flush=True)
    say(format_head(list(splits.tests), accuracy=False), flush=True)
    seen: list[Epoch] = []

    def report(epoch: Epoch, *, known: bool = False) -> None:
        say(format_epoch(epoch, all(epoch.validation.loss < each.validation.loss for each in seen)), flush=True)
        seen.append(epoch)
        if not known:
            run_folder.write_lines(folder / run_folder.EPOCHS, seen)
            if on_epoch is not None:
                on_epoch(epoch)

    state = RunState(folder)
    for epoch in state.progress().epochs:
        report(epoch, known=True)
    sets = {"validation": splits.validation.examples(), **{n: each.examples() for n, each in splits.tests.items()}}
    training, tests = splits.training.examples(), {name: sets[name] for name in splits.tests}
    model, epochs = fit(
        model,
        training,
        sets["validation"],
        recipe.training,
        tests=tests,
        state=state,
        cache=cache_folder("features"),
        report=report,
        progress=progress,
    )
    outputs = score_sets(model, recipe.training, sets, training)
    result = _finish(recipe, splits, folder, command, model, epochs, outputs) if is_first() else {}
    wait_for_all("report")
    return result


def _start(folder: Path, recipe: AssayRecipe, splits: AssaySplits, model: AssayModel) -> None:
    digests = {"data": splits.digest}
    if isinstance(recipe.model.encoder, Pretrained):
        digests["encoder"] = fingerprint(model.encoder)
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
    recipe: AssayRecipe,
    splits: AssaySplits,
    folder: Path,
    command: str,
    model: AssayModel,
    epochs: Sequence[Epoch],
    outputs: Mapping[str, Any],
) -> dict[str, Any]:
    """Calibrate, measure, and write the model with its record, and the report."""
    model = model.replace(targets=_calibrate(model.targets, splits.validation, outputs["validation"]))
    measured: dict[str, Figures] = {}
    drawn = []
    for name, test in splits.tests.items():
        for number, (target, own) in enumerate(split_outputs(model.targets, outputs[name])):
            truth, predictions = _predict_all(target, number, splits.training, test, own)
            figures = {each: measure(target, truth, found) for each, found in predictions.items()}
            measured.setdefault(name, {})[target.name] = {
                each: {metric: asdict(interval) for metric, interval in found.items()}
                for each, found in figures.items()
            }
            drawn.append((f"{file_name(name)}-{file_name(target.name)}", target, truth, predictions["model"]))
    best, seconds = best_epoch(epochs), sum(epoch.seconds for epoch in epochs)
    facts = {
        "name": recipe.name,
        "summary": recipe.summary or f"Trained by the recipe {recipe.name}.",
        "training": describe_assay_data(recipe, splits)
        | {"recipe": describe_training(recipe.model.encoder, recipe.training, command, best, seconds)},
        "evaluation": {"sets": describe_figures(splits, measured)},
        "limits": LIMITS,
        "parity": _parity(model),
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


def _parity(model: AssayModel) -> list[Any]:
    record = getattr(model.encoder, "about", About()).record
    return list(record.facts.get("parity") or []) if record else []


def _calibrate(targets: Sequence[Target], validation: Measured, outputs: Any) -> list[Target]:
    """Temperatures of classes, and margins of numbers, by the validation proteins."""
    calibrated = []
    labels = np.asarray(validation.examples().labels)
    for number, (target, own) in enumerate(split_outputs(targets, outputs)):
        values = labels[..., number]
        known = ~np.isnan(values)
        own, values = jnp.asarray(own[known]), jnp.asarray(values[known], jnp.float32)
        if target.is_number:
            errors = np.sort(np.abs(np.asarray(target.quantity(own)) - np.asarray(values)))
            rank = int(np.ceil(COVERED * (len(errors) + 1)))
            margin = float(errors[rank - 1]) if rank <= len(errors) else None
            calibrated.append(replace(target, margin=margin))
        else:
            calibrated.append(replace(target, temperature=_fit_temperature(target, own, values)))
    return calibrated


def _fit_temperature(target: Target, outputs: Any, values: Any) -> float:
    def loss(log_temperature: float) -> float:
        return float(target.losses(outputs / jnp.float32(np.exp(log_temperature)), values).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20.0]), method="bounded").x))


def _predict_all(
    target: Target, number: int, training: Measured, test: Measured, outputs: Any
) -> tuple[Any, dict[str, Any]]:
    """Values of the test proteins that have one, and what each predictor says of them."""
    known, asked = training.select(training.known(number)), test.select(test.known(number))
    quantity = np.asarray(target.quantity(jnp.asarray(outputs[test.known(number)])), np.float32)
    if isinstance(asked.values, list):
        truth, learned = asked.values, known.values
        own: Any = [rows[1 : 1 + len(values)] for rows, values in zip(quantity, truth, strict=True)]
    else:
        truth, own = asked.values[:, number], quantity
        learned = known.values[:, number]  # ty: ignore[invalid-argument-type]
    found = {
        "model": own,
        "composition": fit_composition(target, known.published, learned)(asked.published)
        if target.kind != "residues"
        else fit_composition(target, known.sequences, learned)(asked.sequences),
        "nearest": predict_nearest(target, known.sequences, learned, asked.sequences),
    }
    return truth, {name: each for name, each in found.items() if each is not None}


def describe_assay_data(recipe: AssayRecipe, splits: AssaySplits) -> dict[str, Any]:
    """What the card says of the data."""
    sources = [*recipe.data.training, *recipe.data.validation]
    sizes = {"training": len(splits.training), "validation": len(splits.validation)}
    return {
        "data": [
            {
                "name": source.title,
                "source": source.path if source.revision else without_folders(source.path),
                "license": source.license or "not recorded",
            }
            for source in sources
        ],
        "datasets": [source.path for source in sources if source.revision is not None],
        "citations": list(dict.fromkeys(source.citation for source in recipe.sources if source.citation)),
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
    lines = []
    for name, targets in tests.items():
        for target, rows in targets.items():
            lines.append(f"\n{name}: {target}")
            table = [
                {"predictor": PREDICTORS[each], **{title_metric(m): _format(Interval(**f)) for m, f in metrics.items()}}
                for each, metrics in rows.items()
            ]
            lines.append(tables.format_table(table))
    return "\n".join(lines)


def _format(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
