"""Expression tags: where they are, and what is left when they are taken off.

Tags are stripped because they say how a laboratory worked, not whether the protein is soluble.
Known are His tags with the vector residues around them, and the scars that proteases leave. Fusion
partners (GST, MBP, SUMO) and other epitopes are left in place.
"""

import re

from eqxesm.errors import pluralise

HIS_RUN = re.compile("H{6,}")
"""A His tag: vectors carry six or more. Near an end runs of four and five are rare and natural."""

MAX_DISTANCE = 24
"""Residues between a His tag and its end of the chain, at most. In the labelled sets tags lie within
17 residues of the N-terminus and 10 of the C-terminus, and the next run is past 40."""

MIN_RESIDUES = 20
"""Residues that stripping must leave. Where it would leave fewer, it strips nothing."""

N_SITES: tuple[tuple[str, str], ...] = (
    ("TEV", "ENLYFQ(?:SNA|GSH(?=M)|GS(?=M)|G[AH](?=M)|[GS])?"),
    ("thrombin", "LVPR(?:GSHMASMTGGQQMGR(?:GS)?|GSH(?=M)|GS)?"),
    ("HRV 3C", "LE(?:VLF|AQT)Q(?:GPLGS|GPGS|GPH(?=M)|GP)?"),
    ("enterokinase", "DDDDK"),
    ("factor Xa", "I[ED]GR(?:H(?=M))?"),
)
"""Protease sites between an N-terminal tag and the protein, with the vector residues after the cut."""

N_LINKERS: tuple[tuple[str, str], ...] = (
    ("pTrcHis", "GMASMTGGQQMGR?|GMAS"),
    ("pETDuet", "SQDP"),
    ("pQE-30 and pRSET", "TDPALR|TDP"),
    ("serine and glycine", "SSG|GSG|GS"),
    ("NdeI", "SH"),
    ("before the start Met", "[GS](?=M)"),
)
"""Residues after an N-terminal His tag that has no protease site."""

C_LINKERS: tuple[tuple[str, str], ...] = (
    ("protease site", "(?:ENLYFQ|LVPR|LEVLFQ).{0,12}"),
    ("pET, HindIII or NotI to XhoI", "K?LAAALE|AAALE|LE"),
    ("pSGX3", "EG"),
    ("glycine and serine", "EGGS|GS|RS"),
)
"""Residues before a C-terminal His tag."""

SCARS: tuple[tuple[str, str], ...] = (
    # Only both ends together: MSL by itself is a common natural start.
    ("pSGX3", "MSL(?=.*EGH{6}$)"),
    ("TEV, pMCSG", "SNA"),
    ("HRV 3C", "GPLGS|GPGS|GPH(?=M)"),
    ("RIKEN", "GSSGSSG"),
    ("thrombin, NdeI", "GSH(?=M)"),
    ("TEV, NdeI or NcoI", "G[AH](?=M)"),
    ("before the start Met", "(?:GS|G|S)(?=M)"),
)
"""Residues that a vector, or a protease that cut off a tag, leaves before a protein."""


def _alternatives(table: tuple[tuple[str, str], ...]) -> str:
    return "|".join(pattern for _, pattern in table)


_AFTER_N_RUN = re.compile(f".{{0,20}}(?:{_alternatives(N_SITES)})|{_alternatives(N_LINKERS)}")
_BEFORE_C_RUN = re.compile(f"(?:{_alternatives(C_LINKERS)})$")
_SCAR = re.compile(_alternatives(SCARS))


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


def strip_tags(residues: str) -> tuple[str, list[str]]:
    """Strip tags and scars from both ends of an upper-case sequence, with a note for each end."""
    start, end, notes = 0, len(residues), []
    if run := _n_run(residues):
        linker = _AFTER_N_RUN.match(residues, run.end())
        start = linker.end() if linker else run.end()
        notes.append(f"N-terminal tag of {pluralise(start, 'residue')} stripped")
    elif scar := _SCAR.match(residues):
        start = scar.end()
        notes.append(f"N-terminal vector scar of {pluralise(start, 'residue')} stripped")
    if run := _c_run(residues):
        linker = _BEFORE_C_RUN.search(residues, 0, run.start())
        end = linker.start() if linker else run.start()
        notes.append(f"C-terminal tag of {pluralise(len(residues) - end, 'residue')} stripped")
    return (residues[start:end], notes) if end - start >= MIN_RESIDUES else (residues, [])
