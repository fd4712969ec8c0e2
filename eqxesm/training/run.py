"""A run of a recipe: a folder that says what was done and what came of it."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene import Splits
from eqxesm.data.scan import Split
from eqxesm.data.similarity import nearest_identity
from eqxesm.evaluation.assess import assess
from eqxesm.evaluation.baselines import fit_baselines
from eqxesm.evaluation.calibration import fit_temperature
from eqxesm.evaluation.plots import draw_calibration, draw_evaluation
from eqxesm.files import cache_folder, expand_user, file_name, make_folder, write_file
from eqxesm.forms import Calibration, Limits
from eqxesm.model import SolubilityModel
from eqxesm.protein_model import ProteinModel
from eqxesm.training import run_folder
from eqxesm.training.config import TrainConfig
from eqxesm.training.curves import best_epoch, draw_curves, format_epochs, format_head
from eqxesm.training.devices import is_first, make_mesh, shard, wait_for_all
from eqxesm.training.examples import Examples, choose_run_buckets, prepare_inputs
from eqxesm.training.features import FrozenFeatures, compute_once
from eqxesm.training.filters import trainable
from eqxesm.training.loop import fit, score_set
from eqxesm.training.recipe import Recipe, build_model, check_pretrained
from eqxesm.training.report import describe_run, recorded_parity
from eqxesm.training.run_folder import MODEL, REPORT, RESULT, choose_form, writing_report
from eqxesm.training.run_log import EpochLog, OnEpoch, Run
from eqxesm.training.splits import HELD_OUT, load_folds, load_splits, to_examples
from eqxesm.training.state import Epoch, RunState

Logits = dict[str, Float[np.ndarray, " _"]]


def train(
    recipe: Recipe,
    folder: str | os.PathLike,
    *,
    resume: bool = False,
    command: str = "",
    on_epoch: OnEpoch | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train by a recipe, and write down everything about it.

    Args:
        folder: the run's folder, which must not hold another run.
        resume: go on with the run that is there.
        command: how the run was started, for the card.
        on_epoch: called after every epoch, in the first process.
        progress: print a line per epoch, and show bars if standard error is a terminal.

    Returns:
        What is in `report/metrics.json`; nothing in processes other than the first.
    """
    run = Run(recipe, Path(expand_user(folder)), command, on_epoch, progress)
    run_folder.check_run_folder(run.folder, recipe, resume)
    check_pretrained(recipe.model.encoder, "model.encoder")
    if recipe.data.cross_validation:
        return _cross_validate(run)
    splits = load_splits(recipe)
    return _train(run, run.folder, splits, _start(run, {run.folder: splits}))


def _start(run: Run[Recipe], parts: Mapping[Path, Splits]) -> SolubilityModel:
    """Check what can be checked beforehand, write it down, and make the model to start from."""
    model = build_model(run.recipe)
    digests = {
        folder: run_folder.make_digests(run.recipe.model.encoder, parts[folder].report.data_digest, model)
        for folder in parts
    }
    for folder in parts:
        run_folder.check_digests(folder, digests[folder])
    run_folder.check_disk_space(run.folder, model, run.recipe.training, len(parts))
    wait_for_all("checked")
    if is_first():
        make_folder(run.folder)
        write_file(run.folder / run_folder.RECIPE, run.recipe.to_toml())
        for folder, splits in parts.items():
            run_folder.write_hygiene(folder, digests[folder], splits.report)
    wait_for_all("started")
    return model


def _train(
    run: Run[Recipe], folder: Path, splits: Splits, model: SolubilityModel, features: FrozenFeatures | None = None
) -> dict[str, Any]:
    recipe, lengths = run.recipe, splits.training.lengths
    parity = recorded_parity(model.encoder)
    model = model.replace(cleaning=splits.cleaning, limits=Limits.of(int(lengths.max()), int(lengths.min())))

    def tokenize(split: Split) -> Examples:
        return to_examples(split, splits.cleaning, recipe)

    training, validation = tokenize(splits.training), tokenize(splits.validation)
    tests = {name: tokenize(split) for name, split in splits.tests.items()}
    state = RunState(folder)
    log = EpochLog(folder, run.say, run.on_epoch)
    run.say(
        f"{len(training.labels):,} training proteins, {len(validation.labels):,} for validation. "
        f"What was left out: {folder / REPORT / 'hygiene.md'}"
    )
    run.say(format_head(list(tests)))
    log.show(state.progress().epochs)
    model, epochs = fit(
        model,
        training,
        validation,
        recipe.training,
        tests=tests,
        state=state,
        cache=cache_folder("features"),
        features=features,
        report=log,
        progress=run.progress,
    )
    logits = score_sets(model, recipe.training, {"validation": validation, **tests}, training, features)
    result = {}
    if is_first():
        run_folder.write_lines(folder / run_folder.EPOCHS, epochs)
        result = _finish(run, splits, folder, model, epochs, logits, parity)
    wait_for_all("report")
    return result


def score_sets(
    model: ProteinModel,
    config: TrainConfig,
    sets: Mapping[str, Examples],
    training: Examples,
    features: FrozenFeatures | None = None,
) -> dict[str, Float[np.ndarray, "n ..."]]:
    """Score sets in the shapes of training, on every device. Features are known or come from the cache."""
    mesh, cache = make_mesh(), cache_folder("features")
    buckets = choose_run_buckets(model, config, {"training": training, **sets})
    params, frozen = eqx.partition(model, trainable(model, config.strategy))
    params, frozen = shard(params, mesh), shard(frozen, mesh)
    return {
        name: score_set(params, frozen, prepare_inputs(model, examples, config, cache, features), buckets, config, mesh)
        for name, examples in sets.items()
    }


