"""From the tables of an assay to splits with a value of every target."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int

from eqxesm.alphabet import CONTEXT_RESIDUES, Tokenizer
from eqxesm.data.cleaning import Cleaned
from eqxesm.data.clusters import cluster
from eqxesm.data.sources import Source, open_source
from eqxesm.errors import InputError, at, pluralise
from eqxesm.evaluation.measured import Converter, Measured, Row, check_varies, describe_unusable, read_rows
from eqxesm.targets import Target
from eqxesm.training.assay_kinds import choose_target, could_be_classes
from eqxesm.training.assay_recipe import AssayRecipe
from eqxesm.training.examples import Examples

FEWEST = 10
"""Proteins that a split to hold out from needs."""


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
    convert = Converter(targets, notes)
    train = convert("training", training)
    held_out = {"validation": convert("validation", validation), **{n: convert(n, rows) for n, rows in tests.items()}}
    train = _leave_out_shared(train, held_out, notes)
    if not validation or not tests:
        train, parts = _hold_out(recipe, train, not validation, not tests, notes)
        held_out |= parts
    splits = AssaySplits(targets, train, held_out.pop("validation"), held_out, notes)
    _check(splits)
    return replace(splits, targets=tuple(_fit_target(target, n, train) for n, target in enumerate(targets)))


def make_examples(measured: Measured) -> Examples:
    """What the training loop reads."""
    tokens = [Tokenizer().encode(sequence) for sequence in measured.sequences]
    values = measured.values
    if isinstance(values, list):
        longest = max(map(len, tokens))
        # <cls> comes before the first residue.
        rows = [np.pad(each, (1, longest - 1 - len(each)), constant_values=np.nan) for each in values]
        values = np.stack(rows)[..., None]
    return Examples(tokens, values, measured.ids)


def _read(split: str, sources: Iterable[Source], recipe: AssayRecipe, notes: list[str]) -> list[Row]:
    columns = [target.column for target in recipe.targets]

    def clean(sequence: str) -> Cleaned:
        cleaned = recipe.model.cleaning.clean(sequence)
        if len(cleaned.sequence) > CONTEXT_RESIDUES:
            raise InputError(f"{len(cleaned.sequence):,} residues, more than {CONTEXT_RESIDUES:,}")
        return cleaned

    rows, unusable = [], []
    for number, source in enumerate(sources):
        with at(f"data.{split}.{number}"):
            found, unfit = read_rows(open_source(source, recipe.root, columns), clean)
            rows += found
            unusable += unfit
    if unusable:
        notes.append(f"{split}: {describe_unusable(unusable)}")
    return rows


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
                check_varies(target, found, "Hold out more, or other proteins.")
