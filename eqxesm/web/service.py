"""A model that answers request after request, in shapes that are compiled once."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.assay import AssayModel
from eqxesm.data.protein import Protein
from eqxesm.design.constraints import Constraints, parse_positions
from eqxesm.design.designs import Designer, Effort
from eqxesm.design.streams import Explainer, Scanner, find_language_model
from eqxesm.errors import InputError
from eqxesm.model import SolubilityModel
from eqxesm.predict import as_rows, make_predictor
from eqxesm.records import Block, Record, Worker, place_records
from eqxesm.web.inputs import check_setting, read_one, read_records

LENGTHS = (128, 256, 512, 1024, 2048)
"""Tokens that proteins are padded to where they are predicted, if the model accepts as many."""

ONE_LENGTHS = (256, 512, 1024)
"""And where one is explained or scanned, which takes longer to compile."""

MAX_MUTATIONS = 10
PROPOSALS = 5

MOST_PASSES, FEWEST_PASSES = 400, 64
DESIGN_RESIDUES = 60_000
"""Forward passes times residues that a design may take, so that it answers in a minute."""

Row = dict[str, Any]


class Service:
    """What the page asks of a model. A model of an assay predicts, and does nothing else."""

    def __init__(self, model: SolubilityModel | AssayModel):
        self.model = model
        # One protein at a time, so that there is one shape for each length.
        self._predictor = make_predictor(model, windows=False, strict=False, tokens_per_batch=1)
        self.solubility = model if isinstance(model, SolubilityModel) else None
        self.has_language_model = False
        if isinstance(model, SolubilityModel):
            self._language_model = find_language_model(model)
            self.has_language_model = self._language_model is not None
            self._explainer = Explainer(model)
            self._scanner = Scanner(model, self._language_model, method="gradient", marginal="wild_type")

    def programs(self) -> list[tuple[Worker, int]]:
        """What is compiled before the first request: workers, and the tokens of a protein."""
        most = int(self.model.max_residues) + 2
        programs: list[tuple[Worker, int]] = [(self._predictor, each) for each in _within(LENGTHS, most)]
        if self.solubility:
            programs += [(w, each) for each in _within(ONE_LENGTHS, most) for w in (self._explainer, self._scanner)]
        return programs

    def warm(self, advance: Callable[[int], Any]) -> None:
        """Compile all `programs`. `advance` is told of each."""
        for worker, length in self.programs():
            self._run(worker, [_example(length)], more=True)
            advance(1)

    def predict(self, text: str) -> list[Row]:
        """A row for each protein of a text, as `eqxesm predict` writes it."""
        return as_rows(self._run(self._predictor, read_records(text), more=True))

    def explain(self, text: str) -> list[Row]:
        """A row for each residue of one protein, as `eqxesm explain` writes it."""
        return self._run(self._explainer, [read_one(text)])

    def scan(self, text: str) -> list[Row]:
        """A row for each substitution of one protein, as `eqxesm scan --method gradient` writes it."""
        return self._run(self._scanner, [read_one(text)])

    def design(self, text: str, mutations: int | float, fixed: str, forbidden: str) -> list[Row]:
        """A row for each proposal for one protein, as `eqxesm design` writes it."""
        if mutations not in range(1, MAX_MUTATIONS + 1):
            raise InputError(f"mutations are {mutations}, expected 1 to {MAX_MUTATIONS}")
        fixed, forbidden = check_setting("fixed positions", fixed), check_setting("forbidden residues", forbidden)
        letters = "".join(forbidden.replace(",", " ").split()).upper()
        if unknown := sorted(set(letters) - set(STANDARD_RESIDUES)):
            raise InputError(f"forbidden residues: {unknown[0]!r} is no standard residue, expected such as CM")
        positions = frozenset(parse_positions(fixed)) if fixed else frozenset()
        record = read_one(text)
        passes = DESIGN_RESIDUES // max(1, len(record.protein.residues))
        effort = Effort(budget=min(MOST_PASSES, max(FEWEST_PASSES, passes)), proposals=PROPOSALS)
        constraints = Constraints(int(mutations), positions, letters)
        assert self.solubility is not None, "the page of an assay has no designs"
        designer = Designer(self.solubility, self._language_model, constraints, effort)
        return self._run(designer, [record])

    def _run(self, worker: Worker, records: Sequence[Record], *, more: bool = False) -> Any:
        # A copy counts for itself, and shares what is compiled. `more` keeps a bad record from refusing all.
        return copy.copy(worker)(Block(0, list(records), more), lambda _: None)


def _within(lengths: Sequence[int], most: int) -> list[int]:
    """Lengths up to the longest that a model accepts."""
    return [each for each in lengths if each <= most] or [most]


def _example(length: int) -> Record:
    """A protein of as many tokens."""
    sequence = (STANDARD_RESIDUES * length)[: length - 2]
    (record,) = place_records([("warming", [Protein("warming", sequence)])])
    return record
