"""Designs for block after block of records."""

import logging
import zlib
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from eqxesm.data.cleaning import Cleaned
from eqxesm.design.constraints import Constraints, Rules
from eqxesm.design.optimise import design_by_chance, design_by_gradient
from eqxesm.design.search import Design, Objective, Search, choose
from eqxesm.design.streams import Row
from eqxesm.encoders import AbstractLanguageModel
from eqxesm.inference import Mapper
from eqxesm.model import SolubilityModel
from eqxesm.records import Advance, Looked, Record, Worker

NO_EXPERIMENT = "a model's score is no experiment. Use the designs as candidates, not as results."
"""What people must know of designs."""

METHODS = {"gradient": design_by_gradient, "evolution": design_by_chance}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Effort:
    """How designs are looked for: by which of `METHODS`, with how many forward passes, and how many are proposed."""

    method: str = "gradient"
    budget: int = 1000
    proposals: int = 10
    seed: int = 0


class Designer(Worker):
    """A row for each proposal for each record, the best first.

    `shares` are how much of the best design's gain the members see that were left out, one for each record; `shown`
    are all designs of the first record, and its proposals.
    """

    refusal = "not designed"

    def __init__(
        self,
        model: SolubilityModel,
        language_model: AbstractLanguageModel | None,
        constraints: Constraints,
        effort: Effort = Effort(),
        *,
        least_naturalness: float | None = None,
        strict: bool = False,
    ):
        super().__init__(strict=strict)
        self.model = model
        self.language_model = language_model
        self.weights = [model, language_model]
        self.shares: list[float] = []
        self.shown: tuple[Search, list[Design]] | None = None
        self.parameters = Mapper(model).parameters
        self._objective = Objective(model, language_model)
        self._constraints, self._effort, self._least = constraints, effort, least_naturalness

    def clean(self, sequence: str) -> Cleaned:
        return self.model.clean(sequence)

    def find_fault(self, record: Record, cleaned: Cleaned) -> str | None:
        self._make_rules(record, cleaned)
        return None

    def work(self, records: list[Record], looked: list[Looked], advance: Advance, more: bool) -> list[Row]:
        del more
        rows: list[Row] = []
        for record, cleaned in self.pick_usable(records, looked):
            rows += self._design(record, cleaned)
            advance(1)
        return rows

    def _make_rules(self, record: Record, cleaned: Cleaned) -> Rules:
        return Rules(self._constraints, cleaned, record.protein.residues)

    def _design(self, record: Record, cleaned: Cleaned) -> list[Row]:
        effort, rules = self._effort, self._make_rules(record, cleaned)
        # By the sequence, so that the order of the records and shards change nothing.
        rng = np.random.default_rng([effort.seed, zlib.crc32(cleaned.sequence.encode())])
        search = Search(self._objective, rules, effort.budget, rng, self._least)
        METHODS[effort.method](search)
        better = [each for each in choose(search, effort.proposals) if each.value > search.before.value]
        if not better:
            _log.warning("%s: no design within the constraints is predicted to be more soluble", record.protein.id)
            return []
        best, before = better[0], search.before
        self.shares.append((best.left_out - before.left_out) / (best.kept - before.kept))
        self.shown = self.shown or (search, better)
        return [
            {
                "id": record.protein.id,
                "rank": rank,
                "mutations": ":".join(rules.name_changes(each.sequence)),
                "sequence": rules.restore(each.sequence),
                "probability_before": self._probability(before),
                "probability_after": self._probability(each),
                "left_out_after": float(expit(each.left_out / self.model.calibration.temperature)),
                "naturalness_change": None if self.language_model is None else each.likelihood,
                "method": effort.method,
            }
            for rank, each in enumerate(better, 1)
        ]

    def _probability(self, design: Design) -> float:
        """Calibrated, by all members."""
        return float(expit(design.whole / self.model.calibration.temperature))
