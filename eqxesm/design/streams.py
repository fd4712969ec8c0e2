"""Attributions, substitutions and likelihoods of block after block of records."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.stats import spearmanr

from eqxesm.alphabet import BREAK, STANDARD_RESIDUES, Tokenizer, letter_rows
from eqxesm.data.cleaning import Cleaned, Cleaning
from eqxesm.design.attribution import (
    Attribution,
    gradient_times_input,
    integrated_gradients,
    occlusion,
    pooling_weights,
)
from eqxesm.design.measured import Measured
from eqxesm.design.substitutions import (
    estimate_substitutions,
    masked_marginal,
    masked_marginal_of,
    mutate,
    score_substitutions,
    wild_type_marginal,
)
from eqxesm.design.variants import Substitution, check_variant
from eqxesm.encoders import AbstractEncoder, AbstractLanguageModel, chain_ids
from eqxesm.errors import InputError
from eqxesm.evaluation.metrics import Interval
from eqxesm.inference import Mapper
from eqxesm.loading import load_any
from eqxesm.model import SolubilityModel
from eqxesm.protein_model import ProteinModel
from eqxesm.records import Advance, Looked, Record, Worker

Row = dict[str, Any]
Variant = tuple[Substitution, ...]


METHODS: dict[str, Callable[..., Any]] = {
    "integrated_gradients": integrated_gradients,
    "gradient": gradient_times_input,
    "occlusion": occlusion,
    "pooling_weights": pooling_weights,
}


class Explainer(Worker):
    """A row for each residue of each record. `gap` is the largest one of all, `shown` the rows of the first record."""

    refusal = "not explained"

    def __init__(self, model: SolubilityModel, *, method: str = "integrated_gradients", strict: bool = False):
        super().__init__(strict=strict)
        self.model = self.weights = model
        self.gap = 0.0
        self.shown: list[Row] = []
        self._mapper = Mapper(eqx.Partial(METHODS[method], model))
        self.parameters = self._mapper.parameters

    def clean(self, sequence: str) -> Cleaned:
        return self.model.clean(sequence)

    def work(self, records: list[Record], looked: list[Looked], advance: Advance, more: bool) -> list[Row]:
        usable = self.pick_usable(records, looked)
        found = self._mapper([Tokenizer().encode_apart(each.sequence) for _, each in usable], advance, more=more)
        rows: list[Row] = []
        for (record, cleaned), attribution in zip(usable, found, strict=True):
            gap = 0.0
            if isinstance(attribution, Attribution):
                attribution, gap = attribution.values, float(attribution.gap)
            whole = record.protein.residues
            values: list[float | None] = [None] * len(whole)
            for position, (row, _) in residue_rows(cleaned).items():
                values[position - 1] = float(attribution[row])
            some = [
                {"id": record.protein.id, "position": position, "residue": letter, "attribution": value}
                for position, (letter, value) in enumerate(zip(whole, values, strict=True), 1)
            ]
            self.gap = max(self.gap, abs(gap))
            self.shown = self.shown or some
            rows += some
        return rows


MARGINALS: dict[str, Callable[..., Any]] = {"masked": masked_marginal, "wild_type": wild_type_marginal}


class Scanner(Worker):
    """A row for each substitution of each record, or for each of some variants, which may have been measured.

    `correlations` are those of exact and first-order changes, by rank, one for each record; `agreements` those of a
    record's columns with what was measured.
    """

    refusal = "not scanned"

    def __init__(
        self,
        model: SolubilityModel,
        language_model: AbstractLanguageModel | None,
        *,
        method: str = "exact",
        marginal: str = "masked",
        variants: Sequence[Variant] | None = None,
        measured: Measured | None = None,
        strict: bool = False,
    ):
        """Make one. Without a language model, no likelihoods are told."""
        super().__init__(strict=strict)
        self.model = model
        self.weights = [model, language_model]
        self.correlations: list[float] = []
        self.agreements: list[tuple[str, dict[str, Interval]]] = []
        self.measured = measured
        self.shown: list[Row] = []
        self.language_model = language_model
        self._exact, self._marginal = method == "exact", marginal
        self._variants = measured.variants if measured else variants
        self._logit, self._estimate = Mapper(model), Mapper(eqx.Partial(estimate_substitutions, model))
        self._table = self._likelihood = None
        if language_model is not None and marginal == "pseudo":
            self._likelihood = Mapper(eqx.Partial(_likelihood, language_model, one_pass=False))
        elif language_model is not None:
            self._table = Mapper(eqx.Partial(_tabulate, language_model, marginal=MARGINALS[marginal]))
        self.parameters = self._logit.parameters

    def clean(self, sequence: str) -> Cleaned:
        return self.model.clean(sequence)

    def work(self, records: list[Record], looked: list[Looked], advance: Advance, more: bool) -> list[Row]:
        del more
        rows: list[Row] = []
        for record, cleaned in self.pick_usable(records, looked):
            scan = self._scan_all if self._variants is None else self._scan_variants
            some: list[Row] = [{"id": record.protein.id, **row} for row in scan(cleaned)]
            if self.measured is not None:
                some = [{**row, "measured": float(v)} for row, v in zip(some, self.measured.values, strict=True)]
                told = [name for name in ("delta_logit", "llr") if some[0][name] is not None]
                found = {name: self.measured.compare([row[name] for row in some]) for name in told}
                self.agreements.append((record.protein.id, found))
            self.shown = self.shown or some
            rows += some
            advance(1)
        return rows

    def find_fault(self, record: Record, cleaned: Cleaned) -> str | None:
        known = residue_rows(cleaned) if self._variants else {}
        for variant in self._variants or ():
            check_variant(variant, record.protein.residues)
            for each in variant:
                if each.position not in known:
                    return f"{each}: is in what is stripped"
        return None

    def _scan_all(self, cleaned: Cleaned) -> list[Row]:
        tokens = Tokenizer().encode_apart(cleaned.sequence)
        estimated = one(self._estimate, tokens)[: len(tokens)]
        changes = estimated
        scanned = [
            (position, residue, row, column)
            for position, (row, residue) in residue_rows(cleaned).items()
            for column, letter in enumerate(STANDARD_RESIDUES)
            if letter != residue
        ]
        places = [(row, column) for _, _, row, column in scanned]
        index = tuple(np.array(places).T)
        if self._exact:
            changes = score_substitutions(self.model, tokens, self._logit)
            self.correlations.append(float(spearmanr(changes[index], estimated[index]).statistic))
        ratios = self._ratios(tokens, [[place] for place in places])
        return [
            {
                "position": position,
                "wild_type": residue,
                "mutant": STANDARD_RESIDUES[column],
                "delta_logit": float(changes[row, column]),
                "llr": ratio,
            }
            for (position, residue, row, column), ratio in zip(scanned, ratios, strict=True)
        ]

    def _scan_variants(self, cleaned: Cleaned) -> list[Row]:
        tokens, rows = Tokenizer().encode_apart(cleaned.sequence), residue_rows(cleaned)
        places = [
            [(rows[each.position][0], STANDARD_RESIDUES.index(each.mutant)) for each in variant]
            for variant in self._variants or ()
        ]
        if self._exact:
            values = np.array(self._logit([tokens, *(mutate(tokens, each) for each in places)], lambda _: None))
            changes = values[1:] - values[0]
        else:
            table = one(self._estimate, tokens)
            changes = [sum(table[place] for place in each) for each in places]
        return [
            {
                "position": ":".join(str(each.position) for each in variant),
                "wild_type": ":".join(each.wild_type for each in variant),
                "mutant": ":".join(each.mutant for each in variant),
                "delta_logit": float(change),
                "llr": ratio,
            }
            for variant, change, ratio in zip(self._variants or (), changes, self._ratios(tokens, places), strict=True)
        ]

    def _ratios(self, tokens: Int[np.ndarray, " length"], places: list[list[tuple[int, int]]]) -> list[float | None]:
        """Log-likelihood ratios of variants."""
        if self._likelihood is not None:
            mutants = [mutate(tokens, each) for each in places]
            values = np.array(self._likelihood([tokens, *mutants], lambda _: None), np.float32)
            return (values[1:] - values[0]).tolist()
        if self._table is None or self.language_model is None:
            return [None] * len(places)
        table = one(self._table, tokens)
        ratios: list[float | None] = [float(sum(table[place] for place in each)) for each in places]
        several = [number for number, each in enumerate(places) if len(each) > 1]
        if several and self._marginal == "masked":
            mutants = np.stack([mutate(tokens, places[number]) for number in several])
            found = _masked(self.language_model, tokens, mutants, chain_ids(tokens))
            for number, value in zip(several, found, strict=True):
                ratios[number] = float(value)
        return ratios


def _tabulate(
    encoder: AbstractLanguageModel, tokens: Int[Array, " length"], *, marginal: Callable[..., Any]
) -> Float[Array, "length 20"]:
    return marginal(encoder, tokens, chain_ids(tokens))


_masked = eqx.filter_jit(masked_marginal_of)


def residue_rows(cleaned: Cleaned) -> dict[int, tuple[int, str]]:
    """By the position of each residue as read: which token it is, and its letter."""
    rows = letter_rows(cleaned.sequence).tolist()
    letters = zip(cleaned.positions, rows, cleaned.sequence, strict=True)
    return {position: (row, letter) for position, row, letter in letters if letter != BREAK}


class Scorer(Worker):
    """A row with the pseudo-likelihood of each record."""

    refusal = "not scored"

    def __init__(self, encoder: AbstractLanguageModel, cleaning: Cleaning, *, one_pass: bool, strict: bool = False):
        super().__init__(strict=strict)
        self.weights = encoder
        self._cleaning = cleaning
        self._mapper = Mapper(eqx.Partial(_likelihood, encoder, one_pass=one_pass))
        self.parameters = self._mapper.parameters

    def clean(self, sequence: str) -> Cleaned:
        return self._cleaning.clean_chains(sequence)

    def work(self, records: list[Record], looked: list[Looked], advance: Advance, more: bool) -> list[Row]:
        tokens = [Tokenizer().encode_apart(cleaned.sequence) for cleaned, _ in looked if cleaned is not None]
        found = iter(self._mapper(tokens, advance, more=more))
        rows = []
        for record, (cleaned, note) in zip(records, looked, strict=True):
            value = perplexity = None
            if cleaned is not None:
                value = float(next(found))
                perplexity = float(np.exp(-value / sum(map(len, cleaned.chains))))
            rows.append({
                "id": record.protein.id, "length": record.protein.count(), "pseudo_log_likelihood": value,
                "pseudo_perplexity": perplexity, "note": note,
            })  # fmt: skip
        return rows


def _likelihood(encoder: AbstractLanguageModel, tokens: Int[Array, " length"], *, one_pass: bool) -> Float[Array, ""]:
    return encoder.pseudo_log_likelihood(tokens, chain_ids(tokens), one_pass=one_pass)


def one(mapper: Mapper, tokens: Int[np.ndarray, " length"]) -> Any:
    """What a mapper makes of one protein."""
    (found,) = mapper([tokens], lambda _: None)
    return found


def load_language_model(source: str | None) -> AbstractLanguageModel | None:
    """Load the encoder of a checkpoint of either kind, which must have a language-model head."""
    return None if source is None else require_language_model(load_any(source), source)


def require_language_model(model: ProteinModel | AbstractEncoder, source: str) -> AbstractLanguageModel:
    """What `find_language_model` finds; refuse a model of `source` that has none."""
    found = find_language_model(model)
    if found is None:
        raise InputError(f"{source}: has no language-model head. Name an ESM-C that has one.")
    return found


def find_language_model(model: ProteinModel | AbstractEncoder) -> AbstractLanguageModel | None:
    """The encoder of a model, or the encoder itself, if it has a language-model head."""
    encoder = model.encoder if isinstance(model, ProteinModel) else model
    return encoder if isinstance(encoder, AbstractLanguageModel) and encoder.lm_head is not None else None
