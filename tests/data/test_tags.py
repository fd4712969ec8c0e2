"""What vectors leave: every listed leader and trailer comes off, whole or cut, and true ends stay."""

import numpy as np
import pytest

from eqxesm.data.proteins import read_proteins
from eqxesm.data.tags import MIN_RESIDUES, find_tags
from eqxesm.data.vectors import LEADERS, LONGEST_END, TRAILERS, random_end

PROTEINS = (
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV",
    "MTRQKELVDWCIPNYFHAAWQDTEELMKRVQNPGYCIDW",
)


def strip(sequence: str) -> str:
    start, stop, notes = find_tags(sequence)
    assert len(notes) == (start > 0) + (stop < len(sequence))
    return sequence[start:stop]


def cut(row: tuple[str, str, str], *, before: bool) -> list[str]:
    """What stands before (or behind) a protein at every bar."""
    parts = row[1].split("|")
    if before:
        return ["".join(parts[:number]) for number in range(1, len(parts))]
    return ["".join(parts[number:]) for number in range(1, len(parts))]


@pytest.mark.parametrize("protein", PROTEINS)
@pytest.mark.parametrize("row", LEADERS, ids=[f"{row[0]}, {row[1]}" for row in LEADERS])
def test_leaders_come_off_whole_and_half_cut(row, protein):
    for leader in cut(row, before=True):
        for start in range(len(leader)):
            part = leader[start:]
            if len(part) < 4 or (part.startswith("M") and len(part) < 6):
                continue
            assert strip(part + protein) == protein, part


@pytest.mark.parametrize("protein", PROTEINS)
@pytest.mark.parametrize("row", TRAILERS, ids=[f"{row[0]}, {row[1]}" for row in TRAILERS])
def test_trailers_come_off_whole_and_half_cut(row, protein):
    for trailer in cut(row, before=False):
        for end in range(len(trailer), 4, -1):
            if set(trailer[:end]) != {"H"}:
                assert strip(protein + trailer[:end]) == protein, trailer[:end]


@pytest.mark.parametrize(
    "leader",
    ["SSGLVPRGSH", "GSG", "GSAKDPMV", "GAMGS", "MASWSHPQFEK", "ASMTGGQQMGRGS", "GPLGS", "SNA", "GSSGSSG", "GIDPFT",
     "GTGENLYFQ", "SGVDLGTENLYFQ", "MQQRLVPRGS", "AAYKDENLYFQG", "GGGGS", "SSGSSG"],
)  # fmt: skip
def test_leftovers_that_were_seen_come_off(leader):
    assert strip(leader + PROTEINS[0]) == PROTEINS[0]


def test_every_row_names_its_source():
    for name, residues, source in (*LEADERS, *TRAILERS):
        assert name
        assert source
        assert set(residues) <= set("ACDEFGHIKLMNPQRSTVWY|")
        assert "|" in residues
    assert len({row[1] for row in LEADERS}) == len(LEADERS)
    assert len({row[1] for row in TRAILERS}) == len(TRAILERS)


def test_enough_is_left():
    for leader in ("MGSSHHHHHHSSGLVPRGSH", "GSGSGSGSG"):
        for size in range(1, MIN_RESIDUES + 3):
            left = strip(leader + PROTEINS[0][:size])
            assert len(left) >= min(MIN_RESIDUES, len(leader) + size)


@pytest.mark.slow
def test_natural_proteins_keep_their_ends(shared):
    path = shared / "pretrain" / "unlabelled_0.fasta.gz"
    proteins = [protein for _, protein in zip(range(20_000), read_proteins(path), strict=False)]
    # Of the sources, this one has whole proteins as they are in nature.
    natural = [each.sequence for each in proteins if each.id.startswith("cfdb_uniprot")]
    assert len(natural) > 3000
    lost = [sequence for sequence in natural if strip(sequence) != sequence]
    assert len(lost) / len(natural) <= 0.005


@pytest.mark.parametrize("before", [True, False])
def test_random_ends_are_short_and_of_many_kinds(before):
    rng = np.random.default_rng(0)
    ends = [random_end(rng, before) for _ in range(2000)]
    assert {len(each) for each in ends} == set(range(1, LONGEST_END + 1))
    linkers = [each for each in ends if set(each) <= set("GSA")]
    assert 500 < len(linkers) < 1100
    assert len(set(ends)) > 1000
