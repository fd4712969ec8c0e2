"""From a recipe's sources to splits and examples."""

from collections.abc import Sequence
from itertools import accumulate, chain

import numpy as np

from eqxesm.alphabet import Tokenizer
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene import Split, Splits, cross_validation_folds, prepare_splits
from eqxesm.data.lazy import LazySequence, select
from eqxesm.data.protein import Protein
from eqxesm.data.proteins import ARRAY_RECORD
from eqxesm.data.sources import open_source
from eqxesm.errors import InputError, at
from eqxesm.files import file_name
from eqxesm.training.examples import Examples
from eqxesm.training.recipe import Recipe

HELD_OUT = "held-out fold"
"""Name of the test set in each run of a cross-validation."""


def load_splits(recipe: Recipe) -> Splits:
    """Read what a recipe trains on, stops by and tests on."""
    data = recipe.data
    tests = dict(zip((source.title for source in data.test), _open_each("test", recipe), strict=True))
    splits = prepare_splits(
        _open_all("training", recipe), _open_all("validation", recipe), tests, recipe.model.cleaning, data
    )
    _check_tests(splits)
    return splits


def load_folds(recipe: Recipe) -> dict[str, Splits]:
    """Read a recipe's training sources as the folds of a cross-validation."""
    proteins = _open_all("training", recipe)
    folds = cross_validation_folds(proteins, recipe.model.cleaning)
    names = list(folds)
    if len(names) < 3:
        raise InputError(
            f"folds {', '.join(names)}: cross-validation needs at least 3: to test, to stop by and to train on"
        )
    if len(set(map(file_name, names))) < len(names):
        raise InputError(f"folds {', '.join(names)}: names differ only in special characters")
    splits = {}
    for number, name in enumerate(names):
        following = names[(number + 1) % len(names)]
        rest = [folds[other] for other in names if other not in (name, following)]
        try:
            splits[name] = prepare_splits(
                select(proteins, np.sort(np.concatenate(rest))),
                select(proteins, folds[following]),
                {HELD_OUT: select(proteins, folds[name])},
                recipe.model.cleaning,
                recipe.data,
            )
            _check_tests(splits[name])
        except InputError as error:
            raise InputError(f"with fold {name} held out, {following} to stop by: {error}") from error
    return splits


def to_examples(split: Split, cleaning: Cleaning, recipe: Recipe) -> Examples:
    """Tokenize a split; proteins in ArrayRecord files only as they are needed."""
    tokenizer, proteins = Tokenizer(), split.proteins
    tokens = LazySequence(len(proteins), lambda i: tokenizer.encode(cleaning.clean(proteins[i].sequence).sequence))
    on_disk = any(source.path.endswith(ARRAY_RECORD) for source in recipe.sources)
    return Examples(
        tokens if on_disk else list(tokens),
        split.labels.astype(np.int64),
        LazySequence(len(proteins), lambda i: proteins[i].id),
        # <cls> and <eos>.
        split.lengths.astype(np.int64) + 2,
    )


def _check_tests(splits: Splits) -> None:
    """Refuse now what could not be measured after training."""
    for name, split in splits.tests.items():
        if split.labels.min() == split.labels.max():
            raise InputError(f"test set {name!r}: every protein has label {split.labels[0]}. Both classes are needed.")


def _open_each(split: str, recipe: Recipe) -> list[Sequence[Protein]]:
    """The proteins of each source of a split."""
    opened = []
    for number, source in enumerate(getattr(recipe.data, split)):
        with at(f"data.{split}.{number}"):
            opened.append(open_source(source, recipe.root))
    return opened


def _open_all(split: str, recipe: Recipe) -> Sequence[Protein]:
    """The proteins of a split, one source after the other."""
    parts = _open_each(split, recipe)
    ends = list(accumulate(map(len, parts)))

    def find(index: int) -> Protein:
        part = int(np.searchsorted(ends, index, side="right"))
        return parts[part][index - (ends[part - 1] if part else 0)]

    # A file that is read from its beginning is read in blocks.
    return LazySequence(ends[-1] if ends else 0, find, lambda: chain.from_iterable(parts))
