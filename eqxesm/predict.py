"""Predict the proteins of a file, good and bad ones together."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eqxesm.alphabet import BREAK, Tokenizer
from eqxesm.assay import AssayModel
from eqxesm.data.cleaning import Cleaned
from eqxesm.data.protein import Protein
from eqxesm.data.windows import cut_windows
from eqxesm.domain import UNLIKE
from eqxesm.errors import InputError
from eqxesm.forms import Calibration
from eqxesm.inference import Mapper
from eqxesm.model import SolubilityModel
from eqxesm.records import Advance, Looked, Record, Worker

NOT_PREDICTED = "not predicted"

WEAK = "the default model is a weak baseline. Use it to rank many candidates, not to judge one."
"""What people must know of the model inside the package."""


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


class Predictor(Worker):
    """Predicts the solubility of block after block of records: a row for each."""

    refusal = NOT_PREDICTED

    def __init__(
        self,
        model: SolubilityModel,
        *,
        windows: bool = False,
        strict: bool = False,
        tokens_per_batch: int | None = None,
    ):
        """Make one. With `windows`, proteins longer than the model accepts are predicted window by window."""
        super().__init__(strict=strict)
        self.model = self.weights = model
        self._longest = model.limits.max_residues
        self._windows = windows
        self._mapper = Mapper(model.probability_and_distance, tokens_per_batch)
        self.parameters = self._mapper.parameters

    def clean(self, sequence: str) -> Cleaned:
        cleaned = self.model.cleaning.clean_chains(sequence)
        windows = _cut(cleaned.sequence, self._longest)
        if self._windows and len(windows) > 1:
            note = f"mean of {len(windows)} overlapping windows of {self._longest:,} residues"
            return cleaned.add(note)
        return self.model.judge(cleaned)

    def work(self, records: list[Record], looked: list[Looked], advance: Advance, more: bool) -> list[Prediction]:
        sequences = [cleaned.sequence for cleaned, _ in looked if cleaned is not None]
        windows = [_cut(each, self._longest) for each in sequences]
        tokens = [Tokenizer().encode_apart(each) for own in windows for each in own]
        found = self.model.predict_with_distance(tokens, self._mapper, advance, more=more)
        starts = np.cumsum([0, *map(len, windows)])[:-1]
        counts = np.array([len(own) for own in windows], np.float32)
        means = (np.add.reduceat(each, starts) / counts if len(starts) else each for each in found)
        predicted = zip(*means, strict=True)
        calibration, domain = self.model.calibration, self.model.domain
        limit = np.inf if domain is None else float(domain.limit)
        rows = []
        for record, (cleaned, note) in zip(records, looked, strict=True):
            probability = None
            if cleaned is not None:
                probability, distance = map(float, next(predicted))
                note = "; ".join(filter(None, [note, UNLIKE if distance > limit else ""]))
            rows.append(_make_row(record.protein, probability, calibration, note))
        return rows


class AssayPredictor(Worker):
    """Predicts what an assay would measure, of block after block of records: a row for each.

    A row is a dict of `id`, `length`, the columns of every target (see `Target.columns`) and `note`.
    """

    refusal = NOT_PREDICTED

    def __init__(self, model: AssayModel, *, strict: bool = False, tokens_per_batch: int | None = None):
        super().__init__(strict=strict)
        self.model = self.weights = model
        self._mapper = Mapper(model.quantities, tokens_per_batch)
        self.parameters = self._mapper.parameters

    def clean(self, sequence: str) -> Cleaned:
        return self.model.clean(sequence)

    def work(self, records: list[Record], looked: list[Looked], advance: Advance, more: bool) -> list[dict[str, Any]]:
        tokens = [self.model.tokenize(cleaned) for cleaned, _ in looked if cleaned is not None]
        found = self.model.predict_with(tokens, self._mapper, advance, more) if tokens else {}
        number, rows = 0, []
        for record, (cleaned, note) in zip(records, looked, strict=True):
            row: dict[str, Any] = {"id": record.protein.id, "length": record.protein.count()}
            for target in self.model.targets:
                columns = target.columns()
                cells = [None] * len(columns) if cleaned is None else target.cells(found[target.name][number])
                row |= dict(zip(columns, cells, strict=True))
            number += cleaned is not None
            rows.append({**row, "note": note})
        return rows


def make_predictor(
    model: SolubilityModel | AssayModel, *, windows: bool, strict: bool, tokens_per_batch: int | None = None
) -> Predictor | AssayPredictor:
    """What predicts by a model of either kind."""
    if isinstance(model, SolubilityModel):
        return Predictor(model, windows=windows, strict=strict, tokens_per_batch=tokens_per_batch)
    if windows:
        raise InputError("--windows is for models of solubility. Leave it out.")
    return AssayPredictor(model, strict=strict, tokens_per_batch=tokens_per_batch)


def as_rows(predictions: Sequence[Prediction] | Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Predictions by a model of either kind as rows of a table."""
    return [each if isinstance(each, dict) else asdict(each) for each in predictions]


def _cut(sequence: str, longest: int) -> list[str]:
    """The sequence; if it is too long, overlapping windows of every chain."""
    if len(sequence) <= longest:
        return [sequence]
    return [chain[window] for chain in sequence.split(BREAK) for window in cut_windows(len(chain), longest)]


def _make_row(protein: Protein, probability: float | None, calibration: Calibration, note: str) -> Prediction:
    length = protein.count()
    if probability is None:
        return Prediction(protein.id, length, None, None, None, None, note)
    low, high = calibration.interval(probability) or (None, None)
    return Prediction(protein.id, length, probability, probability >= calibration.threshold, low, high, note)
