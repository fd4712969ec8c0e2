"""What the values of a column are: numbers, classes, or a letter for every residue."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eqxesm.data.labels import SPELLINGS, normalise_label
from eqxesm.errors import InputError, at
from eqxesm.evaluation.measured import Row, to_number
from eqxesm.sequences import is_missing
from eqxesm.targets import UNKNOWN, Target
from eqxesm.training.assay_recipe import TargetConfig

MOST_CLASSES = 100

FEW_NUMBERS = 20
"""Different whole numbers that may be names of classes."""


def choose_target(config: TargetConfig, number: int, rows: Sequence[Row]) -> Target:
    """A target of the kind that its values ask for."""
    with at(f"target {config.title}"):
        texts = [row.texts[number].strip() for row in rows if not is_missing(row.texts[number])]
        if len(set(texts)) < 2:
            found = f"every value is {texts[0]!r}" if texts else "no protein has a value"
            raise InputError(f"{found}. Nothing can be learned from that.")
        kind = config.kind if config.kind != "auto" else _find_kind(config, number, rows, texts)
        classes = config.classes
        if kind == "residues":
            classes = classes or tuple(sorted(set("".join(texts)) - {UNKNOWN}))
        elif kind == "binary":
            classes = classes or _spelling(texts) or _in_order(texts)
        elif kind in ("classes", "ordinal"):
            classes = classes or _in_order(texts)
        if kind != "residues" and (rare := _find_rare(kind, classes, texts)):
            raise InputError(f"one protein alone is of class {rare!r}. Join it with another class, or leave it out.")
        return Target(config.title, kind, config.unit, classes)


def _find_rare(kind: str, classes: Sequence[str], texts: Sequence[str]) -> str | None:
    """A class that a single protein has."""
    counts = Counter(map(normalise_label, texts) if kind == "binary" else texts)
    return next((each for each in classes if counts[normalise_label(each) if kind == "binary" else each] == 1), None)


def could_be_classes(config: TargetConfig, number: int, target: Target, rows: Sequence[Row]) -> bool:
    """Whether a column that is read as numbers may hold names of classes."""
    if target.kind != "number" or config.kind != "auto":
        return False
    values = {row.texts[number].strip() for row in rows if not is_missing(row.texts[number])}
    return len(values) <= min(FEW_NUMBERS, len(rows) / 10) and all(float(each).is_integer() for each in values)


def _find_kind(config: TargetConfig, number: int, rows: Sequence[Row], texts: Sequence[str]) -> Any:
    if config.classes:
        return "binary" if len(config.classes) == 2 else "classes"
    numbers = [value for value in map(to_number, texts) if value is not None]
    if _spelling(texts):
        return "binary"
    if len(numbers) == len(texts):
        return "fraction" if min(numbers) >= 0 and max(numbers) <= 1 else "number"
    own = [(len(row.texts[number].strip()), len(row.published)) for row in rows if not is_missing(row.texts[number])]
    if sum(length == residues for length, residues in own) > len(own) / 2:
        return "residues"
    if len(numbers) > len(texts) / 2:
        first = next(row for row in rows if not is_missing(row.texts[number]) and to_number(row.texts[number]) is None)
        raise InputError(f"{first.id} has {first.texts[number]!r}, expected a number. Leave it empty if it is unknown.")
    if len(set(texts)) > min(MOST_CLASSES, len(texts) / 2):
        raise InputError(f"{len(set(texts)):,} different texts in {len(texts):,} rows: neither numbers nor classes.")
    return "binary" if len(set(texts)) == 2 else "classes"


def _spelling(texts: Sequence[str]) -> tuple[str, ...]:
    """The two words that a table writes for no and yes, as it spells them, if it does."""
    spelt = {normalise_label(text): text for text in texts}
    found = next((spelling for spelling in SPELLINGS if set(spelt) == set(spelling)), None)
    return () if found is None else tuple(spelt[word] for word in sorted(found, key=found.__getitem__))


def _in_order(texts: Sequence[str]) -> tuple[str, ...]:
    """The different texts, sorted; as numbers if all are."""
    different = sorted(set(texts))
    numeric = all(to_number(text) is not None for text in different)
    return tuple(sorted(different, key=float) if numeric else different)
