"""Labels, 1 for soluble and 0 for insoluble, as callers and tables give them."""

import re
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from eqxesm.errors import InputError
from eqxesm.sequences import is_missing

Labels = Int[np.ndarray, " proteins"] | Bool[np.ndarray, " proteins"] | Float[np.ndarray, " proteins"] | list
"""One label per protein: 1 or True is soluble, 0 or False insoluble."""

SPELLINGS: tuple[dict[str, int], ...] = (
    {"1": 1, "0": 0},
    {"true": 1, "false": 0},
    {"t": 1, "f": 0},
    {"yes": 1, "no": 0},
    {"y": 1, "n": 0},
    {"soluble": 1, "insoluble": 0},
    {"positive": 1, "negative": 0},
)
"""The words that a table may use, in lower case. A table uses one pair of them."""

_WHOLE = re.compile(r"([01])\.0*")


def normalise_label(text: str) -> str:
    """A word for yes or no, as `SPELLINGS` writes it if it is one of them."""
    return _WHOLE.sub(r"\1", text.strip().lower())


class LabelReader:
    """Reads the labels of one table, which are all spelt alike."""

    def __init__(self) -> None:
        self.spelling: dict[str, int] | None = None

    def read(self, place: str, text: str) -> int | None:
        """The label that a cell holds, or None if it is missing."""
        if is_missing(text):
            return None
        word = normalise_label(text)
        found = next((spelling for spelling in SPELLINGS if word in spelling), None)
        if found is None:
            words = ", ".join("/".join(spelling) for spelling in SPELLINGS)
            raise InputError(f"{place}: label is {text[:30]!r}, expected one of {words}. Leave it empty if unknown.")
        if self.spelling not in (None, found):
            earlier = " and ".join(self.spelling or ())
            raise InputError(f"{place}: label is {text!r}, but earlier ones are {earlier}. Spell all alike.")
        self.spelling = found
        return found[word]


def as_labels(values: Any, number: int) -> Int[np.ndarray, " proteins"]:
    """Labels of `number` proteins, given as 1 and 0, True and False, or 1.0 and 0.0."""
    labels = np.asarray(values)
    if labels.shape != (number,):
        advice = " Use labels.ravel()." if labels.shape == (number, 1) else ""
        raise InputError(f"labels have shape {list(labels.shape)}, expected [{number}].{advice}")
    if labels.dtype.kind in "biuf":
        known = (labels == 0) | (labels == 1)
    else:
        known = np.array(
            [isinstance(label, bool | int | float | np.number | np.bool_) and label in (0, 1) for label in labels], bool
        )
    if not known.all():
        position = int(np.flatnonzero(~known)[0])
        label = labels[position]
        if is_missing(label):
            raise InputError(f"label {position + 1} is missing ({label}). Leave its protein out.")
        shown = repr(str(label)) if isinstance(label, str) else label
        raise InputError(f"label {position + 1} is {shown}, expected 1 (soluble) or 0 (insoluble)")
    return labels.astype(np.int64)
