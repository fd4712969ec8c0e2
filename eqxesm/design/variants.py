"""Variants of a protein, in the usual notation: `A123V`, several joined by `:`."""

import re
from dataclasses import dataclass
from pathlib import Path

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.errors import InputError, at
from eqxesm.files import check_input

_SUBSTITUTION = re.compile(rf"([A-Z])([1-9]\d{{0,8}})([{STANDARD_RESIDUES}])")


@dataclass(frozen=True)
class Substitution:
    """A residue and what replaces it. Positions count from 1."""

    wild_type: str
    position: int
    mutant: str

    def __str__(self) -> str:
        return f"{self.wild_type}{self.position}{self.mutant}"


def parse_variant(text: str) -> tuple[Substitution, ...]:
    """Read a variant."""
    found = []
    for word in text.split(":"):
        match = _SUBSTITUTION.fullmatch(word.strip())
        if match is None:
            raise InputError(f"{word.strip()!r} is no substitution, expected one as A123V; several are joined by ':'")
        found.append(Substitution(match[1], int(match[2]), match[3]))
    positions = [each.position for each in found]
    if len(set(positions)) < len(positions):
        raise InputError(f"{text}: two substitutions at one position")
    return tuple(found)


def read_variants(path: Path) -> list[tuple[Substitution, ...]]:
    """Read a file with a variant in each line. Blank lines and those that begin with `#` are passed over."""
    check_input(path)
    variants = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if (text := line.strip()) and not text.startswith("#"):
            with at(f"{path}, line {number}"):
                variants.append(parse_variant(text))
    if not variants:
        raise InputError(f"{path}: no variants")
    return variants


def check_variant(variant: tuple[Substitution, ...], sequence: str) -> None:
    """Refuse a variant of another sequence."""
    for each in variant:
        if each.position > len(sequence):
            raise InputError(f"{each}: the protein has {len(sequence):,} residues")
        if sequence[each.position - 1] != each.wild_type:
            raise InputError(f"{each}: residue {each.position} is {sequence[each.position - 1]}, not {each.wild_type}")
