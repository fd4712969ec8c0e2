"""Complexes: chains are cleaned and read one by one, and their residues are pooled together."""

import csv

import equinox as eqx
import h5py
import jax
import numpy as np
import pytest
from commands import assert_refused

from eqxesm import ESMC, ESMCConfig, InputError, SolubilityModel, Tokenizer
from eqxesm.alphabet import PAD, RESIDUES, letter_rows
from eqxesm.data.cleaning import Cleaned, Cleaning
from eqxesm.design import integrated_gradients
from eqxesm.design.constraints import Constraints, Rules
from eqxesm.encoders import as_probabilities, chain_ids, residue_mask
from heads import WindowMLP, WindowMLPConfig

TAG = "MGSSHHHHHHSSGLVPRGSH"
FIRST, SECOND = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRV", "SLAKWKRQTLGQHDFSAGEGLYTHMKALRPDEDRLSPLHSVYV"
TAGGED = f"{TAG}{FIRST}|{SECOND}HHHHHH"


def read(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def encoder():
    return ESMC(ESMCConfig(2, 16, 2, 32), key=jax.random.key(0))


@pytest.fixture(scope="module")
def model(encoder) -> SolubilityModel:
    head = WindowMLP(WindowMLPConfig(encoder.d_model, (3, 7), (0.5,), (8,)), key=jax.random.key(1))
    return SolubilityModel(encoder, head, Cleaning(strip_tags=True))


def test_each_chain_is_cleaned_by_itself():
    found = Cleaning(strip_tags=True).clean_chains(f" {TAGGED.lower()} \n")
    assert found.sequence == f"{FIRST}|{SECOND}"
    assert found.notes == (
        "2 chains, each read by itself",
        "chain 1: N-terminal tag of 20 residues stripped",
        "chain 2: C-terminal tag of 6 residues stripped",
    )
    kept = [(at, letter) for at, letter in zip(found.positions, found.sequence, strict=True) if letter != "|"]
    assert "".join(TAGGED[at - 1] for at, _ in kept) == "".join(letter for _, letter in kept) == FIRST + SECOND


def test_one_chain_is_cleaned_as_ever():
    assert Cleaning(strip_tags=True).clean_chains(TAG + FIRST) == Cleaning(strip_tags=True).clean(TAG + FIRST)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("MK||MV", "chain 2: empty sequence"),
        ("MK|", "chain 2: empty sequence"),
        ("MKV|M1", "chain 2: position 2: digit '1'"),
        ("MKV:MK", "position 4: character ':'. Join the chains of a complex with '|'."),
    ],
)
def test_refuses_a_chain_that_is_none(model, given, said):
    with pytest.raises(InputError) as caught:
        model.clean(given)
    assert str(caught.value).startswith(said)


def test_letters_know_their_tokens():
    tokens = Tokenizer().encode_apart("AC|DEF|G")
    assert Tokenizer().decode(tokens) == "ACDEFG"
    assert [Tokenizer().decode(tokens[row : row + 1]) for row in letter_rows("AC|DEF|G")] == [
        *"AC",
        "",
        *"DEF",
        "",
        "G",
    ]


@pytest.mark.parametrize("soft", [False, True])
def test_chains_are_numbered_from_their_beginning(soft):
    tokens = np.concatenate([Tokenizer().encode_apart("AC|D"), [PAD, PAD]]).astype(np.int32)
    ids = chain_ids(as_probabilities(tokens) if soft else tokens)
    assert ids.tolist() == [1, 1, 1, 1, 2, 2, 2, -1, -1]


@pytest.mark.parametrize("soft", [False, True])
def test_features_of_a_chain_are_those_that_it_has_alone(model, soft):
    def features(sequence):
        tokens = Tokenizer().encode_apart(sequence)
        return np.asarray(eqx.filter_jit(SolubilityModel.features)(model, as_probabilities(tokens) if soft else tokens))

    alone = np.concatenate([features(FIRST), features(SECOND)])
    np.testing.assert_allclose(features(f"{FIRST}|{SECOND}"), alone, atol=2e-5)


