"""Predict the proteins of a file, good and bad ones together."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from eqxesm.data.cleaning import Cleaned
from eqxesm.data.protein import Protein
from eqxesm.domain import UNLIKE
from eqxesm.errors import InputError, pluralise
from eqxesm.forms import Calibration
from eqxesm.model import SolubilityModel


@dataclass(frozen=True)
class Prediction:
    """A row of the table that `eqxesm predict` writes. `length` is in residues as read.

    `interval_low` and `interval_high` are the ends of the interval around the probability, if the model has one (see
    `Calibration`).
    """

    id: str
    length: int
    probability: float | None
    soluble: bool | None
    interval_low: float | None
    interval_high: float | None
    note: str


def predict_proteins(
    model: SolubilityModel, proteins: Iterable[Protein], where: str, *, strict: bool = False, progress: bool = False
) -> list[Prediction]:
    """Predict proteins; one that cannot be used gets a note, or with `strict` refuses all."""
    proteins = list(proteins)
    cleaned: list[Cleaned | None] = []
    notes: list[str] = []
    problems: list[str] = []
    first: dict[str, int] = {}
    for number, protein in enumerate(proteins, 1):
        result, reason = _clean(model, protein)
        repeated = f"duplicate id, first used by record {first[protein.id]}" if protein.id in first else None
        first.setdefault(protein.id, number)
        remark = protein.remark if result else None
        found = [each for each in (reason, remark, repeated) if each]
        problems += [f"{where}, record {number} ({protein.id}): {each}" for each in found]
        cleaned.append(result)
        start = [f"not predicted: {found.pop(0)}"] if result is None else result.notes
        notes.append("; ".join([*start, *found]))
    good = [result for result in cleaned if result is not None]
    if problems and (strict or not good):
        more = f" ({pluralise(len(problems) - 1, 'more problem')})" if len(problems) > 1 else ""
        raise InputError(problems[0] + more)
    tokens = [model.tokenize(result) for result in good]
    predicted = zip(*model.predict_with_distance(tokens, progress=progress), strict=True)
    calibration, limit = model.calibration, np.inf if model.domain is None else float(model.domain.limit)
    rows = []
    for protein, result, note in zip(proteins, cleaned, notes, strict=True):
        probability = None
        if result is not None:
            probability, distance = map(float, next(predicted))
            note = "; ".join(filter(None, [note, UNLIKE if distance > limit else ""]))
        rows.append(_make_row(protein, probability, calibration, note))
    return rows


def _clean(model: SolubilityModel, protein: Protein) -> tuple[Cleaned | None, str | None]:
    """Clean a protein, or say why it cannot be used."""
    if protein.remark and not protein.sequence:
        return None, protein.remark
    try:
        return model.clean(protein.sequence), None
    except InputError as error:
        return None, str(error)


def _make_row(protein: Protein, probability: float | None, calibration: Calibration, note: str) -> Prediction:
    length = len("".join(protein.sequence.split()).rstrip("*"))
    if probability is None:
        return Prediction(protein.id, length, None, None, None, None, note)
    low, high = calibration.interval(probability) or (None, None)
    return Prediction(protein.id, length, probability, probability >= calibration.threshold, low, high, note)
