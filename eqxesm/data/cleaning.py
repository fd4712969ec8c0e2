"""Clean sequences: one spelling for every protein, and expression tags taken off on request."""

import re
from dataclasses import dataclass

from eqxesm.alphabet import RESIDUES
from eqxesm.data.tags import count, strip_tags
from eqxesm.errors import InputError

NUCLEOTIDES = 30
"""Letters from which on a sequence of A, C, G, T, U and N alone, at least three of them and T or U
among those, is taken for DNA or RNA."""


@dataclass(frozen=True)
class Cleaned:
    """A cleaned sequence and what was done to it, one note a change."""

    sequence: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cleaning:
    """How sequences are prepared for a model.

    Always: upper case, white space and trailing `*` taken off, letters that ESM-C has no token
    for turned into X, everything else refused. The two fields add to that. Notes tell what is
    particular to a sequence; an initial Met, which nearly all have, goes without one.
    """

    strip_tags: bool = False
    strip_initial_met: bool = False

    def clean(self, sequence: str) -> Cleaned:
        """Clean one sequence.

        Args:
            sequence: residues as they were read.

        Returns:
            The residues a model takes, and notes.

        Raises:
            InputError: there are no residues, or a character stands for none.
        """
        residues, notes = _spell(sequence)
        if self.strip_tags:
            residues, stripped = strip_tags(residues)
            notes += stripped
        if self.strip_initial_met and residues.startswith("M") and len(residues) > 1:
            residues = residues[1:]
        return Cleaned(residues, tuple(notes))


def _spell(sequence: str) -> tuple[str, list[str]]:
    body = re.sub(r"[\s*]+$", "", sequence)
    for position, character in enumerate(body, start=1):
        if not (character.isspace() or (character.isascii() and character.isalpha())):
            raise InputError(f"position {position}: {_problem(character)}")
    residues = "".join(body.split()).upper()
    if not residues:
        raise InputError("empty sequence: give at least 1 residue, or leave the record out")
    notes = ["trailing * removed"] if "*" in sequence else []
    letters = set(residues)
    if (
        len(residues) >= NUCLEOTIDES
        and letters <= set("ACGTUN")
        and letters & set("TU")
        and len(letters) > 2
    ):
        raise InputError(
            f"only the letters {' '.join(sorted(letters))}: this looks like DNA or RNA: "
            "translate it first"
        )
    if unknown := [letter for letter in residues if letter not in RESIDUES]:
        residues = re.sub(f"[^{RESIDUES}]", "X", residues)
        which = ", ".join(sorted(set(unknown)))
        notes.append(f"{count(len(unknown), 'unknown letter')} ({which}) to X")
    return residues, notes


def _problem(character: str) -> str:
    if character in "-.":
        return f"gap {character!r}: give the sequence without its alignment"
    if character == "*":
        return "stop '*' inside the protein: cut the sequence there or translate it again"
    kind = "digit" if character.isdigit() else "character"
    return f"{kind} {character!r}: write one letter per residue and nothing else"
