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
    predicted = iter(model.predict_tokens(tokens, progress=progress).tolist())
    threshold = model.calibration.threshold
    return [
        _make_row(protein, None if result is None else next(predicted), threshold, note)
        for protein, result, note in zip(proteins, cleaned, notes, strict=True)
    ]


def _clean(model: SolubilityModel, protein: Protein) -> tuple[Cleaned | None, str | None]:
    """Clean a protein, or say why it cannot be used."""
    if protein.remark and not protein.sequence:
        return None, protein.remark
    try:
        return model.clean(protein.sequence), None
    except InputError as error:
        return None, str(error)


def _make_row(protein: Protein, probability: float | None, threshold: float, note: str) -> Prediction:
    length = len("".join(protein.sequence.split()).rstrip("*"))
    soluble = None if probability is None else probability >= threshold
    return Prediction(protein.id, length, probability, soluble, note)