def _finish(
    run: Run[Recipe],
    splits: Splits,
    folder: Path,
    model: SolubilityModel,
    epochs: Sequence[Epoch],
    logits: Logits,
    parity: list[dict[str, Any]],
) -> dict[str, Any]:
    """Calibrate, measure, and write the model with its record, and the report."""
    recipe = run.recipe
    labels = splits.validation.labels.astype(np.int64)
    temperature = fit_temperature(logits.pop("validation"), labels)
    model = model.replace(calibration=Calibration(temperature))
    threshold = model.calibration.threshold
    trained_on = published_sequences(splits.training)
    baselines = fit_baselines(trained_on, splits.training.labels.astype(np.int64))
    assessed, drawn = {}, {}
    for name, scores in logits.items():
        sequences = published_sequences(splits.tests[name])
        labels = splits.tests[name].labels.astype(np.int64)
        probabilities = expit(scores.astype(np.float64) / temperature)
        predictions = {"model": probabilities, **baselines.predict(sequences)}
        # The search takes longer than a small model does, so it is made only where it matters.
        identities = nearest_identity(sequences, trained_on) if recipe.data.max_identity else None
        assessed[name] = assess(sequences, labels, predictions, {"model": threshold}, identities)
        drawn[name] = (labels, predictions, threshold, assessed[name])
    best = best_epoch(epochs)
    seconds = sum(epoch.seconds for epoch in epochs)
    facts = describe_run(recipe, run.command, splits.report, baselines, assessed, best, seconds, parity)
    bins = {name: measured["reliability"]["model"] for name, measured in assessed.items()}
    pictures = {"calibration.png": draw_calibration(bins)} if bins else {}
    model.save_pretrained(folder / MODEL, facts, pictures, form=choose_form(model, recipe.training))
    result = {
        "recipe": recipe.name,
        "best_epoch": best,
        "epochs": len(epochs),
        "temperature": temperature,
        "tests": assessed,
    }
    with writing_report(folder) as report:
        draw_curves(report, epochs)
        write_file(report / "table.md", format_epochs(epochs))
        for name, pictures in drawn.items():
            make_folder(report / file_name(name))
            draw_evaluation(report / file_name(name), *pictures)
        # The last one: where it is, the run is finished.
        write_file(report / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def published_sequences(split: Split) -> list[str]:
    """Sequences with their tags, for what reads the construct."""
    cleaning = Cleaning()
    return [cleaning.clean(split.proteins[i].sequence).sequence for i in range(len(split.labels))]


def _cross_validate(run: Run[Recipe]) -> dict[str, Any]:
    """Train once per fold, and measure every model on the fold it never saw."""
    folds = load_folds(run.recipe)
    folders = {name: run.folder / f"fold-{file_name(name)}" for name in folds}
    model = _start(run, {folders[name]: splits for name, splits in folds.items()})
    left = {name: splits for name, splits in folds.items() if not (folders[name] / REPORT / RESULT).exists()}
    # Of all folds, so that a run that goes on finds the same file in the cache.
    features = _compute_all_features(run, model, folds.values()) if left else None
    for name, splits in folds.items():
        run.say(f"\nfold {name} held out")
        if name in left:
            _train(run, folders[name], splits, model, features)
        else:
            run.say("already finished")
    result = _assess_out_of_fold(run, folds, folders) if is_first() else {}
    wait_for_all("folds")
    return result


def _compute_all_features(run: Run[Recipe], model: SolubilityModel, folds: Iterable[Splits]) -> FrozenFeatures | None:
    """Features of the proteins of all folds, each computed once, if the encoder is frozen."""
    if run.recipe.training.strategy != "frozen":
        return None
    proteins = (
        to_examples(split, splits.cleaning, run.recipe).proteins
        for splits in folds
        for split in (splits.training, splits.validation, *splits.tests.values())
    )
    every = (each[index] for each in proteins for index in range(len(each)))
    return compute_once(model, every, run.recipe.training, cache_folder("features"), progress=run.progress)


def _assess_out_of_fold(run: Run[Recipe], folds: Mapping[str, Splits], folders: Mapping[str, Path]) -> dict[str, Any]:
    sequences: list[str] = []
    labels: list[Int[np.ndarray, " _"]] = []
    predictions: dict[str, list[Float[np.ndarray, " _"]]] = {}
    for name, splits in folds.items():
        model = SolubilityModel.from_pretrained(folders[name] / MODEL)
        held_out = splits.tests[HELD_OUT]
        published = published_sequences(held_out)
        baselines = fit_baselines(published_sequences(splits.training), splits.training.labels.astype(np.int64))
        predicted = {
            "model": model.predict_tokens(to_examples(held_out, splits.cleaning, run.recipe).proteins),
            **baselines.predict(published),
        }
        for predictor, probabilities in predicted.items():
            predictions.setdefault(predictor, []).append(probabilities.astype(np.float64))
        sequences += published
        labels.append(held_out.labels.astype(np.int64))
    joined = {name: np.concatenate(parts) for name, parts in predictions.items()}
    truth = np.concatenate(labels)
    assessed = assess(sequences, truth, joined, {})
    result = {"recipe": run.recipe.name, "folds": list(folds), "tests": {"out of fold": assessed}}
    with writing_report(run.folder) as report:
        draw_evaluation(report, truth, joined, Calibration().threshold, assessed)
        write_file(report / RESULT, json.dumps(result, indent=1) + "\n")
    return result
