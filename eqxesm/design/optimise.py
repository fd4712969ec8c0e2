"""Designs of a protein that are predicted to be more soluble: guided by gradients, or by chance alone."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.design.constraints import find_changes
from eqxesm.design.search import BATCH, GRADIENT_COST, Design, Search

ASCENT = 0.15
"""Share of the budget for the ascent over soft sequences."""

EVERY = 8
"""Generations after which a gradient is taken again."""

IDLE = 5
"""The search ends after this many generations in a row without a new design."""

CROWD = 4
"""Guided children for each that is scored."""

NATURALNESS = 0.5
"""What the likelihood counts in drawing mutations, beside the logit, where it is limited."""

CHANCE = 0.2
"""Share of the guided mutations that are by chance all the same."""


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
    while search.budget > 0 and search.known and idle < IDLE:
        parents = sorted(search.known.values(), key=lambda each: -each.value)[:BATCH]
        if guide:
            guide.learn(parents)
        children: list[str] = []
        for _ in range(20 * BATCH):
            first, second = (parents[int(search.rng.integers(len(parents)))].sequence for _ in range(2))
            child = _mutate(search, _cross(search, first, second), 1, guide)
            if child is not None and child not in search.known and child not in children:
                children.append(child)
            if len(children) == BATCH * (CROWD if guide else 1):
                break
        if guide:
            children.sort(key=guide.expect, reverse=True)
        idle = 0 if children else idle + 1
        search.score(children[:BATCH])


class Guide:
    """What every substitution promises, in the logit and in the log-likelihood.

    A kernel ridge regression on the designs that are known. What it knows of a substitution is a gradient, the two
    residues, and the place itself.
    """

    def __init__(self, search: Search):
        self._search = search
        self._own = _columns(search.wild_type)
        self._gains = np.zeros((len(self._own), 20))
        self._generation = 0
        self.promise, self.chances = np.zeros((len(self._own), 20, 2)), self._gains

    def learn(self, parents: Sequence[Design]) -> None:
        """Learn from what is known now, and every few generations from a gradient at one of the parents."""
        if self._generation % EVERY == 0:
            self._take_gradient(parents[self._generation // EVERY % len(parents)].sequence)
        self._generation += 1
        features = self._describe()
        known = list(self._search.known.values())
        has = np.zeros((len(known), len(features)))
        for row, design in zip(has, known, strict=True):
            row[[20 * number + column for number, column in self._places(design.sequence)]] = 1
        rows = has @ features
        values = np.array([[each.kept - self._search.before.kept, each.likelihood] for each in known])
        scale = values.std(axis=0) + 1e-12
        weights = np.linalg.solve(rows @ rows.T + has @ has.T + np.eye(len(known)), values / scale)
        promise = (features @ (rows.T @ weights) + has.T @ weights) * scale
        self.promise = promise.reshape(*self._gains.shape, 2)
        may = self._search.rules.free[:, None] & self._search.rules.allowed[None]
        parts = self.promise / (self.promise[may].std(axis=0) + 1e-12)
        natural = 0.0 if self._search.least is None else NATURALNESS
        self.chances = may * np.exp(np.clip(parts[..., 0] + natural * parts[..., 1], -10, 10))

    def expect(self, sequence: str) -> float:
        """The value that the mutations of a design promise together, less that of the wild type."""
        gain, likelihood = np.sum([self.promise[place] for place in self._places(sequence)], axis=0)
        return self._search.judge(float(gain), float(likelihood))

    def _take_gradient(self, sequence: str) -> None:
        columns = _columns(sequence)
        slope = self._search.slope(_one_hot(columns))
        gains = slope - slope[np.arange(len(columns)), columns][:, None]
        self._gains = (self._gains + gains) / 2 if self._generation else gains

    def _describe(self) -> Float[np.ndarray, "substitutions features"]:
        """What is known of every substitution but its place."""
        letters, shape = np.eye(20), (len(self._own), 20, 20)
        gains = self._gains / (self._gains[self._search.rules.free].std() + 1e-12)
        new, old = np.broadcast_to(letters[None], shape), np.broadcast_to(-letters[self._own][:, None], shape)
        return np.concatenate([gains[..., None], new, old], axis=-1).reshape(gains.size, -1)

    def _places(self, sequence: str) -> list[tuple[int, int]]:
        """Position and column of every mutation."""
        changed = find_changes(self._search.wild_type, sequence)
        return [(number, STANDARD_RESIDUES.index(sequence[number])) for number in changed]


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


def _mutate(search: Search, sequence: str, count: int, guide: "Guide | None" = None) -> str | None:
    """A design with other residues at some positions; None if none keeps to the rules."""
    rules, rng, wild_type = search.rules, search.rng, search.wild_type
    even = rules.free[:, None] & rules.allowed[None]
    for _ in range(10):
        new = list(sequence)
        forced = [number for number in rules.must_change if new[number] == wild_type[number]]
        drawn = [_draw(search, even & (np.arange(len(even)) == number)[:, None]) for number in forced]
        for _ in range(count):
            guided = guide is not None and rng.random() > CHANCE
            drawn.append(_draw(search, guide.chances if guide and guided else even))
        for row, column in drawn:
            new[row] = STANDARD_RESIDUES[column]
        changed = find_changes(wild_type, "".join(new))
        spare = [number for number in changed if number not in rules.must_change]
        for number in rng.permutation(spare)[: max(0, len(changed) - rules.mutations)]:
            new[number] = wild_type[number]
        if rules.keeps("".join(new)):
            return "".join(new)
    return None


def _draw(search: Search, chances: Shaped[np.ndarray, "residues 20"]) -> tuple[int, int]:
    """A position and a residue for it, by their relative chances."""
    shares = (chances / chances.sum()).ravel()
    return divmod(int(search.rng.choice(shares.size, p=shares)), 20)


def _columns(sequence: str) -> Int[np.ndarray, " residues"]:
    """Columns of `STANDARD_RESIDUES`; 0 for a letter that is not one of them."""
    return np.array([max(0, STANDARD_RESIDUES.find(letter)) for letter in sequence])


def _one_hot(columns: Int[np.ndarray, " residues"]) -> Float[np.ndarray, "residues 20"]:
    return np.eye(20, dtype=np.float32)[columns]
