"""The report on what was left out of labelled sets, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from eqxesm.errors import pluralise


@dataclass(frozen=True)
class Portion:
    """What became of the proteins of one source, under one licence, in one split."""

    split: str
    source: str
    license: str | None
    read: int
    soluble: int
    kept: int
    left_out: dict[str, int]
    repeats: dict[str, int]


@dataclass(frozen=True)
class Overlap:
    """Sequences that two test sets share, and how many of them have opposite labels."""

    first: str
    second: str
    shared: int
    opposite: int


@dataclass(frozen=True)
class Hygiene:
    """What was read, what was left out and why. `limit` is in residues."""

    portions: tuple[Portion, ...]
    limit: int
    limit_rule: str
    leakage: dict[str, int | str]
    overlaps: tuple[Overlap, ...]
    data_digest: str

    def count(self, split: str, rule: str) -> int:
        """How many proteins of a split were left out by a rule."""
        return sum(portion.left_out.get(rule, 0) for portion in self.portions if portion.split == split)

    def format_leaks(self) -> str:
        return "; ".join(f"{kind}: {found}" for kind, found in self.leakage.items())

    def to_markdown(self) -> str:
        lines = ["| split | source | licence | read | soluble | left out | kept |", "|---|---|---|---:|---:|---|---:|"]
        for portion in self.portions:
            cells = (
                portion.split,
                portion.source,
                portion.license or "unknown",
                portion.read,
                f"{portion.soluble / portion.read:.1%}",
                format_counts(portion.left_out) or "none",
                portion.kept,
            )
            lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
        lines += ["", f"- Longest training protein: {self.limit} residues ({self.limit_rule})."]
        lines.append(f"- Leaks found and left out: {self.format_leaks()}.")
        lines += [
            f"- Test set {portion.split}, {portion.source}: {format_counts(portion.repeats)}. Kept, as published."
            for portion in self.portions
            if portion.repeats
        ]
        lines += [
            f"- Test sets {overlap.first} and {overlap.second} share "
            f"{pluralise(overlap.shared, 'sequence')}, {overlap.opposite} with opposite labels."
            for overlap in self.overlaps
        ]
        return "\n".join([*lines, f"- Data digest: {self.data_digest}"]) + "\n"


def format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())
