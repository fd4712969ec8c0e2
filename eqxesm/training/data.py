"""From a recipe's sources to splits and examples."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import overload

import numpy as np
from jaxtyping import Int

from eqxesm.alphabet import Tokenizer
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene import Split, Splits, cross_validation_folds, prepare
from eqxesm.data.records import LabelledProtein, Selection
from eqxesm.data.sources import Source, read_source
from eqxesm.errors import InputError
from eqxesm.training.examples import Examples
from eqxesm.training.plan import Recipe, file_name

HELD_OUT = "held-out fold"
"""The name of the test set of each run of a cross-validation."""


class Merged(Sequence[LabelledProtein]):
    """The proteins of several sources, one after the other, each looked up where it is."""

    def __init__(self, parts: Sequence[Sequence[LabelledProtein]]):
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[LabelledProtein]:
        # A file that is read from its beginning is read in blocks.
        return chain.from_iterable(self._parts)

    @overload
    def __getitem__(self, index: int) -> LabelledProtein: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LabelledProtein]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        part = bisect_right(self._ends, index)
        return self._parts[part][index - (self._ends[part - 1] if part else 0)]


class Tokens(Sequence[Int[np.ndarray, " _"]]):
    """The tokens of proteins, made when they are asked for: they need not fit the memory."""

    def __init__(self, proteins: Sequence[LabelledProtein], cleaning: Cleaning):
        self._proteins = proteins
        self._cleaning = cleaning
        self._tokenizer = Tokenizer()

    def __len__(self) -> int:
        return len(self._proteins)

    def __getitem__(self, index):
        cleaned = self._cleaning.clean(self._proteins[index].sequence)
        return self._tokenizer.encode(cleaned.sequence)


class Ids(Sequence[str]):
    """The ids of proteins."""

    def __init__(self, proteins: Sequence[LabelledProtein]):
        self._proteins = proteins

    def __len__(self) -> int:
        return len(self._proteins)

    def __getitem__(self, index):
        return self._proteins[index].id


def load_splits(recipe: Recipe) -> Splits:
    """Read what a recipe trains on, stops by and measures with.

    Args:
        recipe: the recipe.

    Returns:
        The splits, with the report on their hygiene.

    Raises:
        InputError: what `read_source` and `prepare` raise, or a test set holds one class.
    """
    splits = prepare(
        _merge(recipe.training, recipe),
        _merge(recipe.validation, recipe),
        _tests(recipe),
        recipe.cleaning,
        recipe.policy,
    )
    _check_tests(splits)
    return splits


def load_folds(recipe: Recipe) -> dict[str, Splits]:
    """Read a recipe's training sources as the folds of a cross-validation.

    Each fold is held out once, as the test set `held-out fold`; the fold after it is what that
    run stops by and is calibrated on.

    Args:
        recipe: the recipe.

    Returns:
        The splits by the fold that is held out.

    Raises:
        InputError: there are fewer than three folds, two of them cannot be told apart as names of
            folders, one holds one class; or what `read_source`, `cross_validation_folds` and
            `prepare` raise.
    """
    proteins = _merge(recipe.training, recipe)
    folds = cross_validation_folds(proteins, recipe.cleaning)
    names = list(folds)
    if len(names) < 3:
        raise InputError(
            f"folds {' and '.join(names)}: a cross-validation needs three at least: one held out, "
            "one to stop by, the rest to train on"
        )
    if len(set(map(file_name, names))) < len(names):
        raise InputError(f"folds {', '.join(names)}: name them by different letters and digits")
    splits = {}
    for number, name in enumerate(names):
        following = names[(number + 1) % len(names)]
        rest = [folds[other] for other in names if other not in (name, following)]
        try:
            splits[name] = prepare(
                Selection(proteins, np.sort(np.concatenate(rest))),
                Selection(proteins, folds[following]),
                {HELD_OUT: Selection(proteins, folds[name])},
                recipe.cleaning,
                recipe.policy,
            )
            _check_tests(splits[name])
        except InputError as error:
            raise InputError(
                f"fold {name} held out, fold {following} to stop by: {error}"
            ) from error
    return splits


def _check_tests(splits: Splits) -> None:
    """Refuse now what could not be measured when the training is over."""
    for name, split in splits.tests.items():
        if split.labels.min() == split.labels.max():
            raise InputError(
                f"test set {name!r}: every protein has label {split.labels[0]}: give both classes"
            )


def to_examples(split: Split, recipe: Recipe) -> Examples:
    """Tokenize a split.

    Args:
        split: its proteins.
        recipe: says how sequences are cleaned, and where they come from.

    Returns:
        The examples; with an ArrayRecord file among the sources, which stays on disk, their tokens
        are made when they are asked for.
    """
    tokens = Tokens(split.proteins, recipe.cleaning)
    sources = (*recipe.training, *recipe.validation, *recipe.tests)
    on_disk = any(source.path.endswith(".arrayrecord") for source in sources)
    return Examples(
        tokens if on_disk else list(tokens),
        split.labels.astype(np.int64),
        Ids(split.proteins),
        # <cls> and <eos>.
        split.lengths.astype(np.int64) + 2,
    )


def _merge(sources: Sequence[Source], recipe: Recipe) -> Merged:
    return Merged([read_source(source, recipe.root).proteins for source in sources])


def _tests(recipe: Recipe) -> dict[str, Sequence[LabelledProtein]]:
    return {source.title: read_source(source, recipe.root).proteins for source in recipe.tests}
