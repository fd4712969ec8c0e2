"""Cleaning sequences: one spelling for every protein, and tags stripped on request."""

import re
from dataclasses import dataclass

from eqxesm.alphabet import RESIDUES
from eqxesm.config import configuration
from eqxesm.data.tags import strip_tags
from eqxesm.errors import InputError, pluralise

MIN_NUCLEOTIDES = 30
"""Letters from which on a sequence of A, C, G, T, U and N alone (three of them or more, T or U among
those) is taken for DNA or RNA."""


@dataclass(frozen=True)
class Cleaned:
    """A cleaned sequence, and a note for every change."""

    sequence: str
    notes: tuple[str, ...]


@configuration
class Cleaning:
    """How sequences are prepared for a model."""

    strip_tags: bool = False
    strip_initial_met: bool = False

    def clean(self, sequence: str) -> Cleaned:
        """Upper case, no white space, trailing `*` removed, unknown letters as X, tags stripped."""
        residues, notes = _normalise(sequence)
        if self.strip_tags:
            residues, stripped = strip_tags(residues)
            notes += stripped
        if self.strip_initial_met and residues.startswith("M") and len(residues) > 1:
            residues = residues[1:]
        return Cleaned(residues, tuple(notes))


def _normalise(sequence: str) -> tuple[str, list[str]]:
    body = re.sub(r"[\s*]+$", "", sequence)
    for position, character in enumerate(body, start=1):
        if not (character.isspace() or (character.isascii() and character.isalpha())):
            raise InputError(f"position {position}: {_explain(character)}")
    residues = "".join(body.split()).upper()
    if not residues:
        raise InputError("empty sequence")
    notes = ["trailing * removed"] if "*" in sequence else []
    letters = set(residues)
    if len(residues) >= MIN_NUCLEOTIDES and letters <= set("ACGTUN") and letters & set("TU") and len(letters) > 2:
        raise InputError(f"looks like DNA or RNA: only the letters {' '.join(sorted(letters))}. Translate it.")
    if unknown := [letter for letter in residues if letter not in RESIDUES]:
        residues = re.sub(f"[^{RESIDUES}]", "X", residues)
        which = ", ".join(sorted(set(unknown)))
        notes.append(f"{pluralise(len(unknown), 'unknown letter')} ({which}) replaced by X")
    return residues, notes


def _explain(character: str) -> str:
    if character in "-.":
        return f"gap {character!r}. Give the sequence without its alignment."
    if character == "*":
        return "stop '*' inside the protein. Cut the sequence there, or translate it again."
    kind = "digit" if character.isdigit() else "character"
    return f"{kind} {character!r}. Expected one letter per residue."
