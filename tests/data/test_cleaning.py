"""Cleaning: one spelling for every protein, faults by their position, tags stripped and nothing else."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqxesm.alphabet import RESIDUES
from eqxesm.data.cleaning import Cleaned, Cleaning
from eqxesm.data.tags import MAX_DISTANCE, MIN_RESIDUES, has_c_tag, has_n_tag
from eqxesm.errors import InputError

PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV"
TAGS = Cleaning(strip_tags=True)


@pytest.mark.parametrize(
    ("given", "cleaned", "notes"),
    [
        ("MKV", "MKV", ()),
        (" mk v\n\tLL\r\n", "MKVLL", ()),
        ("MKV*", "MKV", ("trailing * removed",)),
        ("MKV ** \n", "MKV", ("trailing * removed",)),
        ("MJKV", "MXKV", ("1 unknown letter (J) replaced by X",)),
        ("jJAK", "XXAK", ("50% of the residues are unknown (X)", "2 unknown letters (J) replaced by X")),
        (RESIDUES, RESIDUES, ()),
    ],
)
def test_one_spelling_for_every_protein(given, cleaned, notes):
    assert Cleaning().clean(given) == Cleaned(cleaned, notes)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("MK-V", "position 3: gap '-'. Give the sequence without its alignment"),
        ("M .V", "position 3: gap '.'"),
        ("MKV-", "position 4: gap '-'"),
        ("  MK4V", "position 5: digit '4'"),
        ("MK*V*", "position 3: stop '*' inside the protein"),
        ("MK|V", "position 3: '|' joins chains, and one chain is expected"),
        ("MK_", "position 3: character '_'"),
        ("MKé", "position 3: character 'é'"),
        ("Mß", "position 2: character 'ß'"),
        ("M\0", "position 2: character '\\x00'"),
        ("", "empty sequence"),
        (" \n", "empty sequence"),
        ("*", "empty sequence"),
    ],
)
def test_refuses_what_is_not_a_sequence(given, said):
    with pytest.raises(InputError) as caught:
        Cleaning(strip_tags=True, strip_initial_met=True).clean(given)
    message = str(caught.value)
    assert message.startswith(said)
    assert "\n" not in message


N_TAGS = {
    "MGSSHHHHHHSSGLVPRGSH": "pET-28, thrombin, NdeI",
    "MGSSHHHHHHSSGLVPRGSHMASMTGGQQMGRGS": "pET-28, T7 tag",
    "MGSSHHHHHHSQDP": "pETDuet",
    "MGSSHHHHHHSSGRENLYFQGH": "TEV, NdeI",
    "MGSSHHHHHHSSGLEVLFQGPLGS": "HRV 3C, pGEX",
    "MHHHHHHSSGVDLGTENLYFQS": "pMCSG7",
    "MHHHHHHSSGVDLGTENLYFQSNA": "pMCSG7, LIC",
    "MGSDKIHHHHHH": "JCSG",
    "MGSDKIHHHHHHENLYFQG": "JCSG, TEV",
    "MGSDKIHHHHHHSSGENLYFQGH": "TEV, NdeI",
    "MAHHHHHHMGTLEAQTQGPGS": "SSGCID",
    "MAHHHHHHVDDDDK": "enterokinase",
    "MRGSHHHHHHGMASMTGGQQMGRDLYDDDDK": "pRSET",
    "MGHHHHHHHHHHSSGHIEGRH": "pET-16, factor Xa",
    "MGHHHHHHSH": "NdeI",
    "MRGSHHHHHHGS": "pQE-30",
    "MRGSHHHHHHTDPALR": "pQE-30",
    "MSYYHHHHHHDYDIPTTENLYFQGA": "pET-151, NcoI",
    "MSGLNDIFEAQKIEWHEHHHHHHSSG": "AviTag",
    "MHHHHHHSHMHHHHHHSH": "two runs",
    "MHHHHHH": "bare",
    "HHHHHHHHHH": "bare, ten",
}


@pytest.mark.parametrize("tag", N_TAGS, ids=N_TAGS.values())
def test_strips_n_terminal_tags(tag):
    note = f"N-terminal tag of {len(tag)} residues stripped"
    assert TAGS.clean(tag + PROTEIN) == Cleaned(PROTEIN, (note,), (len(tag),))
    assert has_n_tag(tag + PROTEIN)
    assert not has_c_tag(tag + PROTEIN)


C_TAGS = (
    "LEHHHHHH",
    "AAALEHHHHHH",
    "KLAAALEHHHHHH",
    "EGGSHHHHHH",
    "GSHHHHHHHHHH",
    "HHHHHH",
    "LVPRGSLEHHHHHH",
    "ENLYFQSHHHHHHDYKDDDDK",
)


@pytest.mark.parametrize("tag", C_TAGS)
def test_strips_c_terminal_tags(tag):
    note = f"C-terminal tag of {len(tag)} residues stripped"
    assert TAGS.clean(PROTEIN + tag) == Cleaned(PROTEIN, (note,))
    assert has_c_tag(PROTEIN + tag)
    assert not has_n_tag(PROTEIN + tag)


@pytest.mark.parametrize("scar", ["GSH", "GH", "SNA", "GPLGS", "GPGS", "GPH", "GA", "GS", "G", "S", "GSSGSSG"])
def test_strips_scars(scar):
    note = f"N-terminal vector scar of {len(scar)} residue{'s' * (len(scar) > 1)} stripped"
    assert TAGS.clean(scar + PROTEIN) == Cleaned(PROTEIN, (note,), (len(scar),))


def test_strips_both_ends():
    cleaned = TAGS.clean("MSL" + PROTEIN[1:] + "EGHHHHHH")
    assert cleaned.sequence == PROTEIN[1:]
    assert cleaned.notes == ("N-terminal vector scar of 3 residues stripped", "C-terminal tag of 8 residues stripped")
    both = "MHHHHHH" + PROTEIN + "LEHHHHHH"
    assert has_n_tag(both)
    assert has_c_tag(both)
    assert TAGS.clean(both).sequence == PROTEIN


@pytest.mark.parametrize(
    "sequence",
    [
        PROTEIN,
        PROTEIN + "HHHHHH" + PROTEIN,
        PROTEIN[:30] + "HHHHHHHHHH" + PROTEIN,
        "MHHHHH" + PROTEIN,
        "MSL" + PROTEIN,
        "GSHKV" + PROTEIN[1:],
        "GSKV" + PROTEIN[1:],
        "SKV" + PROTEIN[1:],
        "MGS" + PROTEIN[1:],
        "MSSG" + PROTEIN[1:],
        "MGHM" + PROTEIN[1:],
        PROTEIN + "HHHHH",
        PROTEIN + "SSG",
    ],
)
def test_leaves_what_is_not_a_tag(sequence):
    assert TAGS.clean(sequence) == Cleaned(sequence, ())
    assert not has_n_tag(sequence)
    assert not has_c_tag(sequence)


def test_a_tag_is_near_an_end():
    assert has_n_tag("A" * MAX_DISTANCE + "HHHHHH" + PROTEIN)
    assert not has_n_tag("A" * (MAX_DISTANCE + 1) + "HHHHHH" + PROTEIN)
    assert has_c_tag(PROTEIN + "HHHHHH" + "A" * MAX_DISTANCE)
    assert not has_c_tag(PROTEIN + "HHHHHH" + "A" * (MAX_DISTANCE + 1))


def test_a_short_chain_has_its_tag_at_the_nearer_end():
    assert (has_n_tag("MAHHHHHHAAA"), has_c_tag("MAHHHHHHAAA")) == (True, False)
    assert (has_n_tag("MAAAHHHHHHAA"), has_c_tag("MAAAHHHHHHAA")) == (False, True)
    assert (has_n_tag("AAHHHHHHAA"), has_c_tag("AAHHHHHHAA")) == (True, False)


def test_strips_nothing_where_too_little_would_be_left():
    assert TAGS.clean("MHHHHHH" + PROTEIN[:MIN_RESIDUES]).sequence == PROTEIN[:MIN_RESIDUES]
    short = "MHHHHHH" + PROTEIN[: MIN_RESIDUES - 1]
    assert TAGS.clean(short) == Cleaned(short, ())


def test_tags_are_found_in_any_spelling():
    assert TAGS.clean("mhhh hhhlvprgsh\n" + PROTEIN.lower() + "*").sequence == PROTEIN


@pytest.mark.parametrize(
    ("given", "cleaned", "notes"), [("MKV", "KV", ()), ("MMKV", "MKV", ()), ("KMV", "KMV", ()), ("M", "M", ())]
)
def test_strips_the_initial_met(given, cleaned, notes):
    assert Cleaning(strip_initial_met=True).clean(given) == Cleaned(cleaned, notes, (len(given) - len(cleaned),))


def test_initial_met_is_stripped_after_the_tag():
    cleaned = Cleaning(strip_tags=True, strip_initial_met=True).clean("MHHHHHHENLYFQG" + PROTEIN)
    assert (cleaned.sequence, cleaned.offsets) == (PROTEIN[1:], (15,))
    assert cleaned.notes == ("N-terminal tag of 14 residues stripped",)


@given(st.text("MGSHLVPRENYFQKADIJ *hm", min_size=1), st.booleans())
def test_a_cleaned_sequence_is_a_part_of_the_given_one(sequence, strip):
    spelled = "".join(sequence.rstrip("* ").split()).upper().replace("J", "X")
    if not spelled or "*" in spelled:
        with pytest.raises(InputError):
            Cleaning(strip_tags=strip).clean(sequence)
        return
    found = Cleaning(strip_tags=strip).clean(sequence)
    cleaned = found.sequence
    assert cleaned
    assert spelled[found.offsets[0] :].startswith(cleaned)
    assert strip or cleaned == spelled
    assert cleaned == spelled or len(cleaned) >= MIN_RESIDUES


def test_no_tag_is_left_in_the_pool(shared):
    with (shared / "train_pool" / "pool.csv").open(newline="") as file:
        sequences = [row["sequences"] for row in csv.DictReader(file) if row["license"] == "MIT"]
    tagged = [sequence for sequence in sequences if has_n_tag(sequence) or has_c_tag(sequence)]
    cleaned = [TAGS.clean(sequence).sequence for sequence in tagged]
    assert len(tagged) > 1000
    left = [sequence for sequence in cleaned if has_n_tag(sequence) or has_c_tag(sequence)]
    assert not left
    # The tag precedes a whole protein, so what is left starts with its Met.
    starts = [c[0] for s, c in zip(tagged, cleaned, strict=True) if has_n_tag(s)]
    assert starts.count("M") > 0.8 * len(starts)


@pytest.mark.parametrize(
    ("sequence", "note"),
    [
        ("ACGT" * 3, "reads as DNA: translate it, unless it is a protein"),
        ("acgu" * 10, "reads as RNA: translate it, unless it is a protein"),
        ("ATGNNNCCC" * 5, "reads as DNA: translate it, unless it is a protein"),
        ("ACGT" * 8 + "R", "reads as DNA: translate it, unless it is a protein"),
        ("X" * 30, "100% of the residues are unknown (X)"),
        ("MKV" + "X" * 9, "75% of the residues are unknown (X)"),
        ("A" * 60, "low complexity: 100% of the residues are A"),
        ("MKVLAWER" + "Q" * 12, "low complexity: 60% of the residues are Q"),
        ("GAS" * 10, "low complexity: 33% of the residues are G"),
    ],
)
def test_what_is_hardly_a_protein_is_noted(sequence, note):
    assert Cleaning().clean(sequence) == Cleaned(sequence.upper(), (note,))


@pytest.mark.parametrize("sequence", ["ACGT" * 2 + "ACG", "ACGT" * 4 + "KV", "MKVXX", "GAGAS", PROTEIN])
def test_a_protein_is_not_noted(sequence):
    assert Cleaning().clean(sequence) == Cleaned(sequence, ())


def test_a_truncated_protein_is_noted_and_cut_after_its_tag():
    cleaning = Cleaning(strip_tags=True, strip_initial_met=True, truncate=10)
    cut = cleaning.clean("MHHHHHHENLYFQG" + PROTEIN)
    assert cut.sequence == PROTEIN[1:11]
    assert cut.notes[1:] == ("cut to its first 10 residues, as in training",)
    assert cleaning.clean("M" + PROTEIN[:10]) == Cleaned(PROTEIN[:10], (), (1,))
