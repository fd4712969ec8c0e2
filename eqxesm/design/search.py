"""What is known of the designs of a protein: scores by exact forward passes, and gradients, within a budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from eqxesm.alphabet import STANDARD, Tokenizer, letter_rows, pad
from eqxesm.design.constraints import Rules, find_changes
from eqxesm.encoders import AbstractLanguageModel, Inputs, as_probabilities, chain_ids, residue_mask
from eqxesm.errors import InputError
from eqxesm.model import SolubilityModel

BATCH = 16
"""Designs that are scored at a time."""

GRID = 64
"""Tokens that a protein is padded to a multiple of."""

GRADIENT_COST = 3
"""Forward passes that a gradient counts for."""


class Scores(NamedTuple):
    """Logits by all members, by those that are optimised and those left out; the pseudo-log-likelihood in one pass."""

    whole: Float[Array, ""]
    kept: Float[Array, ""]
    left_out: Float[Array, ""]
    likelihood: Float[Array, ""]


class Objective(eqx.Module):
    """Scores of a protein, soft or not. Every fourth member of the model is left out of the optimisation."""

    model: SolubilityModel
    language_model: AbstractLanguageModel | None

    def __call__(self, inputs: Inputs) -> Scores:
        logits = self.model.member_logits(inputs)
        kept, out = split_members(len(logits))
        likelihood = jnp.zeros(())
        if self.language_model is not None:
            expected = self.language_model.log_probabilities(inputs, chain_ids(inputs))
            likelihood = jnp.where(residue_mask(inputs)[:, None], as_probabilities(inputs) * expected, 0).sum()
        return Scores(logits.mean(), logits[kept].mean(), logits[out].mean(), likelihood)


def split_members(count: int) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, " out"]]:
    """Members that are optimised, and those that are left out: one of four; of one member, the same."""
    numbers = np.arange(count)
    if count < 2:
        return numbers, numbers
    out = numbers % 4 == 3 if count >= 4 else numbers == count - 1
    return numbers[~out], numbers[out]


@dataclass(frozen=True)
class Design:
    """A sequence with its `Scores`; `likelihood` is the change of it, and `value` what is optimised."""

    sequence: str
    value: float
    whole: float
    kept: float
    left_out: float
    likelihood: float


@eqx.filter_jit
def _score(objective: Objective, tokens: Int[Array, "batch length"]) -> Scores:
    return jax.vmap(objective)(tokens)


@eqx.filter_jit
def _slope(objective: Objective, soft: Float[Array, "length vocab"], weight: Array) -> Float[Array, "length vocab"]:
    def value(soft: Float[Array, "length vocab"]) -> Float[Array, ""]:
        scores = objective(soft)
        return scores.kept + weight * scores.likelihood

    return jax.grad(value)(soft)


class Search:
    """What is known of the designs of one protein, and how much of the budget of forward passes is left.

    With `least_likelihood`, a design whose log-likelihood changes by less than that counts as worse by what is missing.
    """

    def __init__(
        self, objective: Objective, rules: Rules, budget: int, rng: np.random.Generator, least_likelihood: float | None
    ):
        if least_likelihood is not None and objective.language_model is None:
            raise InputError("naturalness needs a language model. Name an ESM-C with --language-model.")
        self.objective, self.rules, self.budget, self.rng = objective, rules, budget, rng
        self.wild_type = rules.wild_type
        self.least = least_likelihood
        # Proteins of similar length share what is compiled.
        self._tokens = Tokenizer().encode_apart(self.wild_type)
        self._rows = letter_rows(self.wild_type)
        self._length = -(-len(self._tokens) // GRID) * GRID
        self.known: dict[str, Design] = {}
        scores = self._run([self.wild_type])
        self._likelihood = float(scores.likelihood[0])
        self.before = self._make(self.wild_type, *(float(each[0]) for each in scores))

    def score(self, sequences: Sequence[str]) -> list[Design]:
        """Score designs that are not known yet, as far as the budget goes; returns those that are known then."""
        new = [each for each in dict.fromkeys(sequences) if each not in self.known and each != self.wild_type]
        new = new[: max(0, self.budget)]
        self.budget -= len(new)
        for start in range(0, len(new), BATCH):
            some = new[start : start + BATCH]
            for sequence, *scores in zip(some, *self._run(some), strict=False):
                self.known[sequence] = self._make(sequence, *map(float, scores))
        return [self.known[each] for each in sequences if each in self.known]

    def slope(self, soft: Float[np.ndarray, "residues 20"]) -> Float[np.ndarray, "residues 20"]:
        """The gradient of the value with respect to a soft sequence."""
        self.budget -= GRADIENT_COST
        weight = 0.0 if self.least is None else 1 / max(len(soft), 1)
        found = _slope(self.objective, self._place(soft), jnp.asarray(weight, jnp.float32))
        return np.asarray(found)[self._rows, STANDARD]

    def _make(self, sequence: str, whole: float, kept: float, left_out: float, likelihood: float) -> Design:
        change = likelihood - self._likelihood
        return Design(sequence, self.judge(kept, change), whole, kept, left_out, change)

    def judge(self, kept: float, likelihood: float) -> float:
        """What is optimised: the logit, less what is missing of the least change of the log-likelihood."""
        return kept - (0.0 if self.least is None else max(0.0, self.least - likelihood))

    def _run(self, sequences: Sequence[str]) -> Scores:
        tokens = [Tokenizer().encode_apart(each) for each in sequences]
        batch = pad([*tokens, *[tokens[0]] * (BATCH - len(tokens))], self._length)
        return jax.tree.map(np.asarray, _score(self.objective, jnp.asarray(batch)))

    def _place(self, soft: Float[np.ndarray, "residues 20"]) -> Float[Array, "length vocab"]:
        wide = np.array(as_probabilities(pad([self._tokens], self._length)[0]))
        own = wide[self._rows, STANDARD]
        wide[self._rows, STANDARD] = np.where(own.any(axis=1, keepdims=True), soft, own)
        return jnp.asarray(wide)


def choose(search: Search, count: int) -> list[Design]:
    """The best designs that differ from each other in a third of the mutations that are allowed, at least."""
    distance = -(-search.rules.mutations // 3)
    chosen: list[Design] = []
    for each in sorted(search.known.values(), key=lambda each: -each.value):
        if all(len(find_changes(each.sequence, other.sequence)) >= distance for other in chosen):
            chosen.append(each)
        if len(chosen) == count:
            break
    return chosen
