"""A run of a recipe: a folder that says what was done and what came of it."""

import dataclasses
import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float
from scipy.special import expit

from eqxesm.checkpoint.atomic import write_text
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene import Split, Splits
from eqxesm.data.similarity import nearest_identity
from eqxesm.declarations import Calibration, Limits
from eqxesm.errors import InputError
from eqxesm.evaluation.assessment import assess
from eqxesm.evaluation.baselines import fit_baselines
from eqxesm.evaluation.calibration import fit_temperature
from eqxesm.evaluation.plots import draw
from eqxesm.solubility import SolubilityModel
from eqxesm.training.curves import draw_curves, format_epoch, format_head, format_table
from eqxesm.training.data import HELD_OUT, load_folds, load_splits, to_examples
from eqxesm.training.devices import is_first, make_mesh, place, wait
from eqxesm.training.examples import Examples, choose_shapes, feed
from eqxesm.training.features import default_cache
from eqxesm.training.loop import fit, score_set
from eqxesm.training.partition import prepare, trainable
from eqxesm.training.recipe import Recipe, build_model, differences
from eqxesm.training.record import make_record
from eqxesm.training.store import Epoch, Store

RECIPE = "config.toml"
EPOCHS = "metrics.jsonl"
REPORT = "report"
DATA = "data.json"

Watch = Callable[[Epoch], None]


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
    the run goes on from. With several processes it has to be a folder that all of them see.

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
    folder = Path(folder)
    _open(folder, recipe, resume)
    if recipe.cross_validation:
        return _cross_validate(recipe, folder, command, watch, progress)
    return _train(recipe, load_splits(recipe), folder, command, watch, progress)


