"""Expression tags and what vectors leave of them: where they are, and what is left when they are taken off.

They are stripped because they say how a laboratory worked, not whether the protein is soluble. Known are His
tags, the residues in `vectors`, and the sites of proteases. Fusion partners (GST, MBP, SUMO) stay in place.
"""

import re
from collections.abc import Iterable
from functools import cache

from eqxesm.data.vectors import LEADERS, S_TAG, TRAILERS, Table
from eqxesm.errors import pluralise

HIS_RUN = re.compile("H{6,}")
"""A His tag: vectors carry six or more. Near an end runs of four and five are rare and natural."""

MAX_DISTANCE = 24
"""Residues between a His tag and its end of the chain, at most. In the labelled sets tags lie within
17 residues of the N-terminus and 10 of the C-terminus, and the next run is past 40."""

SITE_DISTANCE = 40
"""Residues between a protease site and its end of the chain, at most."""

MIN_RESIDUES = 20
"""Residues that stripping must leave. What would leave fewer is not stripped."""

LONGEST = 80
"""More than what any vector puts at an end."""

_SITE = re.compile("ENLYFQ|LVPR(?=GS)|LE(?:VLF|AQT)Q(?=GP)|DDDDK")
"""Sites of TEV protease, thrombin, HRV 3C (two) and enterokinase, up to the cut."""

_SITE_AFTER_RUN = re.compile(".{0,20}?(ENLYFQ|LVPR|LE(?:VLF|AQT)Q|DDDDK|I[ED]GR)")
"""Between a His tag and the protein, shorter sites tell enough."""

_SITE_AT_END = re.compile("ENLYFQ|LVPRGS|LEVLFQGP")

_BEHIND_CUT = re.compile("GS|GP|[GS]")
"""What a site has behind the cut, which stays before the protein."""

_SHORT = re.compile("SNA|GPLGS|GPGS|GPH(?=M)|GSH(?=M)|G[AH](?=M)|[GS]{3,}|(?:GS|G|S|H|SH)(?=M)|MSL(?=.*EGH{6}$)")
"""Residues that stay before a protein when a tag is cut off, or when a linker is cut within.

The last is of pSGX3, which has its tag at the other end: MSL by itself is a common natural start."""

_LINKER_AT_END = re.compile("[GS]{4,}$")
"""A linker of glycine and serine. One protein of UniProt in a thousand ends like that."""


def _n_run(sequence: str) -> re.Match[str] | None:
    length = len(sequence)
    # In a short chain a run may be in reach of both ends: it belongs to the nearer one.
    runs = [run for run in HIS_RUN.finditer(sequence) if run.start() <= length - run.end()]
    near = [run for run in runs if run.start() <= MAX_DISTANCE]
    return near[-1] if near else None


def _c_run(sequence: str) -> re.Match[str] | None:
    length = len(sequence)
    runs = [run for run in HIS_RUN.finditer(sequence) if run.start() > length - run.end()]
    near = [run for run in runs if length - run.end() <= MAX_DISTANCE]
    return near[0] if near else None


def has_n_tag(sequence: str) -> bool:
    """Whether an upper-case sequence has a His tag near its N-terminus."""
    return _n_run(sequence) is not None


def has_c_tag(sequence: str) -> bool:
    """Whether an upper-case sequence has a His tag near its C-terminus."""
    return _c_run(sequence) is not None


class _Texts:
    """Some texts of at least so many residues, and the longest one that a sequence begins with."""

    def __init__(self, texts: Iterable[str], least: int):
        self.known = frozenset(texts)
        self.least = least
        # Most sequences begin with none of these.
        self.starts = frozenset(text[:least] for text in self.known)

    def longest(self, residues: str) -> int:
        if residues[: self.least] not in self.starts:
            return 0
        sizes = range(min(LONGEST, len(residues)), self.least - 1, -1)
        return next((size for size in sizes if residues[:size] in self.known), 0)


def _up_to_bars(vector: str) -> list[str]:
    """What a vector has up to each place where a protein may begin."""
    parts = vector.split("|")
    return ["".join(parts[:number]) for number in range(1, len(parts))]


@cache
def _leader_ends() -> _Texts:
    """What leaders end in where a protein may begin, from 4 residues on, or 6 with a Met before them."""
    found = set()
    for _, leader, _ in LEADERS:
        for whole in _up_to_bars(leader):
            found |= {whole[start:] for start in range(len(whole) - 3)}
    return _Texts((each for each in found if len(each) >= (6 if each.startswith("M") else 4)), 4)


