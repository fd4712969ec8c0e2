"""Evaluate a model on labelled proteins: a folder of figures and pictures."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.model_selection import StratifiedKFold

from eqxesm import tables
from eqxesm.checkpoint.schema import METRICS
from eqxesm.data.tags import count
from eqxesm.errors import InputError
from eqxesm.evaluation.assessment import assess
from eqxesm.evaluation.baselines import Baselines, fit_baselines
from eqxesm.evaluation.features import is_untagged_met
from eqxesm.evaluation.folder import Kind, check_folder, write_folder
from eqxesm.evaluation.labelled import Labelled, describe_left_out, read_labelled
from eqxesm.evaluation.plots import PICTURES, draw
from eqxesm.solubility import DEFAULT, SolubilityModel

KIND = Kind("eqxesm evaluate", "metrics.json", PICTURES)
FOLDS = 5
NO_MMSEQS = "mmseqs is not installed: no figures by identity"
IN_TABLE = ("accuracy", "mcc", "auroc", "brier")


def evaluate_file(
    data: str | os.PathLike,
    out: str | os.PathLike,
    *,
    model: str | os.PathLike = DEFAULT,
    revision: str | None = None,
    training: str | os.PathLike | None = None,
    sequence_column: str = "sequence",
    label_column: str = "label",
    id_column: str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a model beside the two baselines, and write the report.

    The baselines are fitted on `training` if it is given, else taken from the model's own record,
    else fitted out of fold on the data.

    Args:
        data: labelled proteins, FASTA, CSV or TSV.
        out: the folder of the report; an earlier report there is replaced.
        model: a folder, a repository on the Hugging Face Hub, or `"default"`.
        revision: commit, tag or branch of the repository.
        training: the labelled proteins that the model was trained on.
        sequence_column: of sequences, where a file is a table.
        label_column: of labels, 1 = soluble, 0 = insoluble.
        id_column: of ids, in the data.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        What `metrics.json` holds: what was measured, on what, `assess`'s figures, and what was
        left out.

    Raises:
        InputError: a file, the model or the folder of the report will not do.
    """
    out = check_folder(out, KIND)
    columns = {"sequence_column": sequence_column, "label_column": label_column}
    proteins = read_labelled(data, id_column=id_column, **columns)
    trained_on = None if training is None else read_labelled(training, **columns)
    predictor = SolubilityModel.from_pretrained(model, revision=revision)
    recorded = None if trained_on else _recorded(predictor, model)
    proteins = proteins.accepted_by(predictor.clean)
    baselines, fitted_on = _baselines(proteins, trained_on, recorded)
    threshold = predictor.calibration.threshold
    predicted = predictor.predict(proteins.sequences, progress=progress)
    predictions = {"model": predicted, **baselines}
    identities = None if trained_on is None else _identities(proteins, trained_on)
    measured = assess(
        proteins.sequences, proteins.labels, predictions, {"model": threshold}, identities
    )
    report = {
        "data": os.fspath(data),
        "model": os.fspath(model),
        "revision": revision,
        "threshold": threshold,
        "baselines_fitted_on": fitted_on,
        **proteins.told(),
        **measured,
    }
    if trained_on is not None and identities is None:
        report["note"] = NO_MMSEQS
    write_folder(
        out,
        KIND,
        report,
        lambda folder: draw(folder, proteins.labels, predictions, threshold, report),
    )
    return report


def format_report(report: Mapping[str, Any]) -> str:
    """Lay the chief figures out for the terminal.

    Args:
        report: what `evaluate_file` gave.

    Returns:
        Lines of text: predictors by a few metrics, on all proteins and on the untagged.
    """
    rows = []
    for part in ("all", "untagged"):
        measured = report[part]
        for name in ("model", "tag_rule", "composition"):
            metrics = measured[name] or {}
            cells = {metric: _cell(metrics.get(metric)) for metric in IN_TABLE}
            rows.append(
                {
                    "proteins": f"{part} ({measured['proteins']:,})",
                    "predictor": name.replace("_", " "),
                    **cells,
                }
            )
    return tables.format_text(rows)


def describe_report(report: Mapping[str, Any]) -> list[str]:
    """Say what a reader of the figures should know.

    Args:
        report: what `evaluate_file` gave.

    Returns:
        Sentences, a line each.
    """
    lines = [f"baselines fitted on {report['baselines_fitted_on']}", *describe_left_out(report)]
    return [*lines, *filter(None, (report["untagged"].get("note"), report.get("note")))]


def _cell(interval: Mapping[str, float] | None) -> str | None:
    if interval is None:
        return None
    return f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def _recorded(model: SolubilityModel, name: object) -> Baselines | None:
    facts = model.record.facts if model.record else {}
    if "baselines" not in facts:
        return None
    return Baselines.from_plain(facts["baselines"], f"{name}: {METRICS}: baselines")


def _baselines(
    proteins: Labelled, trained_on: Labelled | None, recorded: Baselines | None
) -> tuple[dict[str, Float[np.ndarray, " _"]], str]:
    """Predict by the baselines, and say in words what they were fitted on."""
    if trained_on is not None:
        fitted = fit_baselines(trained_on.sequences, trained_on.labels)
        missing = trained_on.without_label + len(trained_on.left_out)
        words = (
            f"{trained_on.path} ({count(len(trained_on.records), 'protein')}, {missing} left out)"
        )
        return fitted.predict(proteins.sequences), words
    if recorded is not None:
        return recorded.predict(proteins.sequences), "the model's training data, by its record"
    folds = min(FOLDS, *np.bincount(proteins.labels).tolist())
    if folds < 2:
        raise InputError(
            "the model does not record its baselines, and one protein of a class is too few to fit "
            "them on the data: give --training"
        )
    return _out_of_fold(proteins, folds), f"the data itself, out of fold ({folds} folds)"


def _out_of_fold(proteins: Labelled, folds: int) -> dict[str, Float[np.ndarray, " _"]]:
    sequences, labels = proteins.sequences, proteins.labels
    strata = 2 * labels + np.array([is_untagged_met(sequence) for sequence in sequences])
    # Were the untagged not spread evenly, the folds with more soluble ones among them would be
    # predicted from those with fewer: the tag rule would rank them worse than chance.
    if np.unique(strata, return_counts=True)[1].min() < folds:
        strata = labels
    result = {name: np.empty(len(strata)) for name in ("tag_rule", "composition")}
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    for rest, held_out in splitter.split(strata[:, None], strata):
        fitted = fit_baselines([sequences[i] for i in rest], labels[rest])
        predicted = fitted.predict([sequences[i] for i in held_out])
        for name, probabilities in predicted.items():
            result[name][held_out] = probabilities
    return result


def _identities(proteins: Labelled, trained_on: Labelled) -> Float[np.ndarray, " _"] | None:
    from eqxesm.data.similarity import nearest_identity

    return nearest_identity(proteins.sequences, trained_on.sequences)
