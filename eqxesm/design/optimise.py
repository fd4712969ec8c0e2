"""Designs of a protein that are predicted to be more soluble: guided by gradients, or by chance alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from eqxesm.alphabet import FIRST_RESIDUE, STANDARD_RESIDUES, Tokenizer, pad
from eqxesm.design.constraints import Rules, mutations
from eqxesm.encoders import AbstractLanguageModel, Inputs, as_probabilities, residue_mask
from eqxesm.errors import InputError
from eqxesm.model import SolubilityModel

BATCH = 16
"""Designs that are scored at a time."""

GRID = 64
"""Tokens that a protein is padded to a multiple of."""

GRADIENT_COST = 3
"""Forward passes that a gradient counts for."""

ASCENT = 0.15
"""Share of the budget for the ascent over soft sequences."""

EVERY = 4
"""Generations after which a gradient is taken again."""

CROWD = 4
"""Guided children for each that is scored."""

CHANCE = 0.2
"""Share of the guided mutations that are by chance all the same."""

_STANDARD = slice(FIRST_RESIDUE, FIRST_RESIDUE + len(STANDARD_RESIDUES))


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
            expected = jax.nn.log_softmax(self.language_model.logits(inputs).astype(jnp.float32))
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
        self._least = least_likelihood
        # Proteins of similar length share what is compiled.
        self._length = -(-(len(self.wild_type) + 2) // GRID) * GRID
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
        weight = 0.0 if self._least is None else 1 / max(len(soft), 1)
        found = _slope(self.objective, self._place(soft), jnp.asarray(weight, jnp.float32))
        return np.asarray(found)[1 : len(soft) + 1, _STANDARD]

    def _make(self, sequence: str, whole: float, kept: float, left_out: float, likelihood: float) -> Design:
        change = likelihood - self._likelihood
        missing = 0.0 if self._least is None else max(0.0, self._least - change)
        return Design(sequence, kept - missing, whole, kept, left_out, change)

    def _run(self, sequences: Sequence[str]) -> Scores:
        tokens = [Tokenizer().encode(each) for each in sequences]
        batch = pad([*tokens, *[tokens[0]] * (BATCH - len(tokens))], self._length)
        return jax.tree.map(np.asarray, _score(self.objective, jnp.asarray(batch)))

    def _place(self, soft: Float[np.ndarray, "residues 20"]) -> Float[Array, "length vocab"]:
        wide = np.array(as_probabilities(pad([Tokenizer().encode(self.wild_type)], self._length)[0]))
        own = wide[1 : len(soft) + 1, _STANDARD]
        wide[1 : len(soft) + 1, _STANDARD] = np.where(own.any(axis=1, keepdims=True), soft, own)
        return jnp.asarray(wide)


def design_by_gradient(search: Search) -> None:
    """Ascend over soft sequences that become hard; then evolution, with mutations that gradients promise to pay."""
    _ascend(search, int(ASCENT * search.budget))
    _evolve(search, Guide(search))


def design_by_chance(search: Search) -> None:
    """Evolution, with mutations by chance, until the budget is spent."""
    _evolve(search, None)


def _ascend(search: Search, budget: int) -> None:
    rules, rng = search.rules, search.rng
    own = _columns(search.wild_type)
    hard_wild = _one_hot(own)
    theta = 2.0 * hard_wild + 0.01 * rng.standard_normal(hard_wild.shape)
    steps = max(1, budget // (GRADIENT_COST + 1))
    for step in range(steps):
        progress = step / steps
        temperature = 1.0 - 0.9 * progress
        sequence = _project(theta, search)
        soft = np.exp((theta - theta.max(axis=1, keepdims=True)) / temperature)
        soft /= soft.sum(axis=1, keepdims=True)
        soft = np.where(rules.free[:, None], soft, hard_wild)
        if sequence is not None:
            search.score([sequence])
            # Straight through: towards the end the gradient is that of the design itself.
            soft = (1 - progress) * soft + progress * _one_hot(_columns(sequence))
        slope = search.slope(soft.astype(np.float32))
        size = np.abs(slope[rules.free]).max(initial=1e-12)
        theta += (0.5 * (1 - progress) + 0.1) * slope / size
        theta += 0.05 * (1 - progress) * rng.standard_normal(theta.shape)
        if search.budget <= 0:
            return


def _project(theta: Float[np.ndarray, "residues 20"], search: Search) -> str | None:
    """The design of the largest gains within the rules."""
    rules, own = search.rules, _columns(search.wild_type)
    rows = np.arange(len(own))
    gains = np.where(rules.allowed[None], theta - theta[rows, own][:, None], -np.inf)
    gains[rows, own] = -np.inf
    gains[~rules.free] = -np.inf
    letters, best = gains.argmax(axis=1), gains.max(axis=1)
    best[rules.must_change] = np.inf
    order = np.argsort(-best)[: rules.mutations]
    sequence = list(search.wild_type)
    kept = None
    # One after another, so that one that breaks a rule is passed over.
    for number in order:
        if not np.isfinite(gains[number].max()) or (best[number] <= 0 and number not in rules.must_change):
            continue
        before = sequence[number]
        sequence[number] = STANDARD_RESIDUES[letters[number]]
        if rules.keeps("".join(sequence)):
            kept = "".join(sequence)
        elif kept is not None:
            sequence[number] = before
    return kept


def _evolve(search: Search, guide: "Guide | None") -> None:
    """The best designs exchange mutations and get new ones, drawn evenly or by what they promise."""
    search.score(list(_random_designs(search, 2 * BATCH)))
    idle = 0
    while search.budget > 0 and search.known and idle < 20:
        parents = sorted(search.known.values(), key=lambda each: -each.value)[:BATCH]
        if guide:
            guide.learn(parents)
        children: list[str] = []
        for _ in range(20 * BATCH):
            first, second = (parents[int(search.rng.integers(len(parents)))].sequence for _ in range(2))
            child = _mutate(search, _cross(search, first, second), 1, guide.promise if guide else None)
            if child is not None and child not in search.known and child not in children:
                children.append(child)
            if len(children) == BATCH * (CROWD if guide else 1):
                break
        if guide:
            children.sort(key=guide.expect, reverse=True)
        idle = 0 if children else idle + 1
        search.score(children[:BATCH])


class Guide:
    """What every substitution promises: a ridge regression of the known values on gradients and on the two residues."""

    def __init__(self, search: Search):
        self._search = search
        self._own = _columns(search.wild_type)
        self._gains = np.zeros((len(self._own), 20))
        self._generation = 0
        self.promise = self._gains

    def learn(self, parents: Sequence[Design]) -> None:
        """Learn from what is known now, and every few generations from a gradient at one of the parents."""
        if self._generation % EVERY == 0:
            columns = _columns(parents[self._generation // EVERY % len(parents)].sequence)
            slope = self._search.slope(_one_hot(columns))
            gains = slope - slope[np.arange(len(columns)), columns][:, None]
            self._gains = (self._gains + gains) / 2 if self._generation else gains
        self._generation += 1
        letters, shape = np.eye(20), (len(self._own), 20, 20)
        scale = self._gains[self._search.rules.free].std() + 1e-12
        features = np.concatenate(
            [
                (self._gains / scale)[..., None],
                np.broadcast_to(letters[None], shape),
                np.broadcast_to(-letters[self._own][:, None], shape),
            ],
            axis=-1,
        )
        known = list(self._search.known.values())
        rows = np.stack([np.sum([features[place] for place in self._places(each.sequence)], axis=0) for each in known])
        values = np.array([each.value - self._search.before.value for each in known])
        weights = np.linalg.solve(rows.T @ rows + np.eye(rows.shape[1]), rows.T @ values)
        self.promise = features @ weights

    def expect(self, sequence: str) -> float:
        """What the mutations of a design promise together."""
        return float(sum(self.promise[place] for place in self._places(sequence)))

    def _places(self, sequence: str) -> list[tuple[int, int]]:
        """Position and column of every mutation."""
        pairs = enumerate(zip(sequence, self._search.wild_type, strict=True))
        return [(number, STANDARD_RESIDUES.index(new)) for number, (new, old) in pairs if new != old]


def _random_designs(search: Search, count: int) -> Iterator[str]:
    for _ in range(20 * count):
        design = _mutate(search, search.wild_type, search.rules.mutations)
        if design is not None:
            yield design
            count -= 1
        if not count:
            return


def _cross(search: Search, first: str, second: str) -> str:
    """A random half of the mutations of two designs."""
    own = [a if search.rng.random() < 0.5 else b for a, b in zip(first, second, strict=True)]
    return "".join(own)


def _mutate(
    search: Search, sequence: str, count: int, promise: Float[np.ndarray, "residues 20"] | None = None
) -> str | None:
    """A design with other residues at some positions; None if none keeps to the rules."""
    rules, rng, wild_type = search.rules, search.rng, search.wild_type
    for _ in range(10):
        new = list(sequence)
        forced = [number for number in rules.must_change if new[number] == wild_type[number]]
        drawn = [_draw(search, None, number) for number in forced]
        for row, column in drawn + [_draw(search, promise) for _ in range(count)]:
            new[row] = STANDARD_RESIDUES[column]
        changed = [number for number, (a, b) in enumerate(zip(new, wild_type, strict=True)) if a != b]
        spare = [number for number in changed if number not in rules.must_change]
        for number in rng.permutation(spare)[: max(0, len(changed) - rules.mutations)]:
            new[number] = wild_type[number]
        if rules.keeps("".join(new)):
            return "".join(new)
    return None


def _draw(
    search: Search, promise: Float[np.ndarray, "residues 20"] | None, number: int | None = None
) -> tuple[int, int]:
    """A position, unless it is given, and a residue for it: evenly, or by what they promise."""
    rules, rng = search.rules, search.rng
    may = rules.free[:, None] & rules.allowed[None]
    if number is not None:
        may = may & (np.arange(len(may)) == number)[:, None]
    chances = may.astype(float)
    if promise is not None and rng.random() > CHANCE:
        chances = may * np.exp(np.minimum(promise / (promise[may].std() + 1e-12), 10).astype(float))
    row, column = divmod(int(rng.choice(chances.size, p=(chances / chances.sum()).ravel())), 20)
    return row, column


def choose(search: Search, count: int) -> list[Design]:
    """The best designs that differ from each other in a third of the mutations that are allowed, at least."""
    distance = -(-search.rules.mutations // 3)
    chosen: list[Design] = []
    for each in sorted(search.known.values(), key=lambda each: -each.value):
        if all(sum(1 for _ in mutations(each.sequence, other.sequence)) >= distance for other in chosen):
            chosen.append(each)
        if len(chosen) == count:
            break
    return chosen


def _columns(sequence: str) -> Int[np.ndarray, " residues"]:
    """Columns of `STANDARD_RESIDUES`; what is none has the first."""
    return np.array([max(0, STANDARD_RESIDUES.find(letter)) for letter in sequence])


def _one_hot(columns: Int[np.ndarray, " residues"]) -> Float[np.ndarray, "residues 20"]:
    return np.eye(20, dtype=np.float32)[columns]


def _spell(columns: Int[np.ndarray, " residues"], wild_type: str) -> str:
    own = _columns(wild_type)
    return "".join(
        letter if column == before else STANDARD_RESIDUES[column]
        for column, before, letter in zip(columns, own, wild_type, strict=True)
    )
