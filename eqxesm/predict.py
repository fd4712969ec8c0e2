"""Predict the proteins of a file, good and bad ones together."""

from collections.abc import Iterable
from dataclasses import dataclass

from eqxesm.data.cleaning import Cleaned
from eqxesm.data.protein import Protein
from eqxesm.errors import InputError, pluralise
from eqxesm.model import SolubilityModel


@dataclass(frozen=True)
class Prediction:
    """A row of the table that `eqxesm predict` writes. `length` is in residues as read."""

    id: str
    length: int
    probability: float | None
    soluble: bool | None
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
        place = f"{where}, record {number} ({protein.id})"
        try:
            result = model.clean(protein.sequence)
            note = "; ".join(result.notes)
        except InputError as error:
            result, note = None, f"not predicted: {error}"
            problems.append(f"{place}: {error}")
        if protein.id in first:
            repeated = f"duplicate id, first used by record {first[protein.id]}"
            note = f"{note}; {repeated}" if note else repeated
            problems.append(f"{place}: {repeated}")
        first.setdefault(protein.id, number)
        cleaned.append(result)
        notes.append(note)
    good = [result for result in cleaned if result is not None]
    if problems and (strict or not good):
        more = f" ({pluralise(len(problems) - 1, 'more problem')})" if len(problems) > 1 else ""
        raise InputError(problems[0] + more)
    tokens = [model.tokenize(result) for result in good]
    predicted = iter(model.predict_tokens(tokens, progress=progress).tolist())
    threshold = model.calibration.threshold
    return [
        _make_row(protein, None if result is None else next(predicted), threshold, note)
        for protein, result, note in zip(proteins, cleaned, notes, strict=True)
    ]


def _make_row(protein: Protein, probability: float | None, threshold: float, note: str) -> Prediction:
    length = len("".join(protein.sequence.split()).rstrip("*"))
    soluble = None if probability is None else probability >= threshold
    return Prediction(protein.id, length, probability, soluble, note)
