"""A protein as it is read, and the columns that a table keeps it in."""

from dataclasses import dataclass
from typing import Any

from eqxesm.alphabet import BREAK
from eqxesm.config import configuration


@dataclass(frozen=True, slots=True)
class Protein:
    """One protein as it was read. `label` is 1 (soluble), 0 (insoluble) or None (unknown).

    `values` are the cells of the columns that were asked for besides, as text.

    `remark` says what was wrong with the record. Where it kept the sequence from being read, that is empty.
    """

    id: str
    sequence: str
    label: int | None = None
    source: str | None = None
    license: str | None = None
    fold: str | None = None
    cluster: str | None = None
    remark: str | None = None
    values: tuple[Any, ...] = ()

    @property
    def residues(self) -> str:
        """The residues as read, in upper case, without white space and a trailing `*`; not checked."""
        return "".join(self.sequence.split()).upper().rstrip("*")

    def count(self) -> int:
        """How many residues were read, in all chains."""
        return len(self.residues) - self.residues.count(BREAK)


@configuration
class Columns:
    """Names of the columns of a table.

    Sequence, label and id are also found by other spellings, and the id by other usual names. Without
    ids, rows are numbered.
    """

    sequence: str = "sequence"
    label: str = "label"
    id: str | None = None
    source: str | None = None
    license: str | None = None
    fold: str | None = None
    cluster: str | None = None
