"""Evaluate a model of an assay on what was measured of other proteins."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from eqxesm import tables
from eqxesm.assay import AssayModel
from eqxesm.checkpoint.card import title_metric
from eqxesm.data.protein import Columns
from eqxesm.data.proteins import read_proteins
from eqxesm.errors import InputError, at, pluralise
from eqxesm.evaluation.assay import PREDICTORS, RESAMPLES, fit_composition, measure, predict_nearest
from eqxesm.evaluation.assay_plots import draw_assay
from eqxesm.evaluation.baselines import FOLDS, count_folds
from eqxesm.evaluation.measured import Converter, Measured, check_varies, describe_unusable, read_rows
from eqxesm.evaluation.metrics import Interval, format_interval, to_json
from eqxesm.evaluation.report_folder import ReportType, check_report_folder, write_report
from eqxesm.files import file_name
from eqxesm.targets import Target


def evaluate_assay(
    data: str | os.PathLike,
    out: str | os.PathLike,
    columns: Columns,
    model: AssayModel,
    named: Mapping[str, Any],
    training: str | os.PathLike | None,
    *,
    progress: bool,
) -> dict[str, Any]:
    """Measure every target of a model beside two baselines, write the report folder `out`, and return it.

    The baselines are fitted on the file `training`, else out of fold on the data.
    """
    pictures = [file_name(target.name) for target in model.targets]
    kind = ReportType("eqxesm evaluate", "metrics.json", tuple(pictures))
    out = check_report_folder(out, kind)
    notes: list[str] = []
    measured = _read(data, columns, model, notes)
    trained_on = None if training is None else _read(training, replace(columns, id=None), model, notes)
    predicted = model.predict(measured.published, progress=progress)
    fitted_on = f"the data itself, out of fold (up to {FOLDS} folds)"
    if trained_on is not None:
        fitted_on = f"{training} ({pluralise(len(trained_on), 'protein')})"
        if shared := len(set(measured.sequences) & set(trained_on.sequences)):
            notes.append(f"{pluralise(shared, 'protein')} of the data: in the training data too")
    figures, drawn = {}, []
    for number, target in enumerate(model.targets):
        with at(f"{data}, target {target.name}"):
            truth, found = _predict_all(target, number, measured, trained_on, predicted[target.name])
        figures[target.name] = _describe(target, truth, found)
        drawn.append((pictures[number], target, truth, found["model"]))
    report = {"data": os.fspath(data), **named, "baselines_fitted_on": fitted_on, "notes": notes, "targets": figures}

    def draw(folder: Path) -> None:
        for each in drawn:
            draw_assay(folder, *each)

    write_report(out, kind, report, draw)
    return report


def predict_baselines(target: Target, number: int, known: Measured, asked: Measured) -> dict[str, Any]:
    """What the baselines say of proteins, fitted on others; both have a value of the target."""
    learned = known.values_of(number)
    found = {
        "composition": fit_composition(target, known.published, learned)(asked.published),
        "nearest": predict_nearest(target, known.sequences, learned, asked.sequences),
    }
    return {name: each for name, each in found.items() if each is not None}


def format_target(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures of a target, a row for each predictor."""
    names = list(rows["model"])
    table = [
        {"predictor": PREDICTORS[each], **{title_metric(name): format_interval(figures.get(name)) for name in names}}
        for each, figures in rows.items()
    ]
    return f"{title}\n{tables.format_table(table)}"


def format_assay(report: Mapping[str, Any]) -> str:
    """The figures of all targets for the terminal."""
    parts = []
    for name, figures in report["targets"].items():
        rows = {each: figures[each] for each in PREDICTORS if each in figures}
        parts.append(format_target(f"{name} ({pluralise(figures['proteins'], 'protein')})", rows))
    return "\n\n".join(parts)


def _read(path: str | os.PathLike, columns: Columns, model: AssayModel, notes: list[str]) -> Measured:
    names = [target.name for target in model.targets]
    if columns.label != Columns.label:
        if len(names) > 1:
            raise InputError(f"--label-column names one column, and the model has the targets {', '.join(names)}.")
        names = [columns.label]
    rows, unusable = read_rows(read_proteins(path, columns, values=names), model.clean)
    if unusable:
        notes.append(f"{path}: {describe_unusable(unusable)}")
    with at(path):
        measured = Converter(model.targets, notes)(os.fspath(path), rows)
    if not len(measured):
        raise InputError(f"{path}: no protein with a value can be used{f', first {unusable[0]}' if unusable else ''}")
    return measured


def _predict_all(
    target: Target, number: int, measured: Measured, trained_on: Measured | None, predicted: Any
) -> tuple[Any, dict[str, Any]]:
    """Values of the proteins that have one, and what each predictor says of them."""
    rows = measured.known(number)
    asked = measured.select(rows)
    truth = asked.values_of(number)
    check_varies(target, np.concatenate(truth) if target.kind == "residues" else truth, "Name other proteins.")
    # Of residues, every protein has some.
    own = predicted if target.kind == "residues" else predicted[rows]
    if trained_on is None:
        return truth, {"model": own, **_predict_out_of_fold(target, number, asked)}
    known = trained_on.select(trained_on.known(number))
    return truth, {"model": own, **predict_baselines(target, number, known, asked)}


def _predict_out_of_fold(target: Target, number: int, measured: Measured) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for rest, held_out in _split(target, measured.values_of(number)):
        baselines = predict_baselines(target, number, measured.select(rest), measured.select(held_out))
        for name, values in baselines.items():
            rows = found.setdefault(name, [None] * len(measured))
            for row, value in zip(held_out, values, strict=True):
                rows[row] = value
    return {name: rows if target.kind == "residues" else np.array(rows) for name, rows in found.items()}


def _split(target: Target, truth: Any) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    numbers = np.arange(len(truth))[:, None]
    if target.kind == "binary":
        classes = truth.astype(int)
        return StratifiedKFold(count_folds(classes), shuffle=True, random_state=0).split(numbers, classes)
    if len(truth) < 2:
        raise InputError("one protein is too few to fit the baselines. Name other proteins by --training.")
    return KFold(min(FOLDS, len(truth)), shuffle=True, random_state=0).split(numbers)


def _describe(target: Target, truth: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    figures = {name: measure(target, truth, each) for name, each in found.items()}
    if target.margin is not None:
        figures["model"]["covered"] = _measure_coverage(target.margin, truth, found["model"])
    described = {name: to_json(each) for name, each in figures.items()}
    return {"kind": target.kind, "unit": target.unit, "proteins": len(truth), **described}


def _measure_coverage(margin: float, truth: np.ndarray, predicted: np.ndarray) -> Interval:
    """How many values are in the intervals of the predictions. Resampled, a share is binomial."""
    share = float((np.abs(truth - predicted) <= margin).mean())
    drawn = np.random.default_rng(0).binomial(len(truth), share, RESAMPLES) / len(truth)
    return Interval(share, *(float(each) for each in np.percentile(drawn, [2.5, 97.5])))
