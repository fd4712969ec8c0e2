"""Evaluate a model on labelled proteins: a folder of figures and pictures."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.model_selection import StratifiedKFold

from eqxesm import tables
from eqxesm.assay import AssayModel
from eqxesm.checkpoint.record import METRICS
from eqxesm.config import parse
from eqxesm.data.protein import Columns
from eqxesm.data.similarity import nearest_identity
from eqxesm.errors import pluralise
from eqxesm.evaluation.assess import assess
from eqxesm.evaluation.baselines import Baselines, count_folds, fit_baselines
from eqxesm.evaluation.evaluate_assay import evaluate_assay, format_assay
from eqxesm.evaluation.features import is_untagged_met
from eqxesm.evaluation.labelled import LabelledFile, format_left_out, read_labelled
from eqxesm.evaluation.metrics import format_interval
from eqxesm.evaluation.plots import PICTURES, draw_evaluation
from eqxesm.evaluation.report_folder import ReportType, check_report_folder, write_report
from eqxesm.loading import load_model
from eqxesm.model import SolubilityModel
from eqxesm.protein_model import DEFAULT

REPORT = ReportType("eqxesm evaluate", "metrics.json", PICTURES)
NO_MMSEQS = "mmseqs is not installed: no figures by identity"
TABLE_METRICS = ("accuracy", "mcc", "auroc", "brier")


def evaluate_file(
    data: str | os.PathLike,
    out: str | os.PathLike,
    columns: Columns = Columns(),
    *,
    model: str | os.PathLike = DEFAULT,
    revision: str | None = None,
    training: str | os.PathLike | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a model beside two baselines, write the report folder `out`, and return it.

    The baselines are fitted on the file `training`; else taken from the model's record; else
    fitted out of fold on the data. With `training` there are figures by identity too. Of a model of
    an assay, every target is measured: see `evaluate_assay`.
    """
    predictor = load_model(model, revision)
    if isinstance(predictor, AssayModel):
        named = {"model": os.fspath(model), "revision": revision}
        return evaluate_assay(data, out, columns, predictor, named, training, progress=progress)
    out = check_report_folder(out, REPORT)
    proteins = read_labelled(data, columns)
    # Ids are those of the data: the training file need not have that column.
    trained_on = None if training is None else read_labelled(training, replace(columns, id=None))
    recorded = None if trained_on else _recorded_baselines(predictor, model)
    proteins = proteins.accepted_by(predictor.clean)
    baselines, fitted_on = _predict_baselines(proteins, trained_on, recorded)
    threshold = predictor.calibration.threshold
    predicted = predictor.predict(proteins.sequences, progress=progress)
    predictions = {"model": predicted, **baselines}
    identities = None if trained_on is None else nearest_identity(proteins.sequences, trained_on.sequences)
    measured = assess(proteins.sequences, proteins.labels, predictions, {"model": threshold}, identities)
    report = {
        "data": os.fspath(data),
        "model": os.fspath(model),
        "revision": revision,
        "threshold": threshold,
        "baselines_fitted_on": fitted_on,
        **proteins.describe_left_out(),
        **measured,
    }
    if trained_on is not None:
        report["in_training_too"] = len(set(proteins.sequences) & set(trained_on.sequences))
        if identities is None:
            report["note"] = NO_MMSEQS
    write_report(
        out, REPORT, report, lambda folder: draw_evaluation(folder, proteins.labels, predictions, threshold, report)
    )
    return report


def format_evaluation(report: Mapping[str, Any]) -> str:
    """The main figures as a table for the terminal."""
    if "targets" in report:
        return format_assay(report)
    rows = []
    for part in ("all", "untagged"):
        measured = report[part]
        for name in ("model", "tag_rule", "composition"):
            metrics = measured[name] or {}
            cells = {metric: format_interval(metrics.get(metric)) for metric in TABLE_METRICS}
            title = f"{part} ({measured['proteins']:,})"
            rows.append({"proteins": title, "predictor": name.replace("_", " "), **cells})
    return tables.format_table(rows)


def format_remarks(report: Mapping[str, Any]) -> list[str]:
    """Lines that a reader of the figures should know."""
    lines = [f"baselines fitted on {report['baselines_fitted_on']}"]
    if "targets" in report:
        return [*lines, *report["notes"]]
    lines += format_left_out(report)
    if report.get("in_training_too"):
        lines.append(f"{pluralise(report['in_training_too'], 'protein')} of the data: in the training data too")
    return [*lines, *filter(None, (report["untagged"].get("note"), report.get("note")))]


def _recorded_baselines(model: SolubilityModel, name: object) -> Baselines | None:
    facts = model.about.record.facts if model.about.record else {}
    if "baselines" not in facts:
        return None
    return parse(Baselines, facts["baselines"], f"{name}: {METRICS}: baselines")


def _predict_baselines(
    proteins: LabelledFile, trained_on: LabelledFile | None, recorded: Baselines | None
) -> tuple[dict[str, Float[np.ndarray, " _"]], str]:
    """Probabilities of the baselines, and in words what they were fitted on."""
    if trained_on is not None:
        fitted = fit_baselines(trained_on.sequences, trained_on.labels)
        missing = trained_on.without_label + len(trained_on.left_out)
        size = pluralise(len(trained_on.proteins), "protein")
        words = f"{trained_on.path} ({size}, {missing:,} left out)"
        return fitted.predict(proteins.sequences), words
    if recorded is not None:
        return recorded.predict(proteins.sequences), "the model's training data, by its record"
    folds = count_folds(proteins.labels)
    return _predict_out_of_fold(proteins, folds), f"the data itself, out of fold ({folds} folds)"


def _predict_out_of_fold(proteins: LabelledFile, folds: int) -> dict[str, Float[np.ndarray, " _"]]:
    sequences, labels = proteins.sequences, proteins.labels
    strata = 2 * labels + np.array([is_untagged_met(sequence) for sequence in sequences])
    # Were the untagged not spread evenly, folds with more soluble ones among them would be predicted
    # from those with fewer, and the tag rule would rank them worse than chance.
    if np.unique(strata, return_counts=True)[1].min() < folds:
        strata = labels
    predicted = {name: np.empty(len(strata)) for name in ("tag_rule", "composition")}
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    for rest, held_out in splitter.split(strata[:, None], strata):
        fitted = fit_baselines([sequences[i] for i in rest], labels[rest])
        for name, each in fitted.predict([sequences[i] for i in held_out]).items():
            predicted[name][held_out] = each
    return predicted
