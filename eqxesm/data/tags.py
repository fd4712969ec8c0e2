"""Expression tags: where they are, and what is left when they are taken off.

Tags are stripped because they tell how a laboratory worked, not whether the protein is soluble.
Known here are His tags with the vector residues around them, and the scars that proteases leave.
Fusion partners (GST, MBP, SUMO) and other epitopes are left where they are.
"""

import re

HIS_RUN = re.compile("H{6,}")
"""A His tag: vectors carry six or more. Near an end runs of four and five are rare and natural."""

REACH = 24
"""Residues that may stand between a His tag and its end of the chain. In the labelled sets tags
lie within 17 residues of the N-terminus and 10 of the C-terminus, and the next run is past 40."""

FLOOR = 20
"""Residues that stripping must leave; where it would leave fewer, it takes nothing."""

N_SITES: tuple[tuple[str, str], ...] = (
    ("TEV", "ENLYFQ(?:SNA|GSH(?=M)|GS(?=M)|G[AH](?=M)|[GS])?"),
    ("thrombin", "LVPR(?:GSHMASMTGGQQMGR(?:GS)?|GSH(?=M)|GS)?"),
    ("HRV 3C", "LE(?:VLF|AQT)Q(?:GPLGS|GPGS|GPH(?=M)|GP)?"),
    ("enterokinase", "DDDDK"),
    ("factor Xa", "I[ED]GR(?:H(?=M))?"),
)
"""Protease sites between an N-terminal tag and the protein, with what is left beyond the cut."""

N_LINKERS: tuple[tuple[str, str], ...] = (
    ("pTrcHis", "GMASMTGGQQMGR?|GMAS"),
    ("pETDuet", "SQDP"),
    ("pQE-30 and pRSET", "TDPALR|TDP"),
    ("serine and glycine", "SSG|GSG|GS"),
    ("NdeI", "SH"),
    ("before the start Met", "[GS](?=M)"),
)
"""What follows an N-terminal His tag where there is no protease site."""

C_LINKERS: tuple[tuple[str, str], ...] = (
    ("protease site", "(?:ENLYFQ|LVPR|LEVLFQ).{0,12}"),
    ("pET, HindIII or NotI to XhoI", "K?LAAALE|AAALE|LE"),
    ("pSGX3", "EG"),
    ("glycine and serine", "EGGS|GS|RS"),
)
"""What stands before a C-terminal His tag."""

SCARS: tuple[tuple[str, str], ...] = (
    # Only together: by itself MSL is a common natural start.
    ("pSGX3", "MSL(?=.*EGH{6}$)"),
    ("TEV, pMCSG", "SNA"),
    ("HRV 3C", "GPLGS|GPGS|GPH(?=M)"),
    ("RIKEN", "GSSGSSG"),
    ("thrombin, NdeI", "GSH(?=M)"),
    ("TEV, NdeI or NcoI", "G[AH](?=M)"),
    ("before the start Met", "(?:GS|G|S)(?=M)"),
)
"""What a vector, or a protease that cut a tag off, leaves in front of a protein."""


def _any(table: tuple[tuple[str, str], ...]) -> str:
    return "|".join(pattern for _, pattern in table)


_AFTER_N_RUN = re.compile(f".{{0,20}}(?:{_any(N_SITES)})|{_any(N_LINKERS)}")
_BEFORE_C_RUN = re.compile(f"(?:{_any(C_LINKERS)})$")
_SCAR = re.compile(_any(SCARS))


def _n_run(sequence: str) -> re.Match[str] | None:
    length = len(sequence)
    # In a short chain a run may be in reach of both ends: it belongs to the nearer one.
    runs = [run for run in HIS_RUN.finditer(sequence) if run.start() <= length - run.end()]
    near = [run for run in runs if run.start() <= REACH]
    return near[-1] if near else None


def _c_run(sequence: str) -> re.Match[str] | None:
    length = len(sequence)
    runs = [run for run in HIS_RUN.finditer(sequence) if run.start() > length - run.end()]
    near = [run for run in runs if length - run.end() <= REACH]
    return near[0] if near else None


def has_n_tag(sequence: str) -> bool:
    """Tell whether a His tag stands near the N-terminus.

    Args:
        sequence: residues in upper case.

    Returns:
        True if at most `REACH` residues stand before a run of six or more His.
    """
    return _n_run(sequence) is not None


def has_c_tag(sequence: str) -> bool:
    """Tell whether a His tag stands near the C-terminus.

    Args:
        sequence: residues in upper case.

    Returns:
        True if at most `REACH` residues stand after a run of six or more His.
    """
    return _c_run(sequence) is not None


def strip_tags(residues: str) -> tuple[str, list[str]]:
    """Take expression tags and vector scars off both ends.

    Args:
        residues: the protein in upper case.

    Returns:
        The residues that are left, a contiguous part of at least `FLOOR` of them unless nothing
        was taken, and a note on each end that was.
    """
    start, end, notes = 0, len(residues), []
    if run := _n_run(residues):
        linker = _AFTER_N_RUN.match(residues, run.end())
        start = linker.end() if linker else run.end()
        notes.append(f"N-terminal tag of {count(start, 'residue')} stripped")
    elif scar := _SCAR.match(residues):
        start = scar.end()
        notes.append(f"N-terminal vector scar of {count(start, 'residue')} stripped")
    if run := _c_run(residues):
        linker = _BEFORE_C_RUN.search(residues, 0, run.start())
        end = linker.start() if linker else run.start()
        notes.append(f"C-terminal tag of {count(len(residues) - end, 'residue')} stripped")
    return (residues[start:end], notes) if end - start >= FLOOR else (residues, [])


def count(number: int, thing: str) -> str:
    """Write a number of things.

    Args:
        number: how many.
        thing: what, in the singular.

    Returns:
        Such as `1 residue` or `2 residues`.
    """
    return f"{number} {thing}" + "s" * (number != 1)
