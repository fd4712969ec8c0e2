"""What an assay measured, as a table has it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from eqxesm.data.cleaning import Cleaned, Cleaning
from eqxesm.data.labels import normalise_label
from eqxesm.data.protein import Protein
from eqxesm.errors import InputError, at, pluralise
from eqxesm.sequences import is_missing
from eqxesm.targets import UNKNOWN, Target


@dataclass(frozen=True)
class Row:
    """A protein as published and as cleaned, and the cells of its targets."""

    id: str
    published: str
    sequence: str
    texts: tuple[str, ...]


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

    def values_of(self, number: int) -> Any:
        """Values of a target, by number; of residues those of each protein."""
        return self.values if isinstance(self.values, list) else self.values[:, number]

    def known(self, number: int) -> Any:
        """Rows with a value of a target, by number."""
        return np.arange(len(self)) if self.per_residue else np.flatnonzero(~np.isnan(self.values[:, number]))  # ty: ignore[invalid-argument-type]


def read_rows(proteins: Iterable[Protein], clean: Callable[[str], Cleaned]) -> tuple[list[Row], list[str]]:
    """The proteins that can be used, and of each other one why it cannot."""
    rows, unusable = [], []
    for protein in proteins:
        try:
            published = Cleaning().clean(protein.sequence).sequence
            rows.append(Row(protein.id, published, clean(protein.sequence).sequence, protein.values))
        except InputError as error:
            unusable.append(f"{protein.id}: {error}")
    return rows, unusable


def describe_unusable(unusable: Sequence[str]) -> str:
    return f"{pluralise(len(unusable), 'protein')} left out, first {unusable[0]}"


@dataclass(frozen=True)
class Converter:
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


def check_varies(target: Target, values: Float[np.ndarray, " _"], advice: str) -> None:
    """Refuse values that are all the same: nothing can be measured by them."""
    if len(found := np.unique(values[~np.isnan(values)])) > 1:
        return
    only = "no protein has a value"
    if len(found):
        only = f"every value is {found[0]:g}"
        if not target.is_number:
            only = f"every protein is of class {target.classes[int(found[0])]!r}"
    raise InputError(f"{only}. {advice}")


def to_number(text: str) -> float | None:
    """The finite number that a cell holds, if it holds one."""
    try:
        value = float(text.strip())
    except ValueError:
        return None
    return value if np.isfinite(value) else None
