"""The example proteins in the repository."""

from paths import EXAMPLES

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.proteins import read_proteins

PROTEINS = EXAMPLES / "proteins.fasta"

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
    proteins = list(read_proteins(PROTEINS))
    assert {p.id.split("|")[0]: len(p.sequence) for p in proteins} == LENGTHS
    assert len(proteins) == len({p.id for p in proteins}) == len({p.sequence for p in proteins}) == 20


def test_example_proteins_are_clean():
    for protein in read_proteins(PROTEINS):
        assert set(protein.sequence) <= set(STANDARD_RESIDUES), protein.id
        cleaned = Cleaning(strip_tags=True).clean(protein.sequence)
        assert (cleaned.sequence, cleaned.notes) == (protein.sequence, ()), protein.id


def test_residue_ranges_in_the_headers_match_the_sequences():
    headers = [line for line in PROTEINS.read_text().splitlines() if line.startswith(">")]
    for header, protein in zip(headers, read_proteins(PROTEINS), strict=True):
        first, last = header.split("residues ")[1].split()[0].split("-")
        assert int(last) - int(first) + 1 == len(protein.sequence), header
