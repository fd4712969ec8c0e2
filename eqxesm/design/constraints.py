"""What a design must keep to."""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from eqxesm.alphabet import BREAK, STANDARD_RESIDUES, Tokenizer, is_standard
from eqxesm.data.cleaning import Cleaned
from eqxesm.data.tags import find_tags
from eqxesm.errors import InputError, pluralise

_RANGE = re.compile(r"([1-9]\d{0,8})(?:-([1-9]\d{0,8}))?")


def parse_positions(text: str) -> list[int]:
    """Read positions and ranges of them, such as `1-20,57`. They count from 1."""
    positions: list[int] = []
    for word in re.split(r"[,\s]+", text.strip()):
        found = _RANGE.fullmatch(word)
        if found is None or (found[2] and int(found[2]) < int(found[1])):
            raise InputError(f"{word!r} is no position or range, expected such as 57 or 1-20")
        first, last = int(found[1]), int(found[2] or found[1])
        if last > 10**6:
            raise InputError(f"{word}: no protein is that long")
        positions += range(first, last + 1)
    return positions


@dataclass(frozen=True)
class Constraints:
    """At most `mutations`, none at `fixed` positions, and no forbidden residue or motif (a regular expression).

    `identity` is the least share of residues that stay.
    """

    mutations: int
    fixed: frozenset[int] = frozenset()
    forbidden: str = ""
    motifs: tuple[str, ...] = ()
    identity: float = 0.0


class Rules:
    """The constraints on designs of one protein, which was cleaned of what was read, the whole."""

    def __init__(self, constraints: Constraints, cleaned: Cleaned, whole: str):
        """Refuse constraints that no design keeps to."""
        self.wild_type = sequence = cleaned.sequence
        self._whole, self._positions = whole, cleaned.positions
        self.mutations = min(constraints.mutations, int((1 - constraints.identity) * len(sequence) + 1e-9))
        tokens = Tokenizer().encode(sequence)[1:-1]
        if outside := [each for each in sorted(constraints.fixed) if each > len(whole)]:
            raise InputError(f"position {outside[0]} is to be fixed, but the protein has {len(whole):,} residues")
        fixed = np.array([position in constraints.fixed for position in self._positions])
        self.free: Bool[np.ndarray, " residues"] = ~fixed & np.asarray(is_standard(tokens))
        if self.mutations < 1:
            raise InputError(f"{self.mutations} mutations are allowed, expected at least 1")
        if not self.free.any():
            raise InputError("every position is fixed, so there is nothing to design")
        if unknown := set(constraints.forbidden) - set(STANDARD_RESIDUES):
            raise InputError(f"{'and'.join(sorted(unknown))}: no standard residue, so it cannot be forbidden")
        self.allowed: Bool[np.ndarray, " 20"] = np.array(
            [each not in constraints.forbidden for each in STANDARD_RESIDUES]
        )
        if not self.allowed.any():
            raise InputError("every residue is forbidden")
        own = [number for number, each in enumerate(sequence) if each in constraints.forbidden]
        kept = [number for number in own if not self.free[number]]
        if kept:
            residue = f"{sequence[kept[0]]}{self._positions[kept[0]]}"
            raise InputError(f"{residue} is forbidden and fixed: allow the residue, or free the position")
        if len(own) > self.mutations:
            more = f"more than the {pluralise(self.mutations, 'mutation')} allowed"
            raise InputError(f"the protein has {len(own)} forbidden residues, {more}")
        self.must_change = own
        try:
            self._motifs = [re.compile(each) for each in constraints.motifs]
        except re.error as error:
            raise InputError(f"--forbid-motif: no regular expression ({error})") from error
        self._ends = _find_ends(whole)

    def keeps(self, sequence: str) -> bool:
        """Whether a design keeps to the rules."""
        changed = find_changes(self.wild_type, sequence)
        if not 0 < len(changed) <= self.mutations or not self.free[changed].all():
            return False
        if not set(self.must_change) <= set(changed) or any(not self._may_be(sequence[n]) for n in changed):
            return False
        # Nor a tag or what a vector leaves: the predictor strips these, and others take them for a gain.
        if _find_ends(self.restore(sequence)) != self._ends:
            return False
        return not any(each.search(sequence) for each in self._motifs)

    def restore(self, sequence: str) -> str:
        """A design within the whole of what was read."""
        letters = list(self._whole)
        for number in find_changes(self.wild_type, sequence):
            letters[self._positions[number] - 1] = sequence[number]
        return "".join(letters)

    def name_changes(self, sequence: str) -> list[str]:
        """The substitutions of a design, as A123V, by positions as read."""
        changed = find_changes(self.wild_type, sequence)
        return [f"{self.wild_type[n]}{self._positions[n]}{sequence[n]}" for n in changed]

    def _may_be(self, letter: str) -> bool:
        return bool(self.allowed[STANDARD_RESIDUES.index(letter)])


def find_changes(wild_type: str, sequence: str) -> list[int]:
    """Where two sequences differ, from 0."""
    return [number for number, (a, b) in enumerate(zip(wild_type, sequence, strict=True)) if a != b]


def _find_ends(whole: str) -> list[tuple[int, int]]:
    """Where each chain begins and ends without its tags."""
    return [find_tags(chain)[:2] for chain in whole.split(BREAK)]
