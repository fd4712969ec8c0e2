from pathlib import Path

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.records import read_records

PROTEINS = Path(__file__).parents[1] / "examples" / "proteins.fasta"

LENGTHS = {
    "P00698": 129,
    "P61823": 124,
    "P00974": 58,
    "P00648": 110,
    "P0CG48": 76,
    "P02185": 154,
    "P69905": 142,
    "P42212": 238,
    "P0AA25": 109,
    "P0ABQ4": 159,
    "P69441": 214,
    "P08515": 218,
    "P0DP23": 149,
    "P62937": 165,
    "P00441": 154,
    "P37840": 140,
    "P04637": 393,
    "P01308": 110,
    "P0A910": 346,
    "P02945": 262,
}


def test_example_proteins_have_the_lengths_of_their_accessions():
    records = read_records(PROTEINS)
    assert {r.id.split("|")[0]: len(r.sequence) for r in records} == LENGTHS
    assert len(records) == len({r.id for r in records}) == len({r.sequence for r in records}) == 20


def test_example_proteins_are_clean():
    for record in read_records(PROTEINS):
        assert set(record.sequence) <= set(STANDARD_RESIDUES), record.id
        cleaned = Cleaning(strip_tags=True).clean(record.sequence)
        assert (cleaned.sequence, cleaned.notes) == (record.sequence, ()), record.id


def test_residue_ranges_in_the_headers_match_the_sequences():
    headers = [line for line in PROTEINS.read_text().splitlines() if line.startswith(">")]
    for header, record in zip(headers, read_records(PROTEINS), strict=True):
        first, last = header.split("residues ")[1].split()[0].split("-")
        assert int(last) - int(first) + 1 == len(record.sequence), header
