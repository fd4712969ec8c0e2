"""Predict a file's worth of records, good and bad ones together."""

from collections.abc import Sequence
from dataclasses import dataclass

from eqxesm.data.cleaning import Cleaned
from eqxesm.data.records import Record
from eqxesm.data.tags import count
from eqxesm.errors import InputError
from eqxesm.solubility import SolubilityModel


@dataclass(frozen=True)
class Prediction:
    """A row of the table that `eqxesm predict` gives.

    Attributes:
        id: of the record.
        length: letters of the sequence as it was read, a trailing `*` not counted.
        probability: calibrated probability of being soluble, None if it was not predicted.
        soluble: whether the probability reaches the model's threshold.
        note: what was changed in the sequence, or why it was not predicted.
    """

    id: str
    length: int
    probability: float | None
    soluble: bool | None
    note: str


def predict_records(
    model: SolubilityModel,
    records: Sequence[Record],
    where: str,
    *,
    strict: bool = False,
    progress: bool = False,
) -> list[Prediction]:
    """Predict records one by one, so that a bad one does not spoil the others.

    Args:
        model: the model.
        records: proteins as they were read.
        where: what to call their file in an error.
        strict: refuse them all if one is bad or an id comes twice.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        A prediction per record, in their order.

    Raises:
        InputError: no record can be predicted; or, with `strict`, one of them cannot.
    """
    cleaned: list[Cleaned | None] = []
    notes: list[str] = []
    problems: list[str] = []
    first: dict[str, int] = {}
    for number, record in enumerate(records, 1):
        place = f"{where}: record {number} ({record.id})"
        try:
            result = model.clean(record.sequence)
            note = "; ".join(result.notes)
        except InputError as error:
            result, note = None, f"not predicted: {error}"
            problems.append(f"{place}: {error}")
        if record.id in first:
            repeated = f"duplicate id, first of record {first[record.id]}: give each its own"
            note = f"{note}; {repeated}" if note else repeated
            problems.append(f"{place}: {repeated}")
        first.setdefault(record.id, number)
        cleaned.append(result)
        notes.append(note)
    good = [result for result in cleaned if result is not None]
    if problems and (strict or not good):
        others = f" (and {count(len(problems) - 1, 'more problem')})" if len(problems) > 1 else ""
        raise InputError(problems[0] + others)
    tokens = [model.tokenize(result) for result in good]
    predicted = iter(model.predict_tokens(tokens, progress=progress).tolist())
    return [
        _row(record, None if result is None else next(predicted), note, model)
        for record, result, note in zip(records, cleaned, notes, strict=True)
    ]


def _row(
    record: Record, probability: float | None, note: str, model: SolubilityModel
) -> Prediction:
    length = len("".join(record.sequence.split()).rstrip("*"))
    if probability is None:
        return Prediction(record.id, length, None, None, note)
    soluble = probability >= model.calibration.threshold
    return Prediction(record.id, length, probability, soluble, note)
