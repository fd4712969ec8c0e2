"""Cleaning sequences: one spelling for every protein, and tags stripped on request."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from pydantic import model_serializer

from eqxesm.alphabet import BREAK, RESIDUES
from eqxesm.config import configuration
from eqxesm.data.tags import find_tags
from eqxesm.errors import InputError, at, pluralise
from heads.fields import Count, leave_out_unset

MIN_NUCLEOTIDES = 12
"""Letters from which on a sequence is taken for DNA or RNA, if that is what it looks like."""

MIN_LOW_COMPLEXITY = 20
"""Residues from which on a sequence of few kinds of residue gets a note."""

_NO_LETTER = re.compile(r"[^A-Za-z\s]")
_UNKNOWN = re.compile(f"[^{RESIDUES}]")


@dataclass(frozen=True)
class Cleaned:
    """A cleaned sequence, and a note for every change and for what makes it doubtful.

    `offsets` are what is added to the position of a residue to have it as read, by chain.
    """

    sequence: str
    notes: tuple[str, ...]
    offsets: tuple[int, ...] = (0,)

    @property
    def chains(self) -> list[str]:
        return self.sequence.split(BREAK)

    @property
    def positions(self) -> list[int]:
        """Where each letter was in what was read, from 1."""
        chains = np.repeat(self.offsets, [len(chain) + 1 for chain in self.chains])[:-1]
        return (np.arange(1, len(self.sequence) + 1) + chains).tolist()

    def add(self, note: str) -> "Cleaned":
        """The same with one more note."""
        return replace(self, notes=(*self.notes, note))


@configuration
class Cleaning:
    """How sequences are prepared for a model. Of more than `truncate` residues the first ones are kept."""

    strip_tags: bool = False
    strip_initial_met: bool = False
    truncate: Count | None = None

    _serialiser = model_serializer(mode="wrap")(leave_out_unset)

    def clean(self, sequence: str) -> Cleaned:
        """Upper case, no white space, trailing `*` removed, unknown letters as X, tags stripped."""
        residues, notes = _normalise(sequence)
        start = 0
        if self.strip_tags:
            start, stop, stripped = find_tags(residues)
            residues = residues[start:stop]
            notes += stripped
        if self.strip_initial_met and residues.startswith("M") and len(residues) > 1:
            residues, start = residues[1:], start + 1
        if self.truncate is not None and len(residues) > self.truncate:
            residues = residues[: self.truncate]
            notes.append(f"cut to its first {pluralise(self.truncate, 'residue')}, as in training")
        return Cleaned(residues, tuple(notes), (start,))

    def clean_chains(self, sequence: str) -> Cleaned:
        """The same for a complex, whose chains are joined with `|`. Each is cleaned by itself."""
        texts = sequence.split(BREAK)
        if len(texts) == 1:
            return self.clean(sequence)
        chains, notes, offsets, read, kept = [], [f"{len(texts)} chains, each read by itself"], [], 0, 0
        for number, text in enumerate(texts, 1):
            with at(f"chain {number}"):
                chain = self.clean(text)
            chains.append(chain.sequence)
            notes += [f"chain {number}: {note}" for note in chain.notes]
            offsets.append(read + chain.offsets[0] - kept)
            read, kept = read + len("".join(text.split())) + 1, kept + len(chain.sequence) + 1
        return Cleaned(BREAK.join(chains), tuple(notes), tuple(offsets))


def is_nucleic_acid(residues: str) -> bool:
    """Whether a sequence looks like DNA or RNA: A, C, G, T, U or N alone, but for one letter in twenty."""
    counts = Counter(residues)
    few_others = sum(counts[letter] for letter in "ACGTUN") >= 0.95 * len(residues)
    return len(residues) >= MIN_NUCLEOTIDES and few_others and len(counts.keys() & set("ACGTU")) > 2


def _normalise(sequence: str) -> tuple[str, list[str]]:
    end = len(sequence)
    while end and (sequence[end - 1] == "*" or sequence[end - 1].isspace()):
        end -= 1
    if bad := _NO_LETTER.search(sequence, 0, end):
        raise InputError(f"position {bad.start() + 1}: {_explain(bad[0])}")
    residues = "".join(sequence[:end].split()).upper()
    if not residues:
        raise InputError("empty sequence")
    notes = ["trailing * removed"] if "*" in sequence else []
    notes += _describe_doubts(residues)
    if unknown := _UNKNOWN.findall(residues):
        residues = _UNKNOWN.sub("X", residues)
        which = ", ".join(sorted(set(unknown)))
        notes.append(f"{pluralise(len(unknown), 'unknown letter')} ({which}) replaced by X")
    return residues, notes


def _describe_doubts(residues: str) -> list[str]:
    """Say what makes a sequence unlike a protein."""
    if is_nucleic_acid(residues):
        kind = "RNA" if "U" in residues and "T" not in residues else "DNA"
        return [f"reads as {kind}: translate it, unless it is a protein"]
    counts = Counter(residues)
    unknown = sum(number for letter, number in counts.items() if letter == "X" or letter not in RESIDUES)
    if 2 * unknown >= len(residues):
        return [f"{unknown / len(residues):.0%} of the residues are unknown (X)"]
    letter, number = counts.most_common(1)[0]
    if len(residues) >= MIN_LOW_COMPLEXITY and (2 * number >= len(residues) or len(counts) < 4):
        return [f"low complexity: {number / len(residues):.0%} of the residues are {letter}"]
    return []


def _explain(character: str) -> str:
    if character in "-.":
        return f"gap {character!r}. Give the sequence without its alignment."
    if character == "*":
        return "stop '*' inside the protein. Cut the sequence there, or translate it again."
    if character == BREAK:
        return f"{character!r} joins chains, and one chain is expected here."
    if character in ":/":
        return f"character {character!r}. Join the chains of a complex with {BREAK!r}."
    kind = "digit" if character.isdigit() else "character"
    name = "" if character.isascii() else f" ({unicodedata.name(character, 'no name')})"
    return f"{kind} {character!r}{name}. Expected one letter per residue."