def _pieces(table: Table, least: int) -> set[str]:
    """Any piece of the rows from so many residues on."""
    wholes = [row[1].replace("|", "") for row in table]
    pieces = {
        whole[start:end]
        for whole in wholes
        for start in range(len(whole))
        for end in range(start + least, len(whole) + 1)
    }
    # Fewer than six His in a row may be the protein's own.
    return {each for each in pieces if set(each) - set("MH") and each not in S_TAG}


@cache
def _leader_pieces() -> _Texts:
    return _Texts(_pieces(LEADERS, 6), 6)


@cache
def _trailer_pieces() -> _Texts:
    """Reversed, so that the end of a sequence is where they begin."""
    return _Texts((each[::-1] for each in _pieces(TRAILERS, 5)), 5)


@cache
def _after_runs() -> _Texts:
    """What leaders have between a His tag and the protein."""
    return _Texts(_beside_runs(leader for _, leader, _ in LEADERS), 1)


@cache
def _before_runs() -> _Texts:
    """What trailers have between the protein and a His tag, reversed."""
    return _Texts(_beside_runs(trailer[::-1] for _, trailer, _ in TRAILERS), 1)


def _beside_runs(vectors: Iterable[str]) -> set[str]:
    found = set()
    for vector in vectors:
        _, run, after = vector.rpartition("HHHHHH")
        if run:
            found |= set(_up_to_bars(after))
    return found - {""}


def _end_of_site(residues: str, start: int, cut: int) -> int:
    """Where the protein begins behind a protease site."""
    behind = [match.end() for pattern in (_BEHIND_CUT, _SHORT) if (match := pattern.match(residues, cut))]
    return max(cut, *behind, start + _leader_ends().longest(residues[start:]))


def _leader_of(residues: str) -> int:
    """How many residues come off next at the start."""
    sizes = [_leader_ends().longest(residues)]
    if residues.startswith("M") and (size := _leader_ends().longest(residues[1:])) > 5:
        sizes.append(size + 1)
    if site := _SITE.search(residues, 0, SITE_DISTANCE + 8):
        sizes.append(_end_of_site(residues, site.start(), site.end()))
    if largest := max(sizes):
        return largest
    if size := _leader_pieces().longest(residues):
        return size
    short = _SHORT.match(residues)
    return short.end() if short else 0


def _trailer_of(residues: str) -> int:
    """How many residues come off next at the end."""
    first = max(0, len(residues) - SITE_DISTANCE - 8)
    site = _SITE_AT_END.search(residues, first)
    piece = _trailer_pieces().longest(residues[: -LONGEST - 1 : -1])
    longest = max(piece, len(residues) - site.start() if site else 0)
    if longest:
        return longest
    linker = _LINKER_AT_END.search(residues, max(0, len(residues) - LONGEST))
    return len(linker.group()) if linker else 0


def find_tags(residues: str) -> tuple[int, int, list[str]]:
    """Where the protein begins and ends between tags and what vectors left, with a note for each end that has some."""
    n_run, c_run = _n_run(residues), _c_run(residues)
    start = end = 0
    if n_run:
        if site := _SITE_AFTER_RUN.match(residues, n_run.end()):
            start = _end_of_site(residues, site.start(1), site.end(1))
        else:
            start = n_run.end() + _after_runs().longest(residues[n_run.end() :])
    if c_run:
        end = len(residues) - c_run.start() + _before_runs().longest(residues[: c_run.start()][::-1])

    def rest(start: int, end: int) -> str:
        return residues[start : len(residues) - end]

    if len(rest(start, end)) < MIN_RESIDUES:
        return 0, len(residues), []
    # With its end, which one scar is told by.
    while (size := _leader_of(residues[start:])) and len(rest(start + size, end)) >= MIN_RESIDUES:
        start += size
    while (size := _trailer_of(rest(start, end))) and len(rest(start, end + size)) >= MIN_RESIDUES:
        end += size
    notes = []
    for place, run, size in (("N", n_run, start), ("C", c_run, end)):
        if size:
            notes.append(f"{place}-terminal {'tag' if run else 'vector scar'} of {pluralise(size, 'residue')} stripped")
    return start, len(residues) - end, notes
