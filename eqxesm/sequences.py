"""Sequences as callers and tables give them: texts, containers of texts, and words for a missing value."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from eqxesm.errors import InputError

MISSING_WORDS = frozenset({
    "", "na", "n/a", "n.a.", "#na", "#n/a", "<na>", "nan", "-nan", "none", "null", "nil", "nat", "missing", "unknown",
    "-", "--", "—", ".", "?", "''", '""', "\\n", "#value!", "#ref!", "#name?", "#null!", "#num!", "#div/0!", "#spill!",
    "#calc!", "(null)", "[null]", "nd", "n.d.", "tbd", "undefined", "empty", "no data", "not available",
    "sequence unavailable", "sequence not available",
})  # fmt: skip
"""How spreadsheets, pandas, R and databases write a missing value, in lower case."""


def is_missing(value: Any) -> bool:
    """Whether a value stands for a missing one: None, NaN, blank text, or a word such as `NA`."""
    if isinstance(value, str):
        return value.strip().lower() in MISSING_WORDS
    # pandas is not imported for this.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def as_text(value: Any, place: str) -> str:
    """A sequence as a string: one itself, or Biopython's `Seq` or `SeqRecord`."""
    if is_text(value):
        try:
            return str(getattr(value, "seq", value))
        except Exception as error:
            # Biopython has sequences of a known length without letters.
            raise InputError(f"{place} is missing ({error}). Leave it out.") from error
    if is_missing(value):
        raise InputError(f"{place} is missing ({value}). Leave it out.")
    advice = ". Decode it first." if isinstance(value, bytes | bytearray) else ""
    raise InputError(f"{place}: expected a string, got {type(value).__name__}{advice}")


def as_sequence(values: Any, what: str) -> Sequence[Any]:
    """The items of a list, tuple, array, Series or generator. Texts, mappings and tables are refused."""
    kind = type(values).__name__
    if isinstance(values, bytes | bytearray):
        advice = "Decode it first, and pass a list."
    elif is_text(values):
        advice = "For one, put it into a list."
    elif isinstance(values, Mapping):
        advice = "Pass its values as a list."
    elif hasattr(values, "columns"):
        advice = "Pass one of its columns."
    elif isinstance(values, Set):
        advice = "A set has no order. Pass a list."
    elif not isinstance(values, Iterable):
        advice = "Pass a list."
    elif getattr(values, "ndim", 1) == 0:
        advice = "For one, put it into a list."
    else:
        return values if isinstance(values, Sequence) else list(values)
    raise InputError(f"expected a list of {what}, got {kind}. {advice}")


def is_text(value: Any) -> bool:
    """Whether a value is one sequence."""
    return isinstance(value, str) or _is_biopython(value)


def _is_biopython(value: Any) -> bool:
    # Nobody has one who has not imported the module.
    seq, record = sys.modules.get("Bio.Seq"), sys.modules.get("Bio.SeqRecord")
    return bool(
        (seq and isinstance(value, seq.Seq | seq.MutableSeq)) or (record and isinstance(value, record.SeqRecord))
    )