def _open(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Make the folder of a run, or find the same run in it."""
    there = folder / RECIPE
    try:
        if not there.exists():
            if folder.is_dir() and any(folder.iterdir()):
                raise InputError(f"{folder}: holds no run, but something: choose another folder")
            folder.mkdir(parents=True, exist_ok=True)
            wait("recipe")
            if is_first():
                write_text(there, recipe.to_toml())
            return
        if not resume:
            raise InputError(f"{folder}: holds a run: add --resume, or choose another folder")
        earlier = tomllib.loads(there.read_text(encoding="utf-8"))
        wait("recipe")
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "no permission to write")
    except (OSError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or "its recipe is broken"
        raise InputError(f"{folder}: cannot be used ({reason}): choose another") from error
    found = differences(earlier, tomllib.loads(recipe.to_toml()))
    if found:
        raise InputError(
            f"{folder}: holds a run of another recipe: {'; '.join(found)}: choose another folder"
        )


def _train(
    recipe: Recipe,
    splits: Splits,
    folder: Path,
    command: str,
    watch: Watch | None,
    progress: bool,
) -> dict[str, Any]:
    _check_data(folder, splits)
    lengths = splits.training.lengths
    model = build_model(recipe, Limits(int(lengths.max()), int(lengths.min())))
    _check_room(folder, model, recipe)
    training, validation = (
        to_examples(split, recipe) for split in (splits.training, splits.validation)
    )
    tests = {name: to_examples(split, recipe) for name, split in splits.tests.items()}
    store = Store(folder)
    seen: list[Epoch] = store.epochs()

    def report(epoch: Epoch) -> None:
        best = all(epoch.validation.loss < each.validation.loss for each in seen)
        seen.append(epoch)
        _write_epochs(folder, seen)
        if progress:
            print(format_epoch(epoch, best), flush=True)
        if watch is not None:
            watch(epoch)

    if progress and is_first():
        print(
            f"{len(training.labels):,} proteins to train on, {len(validation.labels):,} to stop by"
        )
        print(format_head(list(tests)))
        for number, epoch in enumerate(seen):
            best = all(epoch.validation.loss < each.validation.loss for each in seen[:number])
            print(format_epoch(epoch, best))
    model, epochs = fit(
        model,
        training,
        validation,
        recipe.config,
        tests=tests,
        store=store,
        cache=default_cache(),
        report=report,
        progress=progress,
    )
    scores = _score(model, recipe, {"training": training, "validation": validation, **tests})
    result = {}
    if is_first():
        _write_epochs(folder, epochs)
        result = _finish(recipe, splits, folder, command, model, epochs, scores)
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


def _check_data(folder: Path, splits: Splits) -> None:
    """Refuse to go on with other data, and write the hygiene report."""
    digest, there = splits.report.data_digest, folder / DATA
    if there.exists():
        earlier = json.loads(there.read_text())["digest"]
        if earlier != digest:
            raise InputError(
                f"{folder}: holds a run on other data (digest {earlier[:12]} there, {digest[:12]} "
                "now): choose another folder"
            )
    wait("data")
    if is_first():
        report = folder / REPORT
        report.mkdir(exist_ok=True)
        write_text(report / "hygiene.json", json.dumps(splits.report.to_plain(), indent=1) + "\n")
        write_text(report / "hygiene.md", splits.report.to_markdown())
        write_text(there, json.dumps({"digest": digest}) + "\n")


def _check_room(folder: Path, model: SolubilityModel, recipe: Recipe) -> None:
    """Refuse a disk that the checkpoints do not fit, before the work is done."""

    def size(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    skeleton = eqx.filter_eval_shape(lambda: prepare(model, recipe.config))
    params = eqx.filter(skeleton, trainable(skeleton, recipe.config.strategy))
    copies = 3 + bool(recipe.config.ema) + (recipe.config.accumulate > 1)
    # The old one goes when the new one has come.
    needed = 2 * (size(eqx.filter(model, eqx.is_array)) + copies * size(params))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: checkpoints need {needed / 1e9:.1f} GB and {free / 1e9:.1f} are free: make "
            "room or choose another"
        )


def _write_epochs(folder: Path, epochs: Sequence[Epoch]) -> None:
    lines = (json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in epochs)
    write_text(folder / EPOCHS, "".join(lines))


def _finish(
    recipe: Recipe,
    splits: Splits,
    folder: Path,
    command: str,
    model: SolubilityModel,
    epochs: Sequence[Epoch],
    scores: dict[str, Float[np.ndarray, " _"]],
) -> dict[str, Any]:
    """Calibrate, measure, and write the model with its record, and the report."""
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
    record = make_record(recipe, command, splits.report, baselines, assessed, best, seconds)
    model.save_pretrained(folder / "model", record)
    result = {
        "recipe": recipe.name,
        "best_epoch": best,
        "epochs": len(epochs),
        "temperature": temperature,
        "tests": assessed,
    }
    report = folder / REPORT
    draw_curves(report, epochs)
    write_text(report / "table.md", format_table(epochs))
    for name, pictures in drawn.items():
        place = report / re.sub(r"[^\w.-]+", "_", name)
        place.mkdir(exist_ok=True)
        draw(place, *pictures)
    write_text(report / "metrics.json", json.dumps(result, indent=1) + "\n")
    return result


def spell(split: Split) -> list[str]:
    """Spell the proteins of a split as they were published, for what reads the construct.

    Args:
        split: its proteins.

    Returns:
        Sequences in upper case, with tags and initial Met as they are.
    """
    cleaning = Cleaning()
    return [cleaning.clean(split.proteins[i].sequence).sequence for i in range(len(split.labels))]


def _cross_validate(
    recipe: Recipe, folder: Path, command: str, watch: Watch | None, progress: bool
) -> dict[str, Any]:
    """Train once for each fold, and measure what every model says about the fold it never saw."""
    folds = load_folds(recipe)
    sequences: list[str] = []
    labels: list[Float[np.ndarray, " _"]] = []
    predictions: dict[str, list[Float[np.ndarray, " _"]]] = {}
    for fold, splits in folds.items():
        if progress and is_first():
            print(f"fold {fold} held out")
        place = folder / f"fold-{fold}"
        place.mkdir(exist_ok=True)
        if not (place / REPORT / "metrics.json").exists():
            _train(recipe, splits, place, command, watch, progress)
        if not is_first():
            continue
        model = SolubilityModel.from_pretrained(place / "model")
        held_out = splits.tests[HELD_OUT]
        spelled = spell(held_out)
        baselines = fit_baselines(spell(splits.training), splits.training.labels.astype(np.int64))
        predicted = {
            "model": model.predict_tokens(to_examples(held_out, recipe).proteins),
            **baselines.predict(spelled),
        }
        for name, probabilities in predicted.items():
            predictions.setdefault(name, []).append(probabilities.astype(np.float64))
        sequences += spelled
        labels.append(held_out.labels)
    result = {}
    if is_first():
        joined = {name: np.concatenate(parts) for name, parts in predictions.items()}
        truth = np.concatenate(labels).astype(np.int64)
        assessed = assess(sequences, truth, joined, {})
        result = {"recipe": recipe.name, "folds": list(folds), "tests": {"out of fold": assessed}}
        report = folder / REPORT
        report.mkdir(exist_ok=True)
        draw(report, truth, joined, 0.5, assessed)
        write_text(report / "metrics.json", json.dumps(result, indent=1) + "\n")
    wait("folds")
    return result