def test_the_order_of_chains_changes_nothing(model):
    found = {}
    for order in ((FIRST, SECOND), (SECOND, FIRST)):
        tokens = Tokenizer().encode_apart("|".join(order))
        made = eqx.filter_jit(integrated_gradients)(model, tokens, steps=4)
        values = np.asarray(made.values)[np.asarray(residue_mask(tokens))]
        parts = np.split(values, [len(order[0])])
        found[order] = [made.value, *(parts if order[0] == FIRST else parts[::-1])]
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_designs_are_told_by_positions_as_read():
    cleaned = Cleaning(strip_tags=True).clean_chains(TAGGED)
    rules = Rules(Constraints(2, fixed=frozenset({21})), cleaned, TAGGED)
    design = cleaned.sequence.replace("AYIAK", "GYIAK").replace("SLAKW", "SLAKF")
    assert rules.name_changes(design) == ["A24G", f"W{TAGGED.index('W') + 1}F"]
    assert rules.restore(design) == TAGGED.replace("AYIAK", "GYIAK").replace("SLAKW", "SLAKF")
    assert rules.keeps(design)
    assert not rules.keeps("A" + cleaned.sequence[1:])
    assert not rules.free[len(FIRST)]


def test_no_chain_of_a_design_gets_a_tag():
    cleaned = Cleaned(f"{FIRST}|MHHHAHH{SECOND}", (), (0, 0))
    assert not Rules(Constraints(2), cleaned, cleaned.sequence).keeps(cleaned.sequence.replace("HHHAHH", "HHHHHH"))


@pytest.fixture
def folder(model, write, tmp_path):
    """A model, an encoder and proteins where commands run."""
    model.save_pretrained(tmp_path / "model")
    model.encoder.save_pretrained(tmp_path / "encoder")
    write("p.fasta", f">both\n{TAGGED}\n>first\n{FIRST}\n>second\n{SECOND}\n")
    return tmp_path


@pytest.mark.slow
def test_commands_take_complexes(run, folder, model):
    def table(command, *words):
        status, _, err = run(command, "p.fasta", "-o", "out.csv", *words)
        assert status == 0, err
        return read(folder / "out.csv")

    both, *_ = table("predict", "--model", "model")
    assert both["length"] == str(len(TAGGED) - 1)
    assert both["note"].endswith("the model was trained on single chains")
    assert float(both["probability"]) == pytest.approx(model.predict([f"{SECOND}|{FIRST}"])[0], abs=1e-6)

    rows = [row for row in table("explain", "--model", "model") if row["id"] == "both"]
    assert "".join(row["residue"] for row in rows) == TAGGED
    assert "".join(row["residue"] for row in rows if row["attribution"]) == FIRST + SECOND

    rows = [row for row in table("scan", "--model", "model", "--method", "gradient") if row["id"] == "both"]
    assert len(rows) == 19 * len(FIRST + SECOND)
    assert all(TAGGED[int(row["position"]) - 1] == row["wild_type"] for row in rows)
    assert all(row["llr"] for row in rows)

    whole, *chains = (float(row["pseudo_log_likelihood"]) for row in table("score", "--model", "encoder"))
    stripped = table("score", "--model", "model")[0]
    assert float(stripped["pseudo_log_likelihood"]) == pytest.approx(sum(chains), abs=1e-3)
    assert whole < sum(chains)

    rows = table("design", "--model", "model", "--mutations", "1", "--budget", "20", "--method", "evolution")
    assert "both" in {row["id"] for row in rows}
    assert all(row["sequence"].count("|") == (row["id"] == "both") for row in rows)


def test_listed_variants_of_a_second_chain(run, folder, write):
    write("v.txt", f"W{TAGGED.index('W') + 1}F\n")
    status, _, err = run("scan", "p.fasta", "-o", "out.csv", "--model", "model", "--variants", "v.txt")
    assert status == 0, err
    (row,) = [each for each in read(folder / "out.csv") if each["id"] == "both"]
    write("w.txt", f"{TAGGED[-1]}{len(TAGGED)}A\n")
    assert_refused(
        run("scan", "p.fasta", "-o", "no.csv", "--model", "model", "--variants", "w.txt"), "is in what is stripped"
    )
    assert row["wild_type"] == "W"


def test_residues_of_a_complex_are_those_of_its_chains(run, folder):
    status, _, err = run("embed", "p.fasta", "-o", "out.h5", "--model", "model", "--pool", "residue")
    assert status == 0, err
    with h5py.File(folder / "out.h5") as file:
        found = {name: each[()] for name, each in file.items()}
    np.testing.assert_allclose(found["both"], np.concatenate([found["first"], found["second"]]), atol=2e-5)


def test_training_takes_single_chains():
    with pytest.raises(InputError, match=r"position 4: '[|]' joins chains, and one chain is expected here"):
        Cleaning().clean("MKV|MK")
    assert "|" not in RESIDUES
