"""From the tables of an assay to splits with a value of every target."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from eqxesm.alphabet import CONTEXT_RESIDUES, Tokenizer
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.clusters import cluster
from eqxesm.data.labels import normalise_label
from eqxesm.data.sources import Source, open_source
from eqxesm.errors import InputError, at, pluralise
from eqxesm.sequences import is_missing
from eqxesm.targets import UNKNOWN, Target
from eqxesm.training.assay_kinds import Row, choose_target, could_be_classes, to_number
from eqxesm.training.assay_recipe import AssayRecipe
from eqxesm.training.examples import Examples

FEWEST = 10
"""Proteins that a split to hold out from needs."""


@dataclass(frozen=True)
class Measured:
    """Proteins with their values: float32, NaN where unknown; of residues the classes of each."""

    ids: list[str]
    published: list[str]
    sequences: list[str]
    values: Float[np.ndarray, "n targets"] | list[Float[np.ndarray, " _"]]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def per_residue(self) -> bool:
        return isinstance(self.values, list)

    def select(self, chosen: Int[np.ndarray, " _"] | Bool[np.ndarray, " _"]) -> "Measured":
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        values = [self.values[row] for row in rows] if isinstance(self.values, list) else self.values[rows]
        texts = ([each[row] for row in rows] for each in (self.ids, self.published, self.sequences))
        return Measured(*texts, values)

    def examples(self) -> Examples:
        """What the training loop reads."""
        tokens = [Tokenizer().encode(sequence) for sequence in self.sequences]
        values = self.values
        if isinstance(values, list):
            longest = max(map(len, tokens))
            # <cls> comes before the first residue.
            rows = [np.pad(each, (1, longest - 1 - len(each)), constant_values=np.nan) for each in values]
            values = np.stack(rows)[..., None]
        return Examples(tokens, values, self.ids)

    def known(self, number: int) -> Any:
        """Rows with a value of a target, by number."""
        return np.arange(len(self)) if self.per_residue else np.flatnonzero(~np.isnan(self.values[:, number]))  # ty: ignore[invalid-argument-type]


@dataclass(frozen=True)
class AssaySplits:
    """What to train on, to stop by and to test on; and what was done to get there."""

    targets: tuple[Target, ...]
    training: Measured
    validation: Measured
    tests: dict[str, Measured]
    notes: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """SHA-256 of all proteins and values."""
        digest = hashlib.sha256()
        for name, split in {"training": self.training, "validation": self.validation, **self.tests}.items():
            digest.update(f"{name}\n{len(split)}\n".encode())
            for sequence, values in zip(split.sequences, split.values, strict=True):
                digest.update(sequence.encode() + np.asarray(values, np.float32).tobytes())
        return digest.hexdigest()


def load_assay(recipe: AssayRecipe) -> AssaySplits:
    """Read what a recipe trains on, stops by and tests on."""
    data, notes = recipe.data, []
    training = _read("training", data.training, recipe, notes)
    validation = _read("validation", data.validation, recipe, notes)
    tests = {source.title: _read("test", [source], recipe, notes) for source in data.test}
    everything = [*training, *validation, *(row for rows in tests.values() for row in rows)]
    targets = tuple(choose_target(config, n, everything) for n, config in enumerate(recipe.targets))
    notes += (
        f"target {each.name}: read as numbers, though there are few different ones; set its kind to classes "
        "if they are names"
        for n, each in enumerate(targets)
        if could_be_classes(recipe.targets[n], n, each, everything)
    )
    convert = _Converter(targets, notes)
    train = convert("training", training)
    held_out = {"validation": convert("validation", validation), **{n: convert(n, rows) for n, rows in tests.items()}}
    train = _leave_out_shared(train, held_out, notes)
    if not validation or not tests:
        train, parts = _hold_out(recipe, train, not validation, not tests, notes)
        held_out |= parts
    splits = AssaySplits(targets, train, held_out.pop("validation"), held_out, notes)
    _check(splits)
    return replace(splits, targets=tuple(_fit_target(target, n, train) for n, target in enumerate(targets)))


def _read(split: str, sources: Iterable[Source], recipe: AssayRecipe, notes: list[str]) -> list[Row]:
    columns = [target.column for target in recipe.targets]
    rows, unusable = [], []
    for number, source in enumerate(sources):
        with at(f"data.{split}.{number}"):
            for protein in open_source(source, recipe.root, columns):
                try:
                    published = Cleaning().clean(protein.sequence).sequence
                    sequence = recipe.model.cleaning.clean(protein.sequence).sequence
                    if len(sequence) > CONTEXT_RESIDUES:
                        raise InputError(f"{len(sequence):,} residues, more than {CONTEXT_RESIDUES:,}")
                except InputError as error:
                    unusable.append(f"{protein.id}: {error}")
                    continue
                rows.append(Row(protein.id, published, sequence, protein.values))
    if unusable:
        notes.append(f"{split}: {pluralise(len(unusable), 'protein')} left out, first {unusable[0]}")
    return rows


@dataclass(frozen=True)
class _Converter:
    """Makes values of texts, and one protein of those with the same sequence."""

    targets: tuple[Target, ...]
    notes: list[str]

    def __call__(self, name: str, rows: Sequence[Row]) -> Measured:
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(row.sequence, []).append(row)
        firsts = [group[0] for group in groups.values()]
        per_residue = self.targets[0].kind == "residues"
        merge: Callable[[list[Row]], Any] = self._classes_of if per_residue else self._merge
        values = [merge(group) for group in groups.values()]
        known = [bool(np.isfinite(each).any()) for each in values]
        if repeats := len(rows) - len(firsts):
            self.notes.append(
                f"{name}: {pluralise(repeats, 'repeat')} of a sequence joined with the first; numbers are averaged, "
                f"classes that differ are unknown"
            )
        if unknown := known.count(False):
            self.notes.append(f"{name}: {pluralise(unknown, 'protein')} without a usable value left out")
        kept = [number for number, each in enumerate(known) if each]
        joined: Any = [values[number] for number in kept]
        return Measured(
            [firsts[number].id for number in kept],
            [firsts[number].published for number in kept],
            [firsts[number].sequence for number in kept],
            joined if per_residue else np.array(joined, np.float32).reshape(len(kept), len(self.targets)),
        )

    def _merge(self, group: list[Row]) -> list[float]:
        merged = []
        for number, target in enumerate(self.targets):
            found = [self._value(target, row, row.texts[number]) for row in group if not is_missing(row.texts[number])]
            agree = target.is_number or len(set(found)) == 1
            merged.append(float(np.mean(found)) if found and agree else np.nan)
        return merged

    def _value(self, target: Target, row: Row, text: str) -> float:
        text = text.strip()
        with at(f"{row.id}: {target.name} is {text[:30]!r}"):
            if target.is_number:
                value = to_number(text)
                if value is None or abs(value) > 1e30:
                    raise InputError("expected a number. Leave it empty if it is unknown.")
                if target.kind == "fraction" and not 0 <= value <= 1:
                    raise InputError('expected 0 to 1. Set kind = "number" for other values.')
                return value
            known = [normalise_label(each) for each in target.classes] if target.kind == "binary" else target.classes
            word = normalise_label(text) if target.kind == "binary" else text
            if word not in known:
                raise InputError(f"expected one of {', '.join(target.classes)}")
            return float(known.index(word))

    def _classes_of(self, group: list[Row]) -> Float[np.ndarray, " length"]:
        first, *others = (self._classes_of_row(row) for row in group)
        agree = np.all([(first == other) | (np.isnan(first) & np.isnan(other)) for other in others], axis=0)
        return np.where(agree, first, np.nan).astype(np.float32)

    def _classes_of_row(self, row: Row) -> Float[np.ndarray, " length"]:
        (target,), text = self.targets, row.texts[0].strip()
        with at(f"{row.id}: {target.name}"):
            if row.sequence != row.published:
                raise InputError("cleaning cuts the sequence, and not its classes. Leave out model.cleaning.")
            if len(text) != len(row.published):
                raise InputError(f"{len(text)} classes for {len(row.published)} residues")
            if unknown := sorted(set(text) - {*target.classes, UNKNOWN}):
                raise InputError(f"{unknown[0]!r} is not one of the classes, {', '.join(target.classes)}")
        numbers = {letter: float(number) for number, letter in enumerate(target.classes)}
        return np.array([numbers.get(letter, np.nan) for letter in text], np.float32)


def _leave_out_shared(training: Measured, held_out: dict[str, Measured], notes: list[str]) -> Measured:
    others = {sequence for split in held_out.values() for sequence in split.sequences}
    own = np.array([sequence not in others for sequence in training.sequences], bool)
    if shared := int((~own).sum()):
        notes.append(f"training: {pluralise(shared, 'protein')} left out that a held-out file has, too")
    return training.select(own)


def _hold_out(
    recipe: AssayRecipe, training: Measured, validation: bool, test: bool, notes: list[str]
) -> tuple[Measured, dict[str, Measured]]:
    """Hold out clusters of the training proteins, in a random order, until they are as many as was asked for."""
    if len(training) < FEWEST:
        raise InputError(f"{pluralise(len(training), 'protein')} with a value: at least {FEWEST} are needed")
    numbers, how = cluster(training.sequences, recipe.data.max_identity)
    names = ["validation"] * validation + ["test"] * test
    part = _draw_clusters(numbers, recipe, len(names))
    if (part == 0).sum() < len(training) / 2:
        # Variants of one protein, or of a few: no cluster could be held out.
        how = f"single sequences, since {np.bincount(numbers).max():,} are alike"
        part = _draw_clusters(np.arange(len(training)), recipe, len(names))
    counts = " and ".join(f"{int((part == place).sum()):,} for {name}" for place, name in enumerate(names, 1))
    notes.append(f"held out: {counts}, by clusters ({how})")
    return training.select(part == 0), {name: training.select(part == place) for place, name in enumerate(names, 1)}


def _draw_clusters(numbers: Int[np.ndarray, " n"], recipe: AssayRecipe, parts: int) -> Int[np.ndarray, " n"]:
    """The part of each protein: whole clusters for parts 1, 2, ..., and 0 for what is left to train on."""
    order = np.random.default_rng(recipe.training.seed).permutation(numbers.max() + 1).tolist()
    part = np.zeros(len(numbers), int)
    for place in range(1, parts + 1):
        while order and (part == place).sum() < recipe.data.held_out * len(numbers):
            part[numbers == order.pop()] = place
    return part


def _fit_target(target: Target, number: int, training: Measured) -> Target:
    if target.kind != "number":
        return target
    values = np.asarray(training.values, np.float64)[:, number]
    centre, scale = float(np.nanmean(values)), float(np.nanstd(values))
    if not scale > 0:
        raise InputError(
            f"target {target.name}: every value for training is {centre:g}. Nothing can be learned from that."
        )
    return Target(target.name, target.kind, target.unit, target.classes, centre, scale)


def _check(splits: AssaySplits) -> None:
    """Refuse now what could not be learned or measured."""
    every = {"training": splits.training, "validation": splits.validation, **splits.tests}
    for name, split in every.items():
        if not len(split):
            raise InputError(f"{name}: no protein with a value is left")
        for number, target in enumerate(splits.targets):
            values = np.concatenate(split.values) if isinstance(split.values, list) else split.values[:, number]
            found = np.unique(values[~np.isnan(values)])
            with at(f"{name}, target {target.name}"):
                if name == "training" and not target.is_number and len(found) < len(target.classes):
                    absent = next(each for i, each in enumerate(target.classes) if i not in found)
                    raise InputError(
                        f"no protein is of class {absent!r}. Join rare classes, leave them out, or give files of your "
                        "own for validation and test."
                    )
                if len(found) < 2:
                    only = "no protein has a value" if not len(found) else _only(target, float(found[0]))
                    raise InputError(f"{only}. Hold out more, or other proteins.")


def _only(target: Target, value: float) -> str:
    return (
        f"every value is {value:g}" if target.is_number else f"every protein is of class {target.classes[int(value)]!r}"
    )
