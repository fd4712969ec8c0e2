"""A run of a recipe: a folder that says what was done and what came of it."""

import dataclasses
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from eqxesm.checkpoint.atomic import write_text
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene import Splits
from eqxesm.data.scan import Split
from eqxesm.data.similarity import nearest_identity
from eqxesm.declarations import Calibration, Limits
from eqxesm.errors import InputError
from eqxesm.evaluation.assessment import assess
from eqxesm.evaluation.baselines import fit_baselines
from eqxesm.evaluation.calibration import fit_temperature
from eqxesm.evaluation.plots import draw, draw_calibration
from eqxesm.solubility import SolubilityModel
from eqxesm.training.curves import draw_curves, format_epoch, format_head, format_table
from eqxesm.training.data import HELD_OUT, load_folds, load_splits, to_examples
from eqxesm.training.devices import is_first, make_mesh, place, wait
from eqxesm.training.examples import Examples, choose_shapes, feed
from eqxesm.training.features import default_cache
from eqxesm.training.folder import (
    MODEL,
    RECIPE,
    REPORT,
    RESULT,
    check_digests,
    check_folder,
    check_room,
    make_digests,
    make_folder,
    write_epochs,
    write_hygiene,
)
from eqxesm.training.loop import fit, score_set
from eqxesm.training.partition import trainable
from eqxesm.training.plan import Recipe, build_model, file_name
from eqxesm.training.record import describe_run
from eqxesm.training.store import Epoch, Store

Watch = Callable[[Epoch], None]


@dataclass(frozen=True)
class _Run:
    """What was asked for; see `train`."""

    recipe: Recipe
    folder: Path
    command: str
    watch: Watch | None
    progress: bool

    def say(self, text: str) -> None:
        if self.progress and is_first():
            print(text, flush=True)


