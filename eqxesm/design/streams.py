"""Attributions, substitutions and likelihoods of block after block of records."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.stats import spearmanr

from eqxesm.alphabet import FIRST_RESIDUE, STANDARD_RESIDUES, Tokenizer
from eqxesm.data.cleaning import Cleaned, Cleaning
from eqxesm.design.attribution import Attribution, gradient_times_input, integrated_gradients, occlusion
from eqxesm.design.substitutions import (
    estimate_substitutions,
    masked_marginal,
    masked_marginal_of,
    score_substitutions,
    wild_type_marginal,
)
from eqxesm.design.variants import Substitution, check_variant
from eqxesm.encoders import AbstractEncoder, AbstractLanguageModel
from eqxesm.errors import InputError
from eqxesm.inference import Mapper
from eqxesm.model import SolubilityModel, load_any
from eqxesm.records import Advance, Looked, Record, Worker

Row = dict[str, Any]
Variant = tuple[Substitution, ...]


class Explain(eqx.Module):
    """Attribution by some method, as a function of tokens."""

    model: SolubilityModel
    method: str = eqx.field(static=True)

    def __call__(self, tokens: Int[Array, " length"]) -> Attribution:
        if self.method == "integrated_gradients":
            return integrated_gradients(self.model, tokens)
        values = {"gradient": gradient_times_input, "occlusion": occlusion}[self.method](self.model, tokens)
        nothing = jnp.zeros((), values.dtype)
        return Attribution(values, nothing, nothing, nothing)


class Explainer(Worker):
    """A row for each residue of each record. `gap` is the largest one of all, `shown` the rows of the first record."""

    refusal = "not explained"

    def __init__(self, model: SolubilityModel, *, method: str = "integrated_gradients", strict: bool = False):
        super().__init__(strict=strict)
        self.model = model
        self.gap = 0.0
        self.shown: list[Row] = []
        self._mapper = Mapper(Explain(model, method))
        self.parameters = self._mapper.parameters

    def clean(self, sequence: str) -> Cleaned:
        return self.model.clean(sequence)

    def work(self, records: list[Record], looked: list[Looked], advance: Advance, more: bool) -> list[Row]:
        usable = self.pick_usable(records, looked)
        found = self._mapper([Tokenizer().encode(each.sequence) for _, each in usable], advance, more=more)
        rows: list[Row] = []
        for (record, cleaned), attribution in zip(usable, found, strict=True):
            own = attribution.values[1 : len(cleaned.sequence) + 1].tolist()
            whole = read_residues(record)
            values = [None] * cleaned.start + own
            values += [None] * (len(whole) - len(values))
            some = [
                {"id": record.protein.id, "position": position, "residue": letter, "attribution": value}
                for position, (letter, value) in enumerate(zip(whole, values, strict=True), 1)
            ]
            self.gap = max(self.gap, abs(float(attribution.gap)))
            self.shown = self.shown or some
            rows += some
        return rows


class Marginal(eqx.Module):
    """A table of log-likelihood ratios, as a function of tokens."""

    encoder: AbstractLanguageModel
    kind: str = eqx.field(static=True)

    def __call__(self, tokens: Int[Array, " length"]) -> Float[Array, "length 20"]:
        return {"masked": masked_marginal, "wild_type": wild_type_marginal}[self.kind](self.encoder, tokens)


class PseudoLikelihood(eqx.Module):
    """The pseudo-log-likelihood, as a function of tokens."""

    encoder: AbstractLanguageModel
    one_pass: bool = eqx.field(static=True)

    def __call__(self, tokens: Int[Array, " length"]) -> Float[Array, ""]:
        return self.encoder.pseudo_log_likelihood(tokens, one_pass=self.one_pass)


class Estimate(eqx.Module):
    """A table of first-order changes, as a function of tokens."""

    model: SolubilityModel

    def __call__(self, tokens: Int[Array, " length"]) -> Float[Array, "length 20"]:
        return estimate_substitutions(self.model, tokens)


class Scanner(Worker):
    """A row for each substitution of each record, or for each of some variants.

    `correlations` are those of exact and first-order changes, by rank, one for each record.
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
        strict: bool = False,
    ):
        """Make one. Without a language model, no likelihoods are told."""
        super().__init__(strict=strict)
        self.model = model
        self.correlations: list[float] = []
        self.shown: list[Row] = []
        self.language_model = language_model
        self._exact, self._marginal, self._variants = method == "exact", marginal, variants
        self._logit, self._estimate = Mapper(model), Mapper(Estimate(model))
        self._table = self._likelihood = None
        if language_model is not None and marginal == "pseudo":
            self._likelihood = Mapper(PseudoLikelihood(language_model, False))
        elif language_model is not None:
            self._table = Mapper(Marginal(language_model, marginal))
        self.parameters = self._logit.parameters

    def clean(self, sequence: str) -> Cleaned:
        return self.model.clean(sequence)

    def work(self, records: list[Record], looked: list[Looked], advance: Advance, more: bool) -> list[Row]:
        del more
        rows: list[Row] = []
        for record, cleaned in self.pick_usable(records, looked):
            scan = self._scan_all if self._variants is None else self._scan_variants
            some = [{"id": record.protein.id, **row} for row in scan(cleaned)]
            self.shown = self.shown or some
            rows += some
            advance(1)
        return rows

    def find_fault(self, record: Record) -> str | None:
        try:
            cleaned, whole = self.clean(record.protein.sequence), read_residues(record)
            for variant in self._variants or ():
                check_variant(variant, whole)
                for each in variant:
                    if not cleaned.start < each.position <= cleaned.start + len(cleaned.sequence):
                        raise InputError(f"{each}: is in what is stripped")
        except InputError as error:
            return str(error)
        return None

    def _scan_all(self, cleaned: Cleaned) -> list[Row]:
        tokens = Tokenizer().encode(cleaned.sequence)
        estimated = one(self._estimate, tokens)[: len(tokens)]
        changes = estimated
        places = [
            (position, column)
            for position, residue in enumerate(cleaned.sequence, 1)
            for column, letter in enumerate(STANDARD_RESIDUES)
            if letter != residue
        ]
        index = tuple(np.array(places).T)
        if self._exact:
            changes = score_substitutions(self.model, tokens, self._logit)
            self.correlations.append(float(spearmanr(changes[index], estimated[index]).statistic))
        ratios = self._ratios(tokens, [[place] for place in places])
        return [
            {
                "position": position + cleaned.start,
                "wild_type": cleaned.sequence[position - 1],
                "mutant": STANDARD_RESIDUES[column],
                "delta_logit": float(changes[position, column]),
                "llr": ratio,
            }
            for (position, column), ratio in zip(places, ratios, strict=True)
        ]

    def _scan_variants(self, cleaned: Cleaned) -> list[Row]:
        tokens = Tokenizer().encode(cleaned.sequence)
        places = [
            [(each.position - cleaned.start, STANDARD_RESIDUES.index(each.mutant)) for each in variant]
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
        ratios: list[float | None] = []
        for each in places:
            if len(each) > 1 and self._marginal == "masked":
                positions, letters = zip(*((p, FIRST_RESIDUE + column) for p, column in each), strict=True)
                ratios.append(float(masked_marginal_of(self.language_model, tokens, positions, letters)))
            else:
                ratios.append(float(sum(table[place] for place in each)))
        return ratios


class Scorer(Worker):
    """A row with the pseudo-likelihood of each record."""

    refusal = "not scored"

    def __init__(self, encoder: AbstractLanguageModel, cleaning: Cleaning, *, one_pass: bool, strict: bool = False):
        super().__init__(strict=strict)
        self.encoder = encoder
        self._cleaning = cleaning
        self._mapper = Mapper(PseudoLikelihood(encoder, one_pass))
        self.parameters = self._mapper.parameters

    def clean(self, sequence: str) -> Cleaned:
        return self._cleaning.clean(sequence)

    def work(self, records: list[Record], looked: list[Looked], advance: Advance, more: bool) -> list[Row]:
        tokens = [Tokenizer().encode(cleaned.sequence) for cleaned, _ in looked if cleaned is not None]
        found = iter(self._mapper(tokens, advance, more=more))
        rows = []
        for record, (cleaned, note) in zip(records, looked, strict=True):
            value = None if cleaned is None else float(next(found))
            perplexity = None if cleaned is None or value is None else float(np.exp(-value / len(cleaned.sequence)))
            rows.append({
                "id": record.protein.id, "length": len(read_residues(record)), "pseudo_log_likelihood": value,
                "pseudo_perplexity": perplexity, "note": note,
            })  # fmt: skip
        return rows


def mutate(tokens: Int[np.ndarray, " length"], places: Sequence[tuple[int, int]]) -> Int[np.ndarray, " length"]:
    """Tokens with a residue of some column of `STANDARD_RESIDUES` at some positions."""
    mutant = tokens.copy()
    for position, column in places:
        mutant[position] = FIRST_RESIDUE + column
    return mutant


def one(mapper: Mapper, tokens: Int[np.ndarray, " length"]) -> Any:
    """What a mapper makes of one protein."""
    (found,) = mapper([tokens], lambda _: None)
    return found


def read_residues(record: Record) -> str:
    """The residues of a record, before anything is stripped."""
    return "".join(record.protein.sequence.split()).upper().rstrip("*")


def load_language_model(source: str | None) -> AbstractLanguageModel | None:
    """Load the encoder of a checkpoint of either kind, which must have a language-model head."""
    if source is None:
        return None
    found = find_language_model(load_any(source))
    if found is None:
        raise InputError(f"{source}: has no language-model head. Name an ESM-C that has one.")
    return found


def find_language_model(model: SolubilityModel | AbstractEncoder) -> AbstractLanguageModel | None:
    """The encoder of a model, or the encoder itself, if it has a language-model head."""
    encoder = model.encoder if isinstance(model, SolubilityModel) else model
    return encoder if isinstance(encoder, AbstractLanguageModel) and encoder.lm_head is not None else None
