"""The report on what was left out of labelled sets, and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from eqxesm.data.tags import count


@dataclass(frozen=True)
class Portion:
    """What became of the proteins of one source under one licence in one split.

    Attributes:
        split: `training`, `validation` or the name of a test set.
        source: the collection.
        license: its terms, where they are known.
        read: number of proteins.
        soluble: number of soluble ones among them.
        kept: number that is left.
        left_out: number by the rule that left them out.
        repeats: number of a test set's proteins, kept as published, that repeat an earlier one or
            whose sequence has both labels.
    """

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
    """What was read, what was left out and why.

    Attributes:
        portions: by split, source and licence.
        limit: residues of the longest protein to train on.
        limit_rule: where that limit comes from.
        leakage: by kind of leak, number of training and validation proteins left out, or why it
            was not looked for.
        overlaps: of the test sets, those pairs that share sequences.
        data_digest: SHA-256 of the cleaned sequences and labels that are kept, in order.
    """

    portions: tuple[Portion, ...]
    limit: int
    limit_rule: str
    leakage: dict[str, int | str]
    overlaps: tuple[Overlap, ...]
    data_digest: str

    def to_plain(self) -> dict:
        """Write it as what JSON and YAML hold."""
        plain = asdict(self)
        return plain | {name: list(plain[name]) for name in ("portions", "overlaps")}

    def to_markdown(self) -> str:
        """Write it for people, in Markdown."""
        lines = [
            "| split | source | licence | read | soluble | left out | kept |",
            "|---|---|---|---:|---:|---|---:|",
        ]
        for portion in self.portions:
            cells = (
                portion.split,
                portion.source,
                portion.license or "not known",
                portion.read,
                f"{portion.soluble / portion.read:.1%}",
                listed(portion.left_out) or "none",
                portion.kept,
            )
            lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
        lines += ["", f"- Longest protein to train on: {self.limit} residues ({self.limit_rule})."]
        leaks = "; ".join(f"{kind}: {found}" for kind, found in self.leakage.items())
        lines.append(f"- Leaks found and left out: {leaks}.")
        lines += [
            f"- Test set {portion.split}, {portion.source}: {listed(portion.repeats)}; kept, as "
            "published."
            for portion in self.portions
            if portion.repeats
        ]
        lines += [
            f"- Test sets {overlap.first} and {overlap.second} share "
            f"{count(overlap.shared, 'sequence')}, {overlap.opposite} with opposite labels."
            for overlap in self.overlaps
        ]
        return "\n".join([*lines, f"- Data digest: {self.data_digest}"]) + "\n"


def listed(counts: Mapping[str, int]) -> str:
    """Spell counts out.

    Args:
        counts: numbers by name.

    Returns:
        Words with commas between them.
    """
    return ", ".join(f"{number} {name}" for name, number in counts.items())