def train(
    recipe: Recipe,
    folder: str | os.PathLike,
    *,
    resume: bool = False,
    command: str = "",
    watch: Watch | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train by a recipe, and write down everything about it.

    The folder then holds `config.toml`, the recipe spelled out; `metrics.jsonl`, a line for every
    epoch; `model/`, the best checkpoint by validation, calibrated; `report/`; and the state that
    the run goes on from. A cross-validation has them for every fold, but for the recipe, in
    folders of their own. Nothing is written before the recipe, the data and the folder are found
    to be in order. With several processes it has to be a folder that all of them see.

    Args:
        recipe: the recipe.
        folder: of the run.
        resume: go on with the run that is there, if there is one.
        command: how the run was started, for the record.
        watch: called after every epoch, beside the table that is printed.
        progress: print the table of epochs, and bars where standard error is a terminal.

    Returns:
        What `report/metrics.json` holds.

    Raises:
        InputError: the folder holds a run and is not to be resumed, or one of another recipe or
            other data; or what reading, training or writing refuse.
    """
    run = _Run(recipe, Path(folder), command, watch, progress)
    check_folder(run.folder, recipe, resume)
    if recipe.cross_validation:
        return _cross_validate(run)
    splits = load_splits(recipe)
    return _train(run, run.folder, splits, _begin(run, {run.folder: splits}))


def _begin(run: _Run, parts: Mapping[Path, Splits]) -> SolubilityModel:
    """Check all that can be checked beforehand, write it down, and make the model to start from."""
    model = build_model(run.recipe)
    digests = {folder: make_digests(run.recipe, parts[folder], model) for folder in parts}
    for folder in parts:
        check_digests(folder, digests[folder])
    check_room(run.folder, model, run.recipe.config, len(parts))
    wait("checked")
    if is_first():
        make_folder(run.folder)
        write_text(run.folder / RECIPE, run.recipe.to_toml())
        for folder, splits in parts.items():
            write_hygiene(folder, digests[folder], splits.report)
    wait("begun")
    return model


def _train(run: _Run, folder: Path, splits: Splits, model: SolubilityModel) -> dict[str, Any]:
    recipe, lengths = run.recipe, splits.training.lengths
    model = dataclasses.replace(model, limits=Limits(int(lengths.max()), int(lengths.min())))
    training, validation = (
        to_examples(split, recipe) for split in (splits.training, splits.validation)
    )
    tests = {name: to_examples(split, recipe) for name, split in splits.tests.items()}
    ported = getattr(model.encoder, "record", None)
    parity = ported.facts.get("parity", []) if ported else []
    store = Store(folder)
    seen: list[Epoch] = []

    def tell(epoch: Epoch) -> None:
        best = all(epoch.validation.loss < each.validation.loss for each in seen)
        seen.append(epoch)
        run.say(format_epoch(epoch, best))

    def report(epoch: Epoch) -> None:
        tell(epoch)
        write_epochs(folder, seen)
        if run.watch is not None:
            run.watch(epoch)

    run.say(
        f"{len(training.labels):,} proteins to train on, {len(validation.labels):,} to stop by; "
        f"what was left out: {folder / REPORT / 'hygiene.md'}"
    )
    run.say(format_head(list(tests)))
    for epoch in store.epochs():
        tell(epoch)
    model, epochs = fit(
        model,
        training,
        validation,
        recipe.config,
        tests=tests,
        store=store,
        cache=default_cache(),
        report=report,
        progress=run.progress,
    )
    scores = _score(model, recipe, {"training": training, "validation": validation, **tests})
    result = {}
    if is_first():
        write_epochs(folder, epochs)
        result = _finish(run, splits, folder, model, epochs, scores, parity)
    wait("report")
    return result


def _score(
    model: SolubilityModel, recipe: Recipe, sets: dict[str, Examples]
) -> dict[str, Float[np.ndarray, " _"]]:
    """Score everything but the training proteins, on every device; features come from the cache."""
    mesh = make_mesh()
    layout = choose_shapes(model, recipe.config, sets)
    params, frozen = eqx.partition(model, trainable(model, recipe.config.strategy))
    params, frozen = place(params, mesh), place(frozen, mesh)
    return {
        name: score_set(
            params,
            frozen,
            feed(model, examples, recipe.config, default_cache()),
            layout,
            recipe.config,
            mesh,
        )
        for name, examples in sets.items()
        if name != "training"
    }


def _finish(
    run: _Run,
    splits: Splits,
    folder: Path,
    model: SolubilityModel,
    epochs: Sequence[Epoch],
    scores: dict[str, Float[np.ndarray, " _"]],
    parity: list[dict[str, Any]],
) -> dict[str, Any]:
    """Calibrate, measure, and write the model with its record, and the report."""
    recipe = run.recipe
    labels = splits.validation.labels.astype(np.int64)
    temperature = fit_temperature(scores.pop("validation"), labels)
    model = dataclasses.replace(model, calibration=Calibration(temperature))
    trained_on = spell(splits.training)
    baselines = fit_baselines(trained_on, splits.training.labels.astype(np.int64))
    assessed, drawn = {}, {}
    for name, logits in scores.items():
        sequences = spell(splits.tests[name])
        labels = splits.tests[name].labels.astype(np.int64)
        probabilities = expit(logits.astype(np.float64) / temperature)
        predictions = {"model": probabilities, **baselines.predict(sequences)}
        threshold = model.calibration.threshold
        # The search takes longer than a small model does, so it is made where identity matters.
        identities = nearest_identity(sequences, trained_on) if recipe.policy.max_identity else None
        assessed[name] = assess(sequences, labels, predictions, {"model": threshold}, identities)
        drawn[name] = (labels, predictions, threshold, assessed[name])
    best = min(epochs, key=lambda epoch: epoch.validation.loss).number
    seconds = sum(epoch.seconds for epoch in epochs)
    record = describe_run(
        recipe, run.command, splits.report, baselines, assessed, best, seconds, parity
    )
    bins = {name: measured["reliability"]["model"] for name, measured in assessed.items()}
    pictures = {"calibration.png": draw_calibration(bins)} if bins else {}
    model.save_pretrained(folder / MODEL, record, pictures)
    result = {
        "recipe": recipe.name,
        "best_epoch": best,
        "epochs": len(epochs),
        "temperature": temperature,
        "tests": assessed,
    }
    with _writing(folder):
        report = folder / REPORT
        draw_curves(report, epochs)
        write_text(report / "table.md", format_table(epochs))
        for name, pictures in drawn.items():
            make_folder(report / file_name(name))
            draw(report / file_name(name), *pictures)
        # The last one: where it stands, the run is finished.
        write_text(report / RESULT, json.dumps(result, indent=1) + "\n")
    return result


@contextmanager
def _writing(folder: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: the report cannot be written ({error.strerror}): make room and go on with "
            "--resume"
        ) from error


def spell(split: Split) -> list[str]:
    """Spell the proteins of a split as they were published, for what reads the construct.

    Args:
        split: its proteins.

    Returns:
        Sequences in upper case, with tags and initial Met as they are.
    """
    cleaning = Cleaning()
    return [cleaning.clean(split.proteins[i].sequence).sequence for i in range(len(split.labels))]


def _cross_validate(run: _Run) -> dict[str, Any]:
    """Train once for each fold, and measure what every model says about the fold it never saw."""
    folds = load_folds(run.recipe)
    places = {name: run.folder / f"fold-{file_name(name)}" for name in folds}
    model = _begin(run, {places[name]: splits for name, splits in folds.items()})
    for name, splits in folds.items():
        run.say(f"\nfold {name} held out")
        if (places[name] / REPORT / RESULT).exists():
            run.say("it is finished")
        else:
            _train(run, places[name], splits, model)
    result = _measure_out_of_fold(run, folds, places) if is_first() else {}
    wait("folds")
    return result


def _measure_out_of_fold(
    run: _Run, folds: Mapping[str, Splits], places: Mapping[str, Path]
) -> dict[str, Any]:
    sequences: list[str] = []
    labels: list[Int[np.ndarray, " _"]] = []
    predictions: dict[str, list[Float[np.ndarray, " _"]]] = {}
    for name, splits in folds.items():
        model = SolubilityModel.from_pretrained(places[name] / MODEL)
        held_out = splits.tests[HELD_OUT]
        spelled = spell(held_out)
        baselines = fit_baselines(spell(splits.training), splits.training.labels.astype(np.int64))
        predicted = {
            "model": model.predict_tokens(to_examples(held_out, run.recipe).proteins),
            **baselines.predict(spelled),
        }
        for predictor, probabilities in predicted.items():
            predictions.setdefault(predictor, []).append(probabilities.astype(np.float64))
        sequences += spelled
        labels.append(held_out.labels.astype(np.int64))
    joined = {name: np.concatenate(parts) for name, parts in predictions.items()}
    truth = np.concatenate(labels)
    assessed = assess(sequences, truth, joined, {})
    result = {"recipe": run.recipe.name, "folds": list(folds), "tests": {"out of fold": assessed}}
    with _writing(run.folder):
        report = run.folder / REPORT
        make_folder(report)
        draw(report, truth, joined, Calibration().threshold, assessed)
        write_text(report / RESULT, json.dumps(result, indent=1) + "\n")
    return result
