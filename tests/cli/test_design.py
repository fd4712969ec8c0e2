"""`eqxesm explain`, `scan` and `score`: tables of what the functions give by hand."""

import csv

import jax
import numpy as np
import pytest
from Bio.Data.IUPACData import protein_letters_1to3
from commands import assert_refused
from scipy.stats import spearmanr

from eqxesm import ESMC, OneHot, SolubilityModel, Tokenizer
from eqxesm.alphabet import FIRST_RESIDUE, STANDARD_RESIDUES
from eqxesm.data.cleaning import Cleaning
from eqxesm.design import integrated_gradients, masked_marginal, wild_type_marginal
from eqxesm.design.measured import CODES
from heads import AttentionPoolMLP, AttentionPoolMLPConfig

PROTEIN = "MKVLAAGWDEFFPPLMKVLAAG"
TAG = "MGSSHHHHHHSSGLVPRGSH"
FASTA = f">a\n{PROTEIN}\n>bad\nMK1\n>tagged\n{TAG}{PROTEIN}\n"


def read(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def stripping(model, tmp_path):
    """A model that strips tags."""
    model.replace(cleaning=Cleaning(strip_tags=True)).save_pretrained(tmp_path / "stripping")
    return "stripping"


def test_explain_tells_of_every_residue(run, write, model, stripping, tmp_path):
    status, out, err = run("explain", write("p.fasta", FASTA), "-o", "out.csv", "--model", stripping, "--plot", "p.svg")
    assert (status, out) == (0, "")
    assert "2 proteins explained, 1 not explained: out.csv; largest gap" in err
    assert "record 2 (bad): not explained" in err
    rows = read(tmp_path / "out.csv")
    found = integrated_gradients(model, Tokenizer().encode(PROTEIN)).values[1:-1]
    for name, before in (("a", 0), ("tagged", len(TAG))):
        own = [row for row in rows if row["id"] == name]
        assert "".join(row["residue"] for row in own) == (TAG + PROTEIN)[len(TAG) - before :]
        assert [int(row["position"]) for row in own] == list(range(1, len(own) + 1))
        assert all(row["attribution"] == "" for row in own[:before])
        np.testing.assert_allclose([float(row["attribution"]) for row in own[before:]], found, atol=1e-5)
    picture = (tmp_path / "p.svg").read_text()
    assert picture.count("<!-- W -->") == 1


def test_explain_tells_the_weights_of_pooling(run, write, tmp_path):
    head = AttentionPoolMLP(AttentionPoolMLPConfig(OneHot().d_model, hidden=(4,)), key=jax.random.key(0))
    SolubilityModel(OneHot(), head).save_pretrained(tmp_path / "light")
    words = ["--method", "pooling_weights", "-o", "out.csv", "--plot", "p.svg"]
    status, _, err = run("explain", write("p.fasta", f">a\n{PROTEIN}\n"), *words, "--model", "light")
    assert status == 0, err
    assert sum(float(row["attribution"]) for row in read(tmp_path / "out.csv")) == pytest.approx(1, abs=1e-4)
    assert_refused(run("explain", "p.fasta", *words), "head pools residues without weights. Use integrated gradients.")


@pytest.mark.parametrize("method", ["exact", "gradient"])
def test_scan_tells_of_every_substitution(method, run, write, model, stripping, encoder_folder, tmp_path):
    words = ["--model", stripping, "--language-model", encoder_folder, "--method", method]
    status, _, err = run("scan", write("p.fasta", FASTA), "-o", "out.csv", *words, "--plot", "p.png")
    assert status == 0, err
    assert ("rank correlation" in err) == (method == "exact")
    rows = read(tmp_path / "out.csv")
    assert len(rows) == 2 * 19 * len(PROTEIN)
    tokens = Tokenizer().encode(PROTEIN)
    ratios = np.asarray(masked_marginal(ESMC.from_pretrained(encoder_folder), tokens))
    for row in rows[:: len(rows) // 11]:
        position = int(row["position"]) - (len(TAG) if row["id"] == "tagged" else 0)
        column = STANDARD_RESIDUES.index(row["mutant"])
        assert row["wild_type"] == PROTEIN[position - 1]
        assert float(row["llr"]) == pytest.approx(ratios[position, column], abs=1e-4)
        mutant = tokens.copy()
        mutant[position] = FIRST_RESIDUE + column
        if method == "exact":
            assert float(row["delta_logit"]) == pytest.approx(float(model(mutant) - model(tokens)), abs=1e-5)
    assert (tmp_path / "p.png").stat().st_size > 10_000


@pytest.mark.parametrize("marginal", ["masked", "wild_type", "pseudo"])
def test_scan_of_listed_variants(marginal, run, write, model, encoder_folder, tmp_path):
    write("p.fasta", f">a\n{PROTEIN}\n")
    write("v.txt", "# two\nK2A\n\nV3W:A5C\n")
    words = ["--variants", "v.txt", "--language-model", encoder_folder, "--marginal", marginal]
    status, _, err = run("scan", "p.fasta", "-o", "out.csv", *words)
    assert status == 0, err
    first, second = read(tmp_path / "out.csv")
    assert (first["position"], first["wild_type"], first["mutant"]) == ("2", "K", "A")
    assert (second["position"], second["wild_type"], second["mutant"]) == ("3:5", "V:A", "W:C")
    tokens, mutant = Tokenizer().encode(PROTEIN), Tokenizer().encode("MKWLCAGWDEFFPPLMKVLAAG")
    assert float(second["delta_logit"]) == pytest.approx(float(model(mutant) - model(tokens)), abs=1e-5)
    encoder = ESMC.from_pretrained(encoder_folder)
    if marginal == "wild_type":
        table = np.asarray(wild_type_marginal(encoder, tokens))
        expected = table[3, STANDARD_RESIDUES.index("W")] + table[5, STANDARD_RESIDUES.index("C")]
        assert float(second["llr"]) == pytest.approx(expected, abs=1e-4)
    elif marginal == "pseudo":
        expected = encoder.pseudo_log_likelihood(mutant) - encoder.pseudo_log_likelihood(tokens)
        assert float(second["llr"]) == pytest.approx(float(expected), abs=1e-3)
    else:
        expected = masked_marginal(encoder, tokens)[2, STANDARD_RESIDUES.index("A")]
        assert float(first["llr"]) == pytest.approx(float(expected), abs=1e-4)


def test_scan_compares_with_what_was_measured(run, write, encoder_folder, tmp_path):
    write("p.fasta", f">a\n{PROTEIN}\n")
    variants = ["K2A", "V3W:A5C", "p.Gly7Arg", "p.[Lys2Trp;Val3Ala]", "L4D", "E10K"]
    values = [0.1, -2, 3, 0.5, 1.5, -0.3]
    rows = [f"{each},{value}" for each, value in zip(variants, values, strict=True)]
    write("m.csv", "\n".join(["mutant,DMS_score", *rows, "p.Ala5=,1", "p.Ala5Ter,-3", "K2C,", "K2D,nan"]) + "\n")
    words = ["--measured", "m.csv", "--language-model", encoder_folder]
    status, _, err = run("scan", "p.fasta", "-o", "out.csv", *words)
    assert status == 0, err
    found = read(tmp_path / "out.csv")
    assert [float(row["measured"]) for row in found] == values
    assert (found[3]["position"], found[3]["wild_type"], found[3]["mutant"]) == ("2:3", "K:V", "W:A")
    for name in ("delta_logit", "llr"):
        expected = spearmanr([float(row[name]) for row in found], values).statistic
        assert f"{name} {expected:.2f} (" in err
    assert "4 rows without a substitution or a number left out" in err


def test_codes_are_biopythons():
    assert {CODES[code]: code for code in CODES} == protein_letters_1to3


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("mutant,other\nK2A,1\n", "m.csv: no column DMS_score, score, fitness, measured or value. Its columns"),
        ("place,score\nK2A,1\n", "m.csv: no column mutant, hgvs_pro, variant, mutation or mutations. Its columns"),
        ("mutant,score\nK2A,1\nx,2\n", "m.csv: 1 substitution with a number, expected at least 3"),
        ("mutant,score\nA2K,1\nK2A,1\nK2C,1\n", "A2K: residue 2 is K, not A"),
    ],
)
def test_a_table_of_something_else_is_refused(table, said, run, write, tmp_path):
    write("m.csv", table)
    write("p.fasta", f">a\n{PROTEIN}\n")
    assert_refused(run("scan", "p.fasta", "-o", "out.csv", "--measured", "m.csv"), said)
    assert not (tmp_path / "out.csv").exists()


def test_a_stopped_run_does_not_go_on_with_other_variants(run, write):
    write("p.fasta", f">a\n{PROTEIN}\n")
    write("v.txt", "K2A\n")
    run("scan", "p.fasta", "-o", "out.csv", "--variants", "v.txt", "--shard", "1/2")
    write("v.txt", "K2C\n")
    said = "had another --variants"
    assert_refused(run("scan", "p.fasta", "-o", "out.csv", "--variants", "v.txt", "--shard", "2/2"), said)


def test_score_is_the_pseudo_likelihood(run, write, encoder_folder, tmp_path):
    write("p.fasta", FASTA)
    for words, one_pass in (([], False), (["--one-pass"], True)):
        assert run("score", "p.fasta", "-o", "out.csv", "--model", encoder_folder, *words)[0] == 0
        first, bad, _ = read(tmp_path / "out.csv")
        encoder = ESMC.from_pretrained(encoder_folder)
        expected = float(encoder.pseudo_log_likelihood(Tokenizer().encode(PROTEIN), one_pass=one_pass))
        assert float(first["pseudo_log_likelihood"]) == pytest.approx(expected, abs=1e-3)
        assert float(first["pseudo_perplexity"]) == pytest.approx(np.exp(-expected / len(PROTEIN)), rel=1e-4)
        assert bad["pseudo_log_likelihood"] == ""
        assert "digit" in bad["note"]


def test_shards_make_the_whole(run, write, stripping, tmp_path):
    write("p.fasta", FASTA)
    for command in ("explain", "scan"):
        assert run(command, "p.fasta", "-o", "whole.csv", "--model", stripping)[0] == 0
        for number in (1, 2):
            words = ["--model", stripping, "--shard", f"{number}/2"]
            assert run(command, "p.fasta", "-o", "out.csv", *words)[0] == 0
        assert run("join", "out.csv")[0] == 0
        assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ("A2K\n", "A2K: residue 2 is K, not A"),
        ("K99A\n", "K99A: the protein has 22 residues"),
        ("K2\n", "v.txt, line 1: 'K2' is no substitution, expected one as A123V"),
        ("K2A:K2C\n", "two substitutions at one position"),
        ("K2B\n", "is no substitution"),
        ("# none\n", "v.txt: no variants"),
    ],
)
def test_variants_of_another_protein_are_refused(variants, said, run, write, tmp_path):
    write("v.txt", variants)
    write("p.fasta", f">a\n{PROTEIN}\n")
    assert_refused(run("scan", "p.fasta", "-o", "out.csv", "--variants", "v.txt"), said)
    assert not (tmp_path / "out.csv").exists()


def test_a_variant_in_a_tag_is_refused(run, write, stripping):
    write("p.fasta", f">a\n{TAG}{PROTEIN}\n")
    write("v.txt", "G2A\n")
    words = ["--variants", "v.txt", "--model", stripping]
    assert_refused(run("scan", "p.fasta", "-o", "out.csv", *words), "G2A: is in what is stripped")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explain", "-o", "out.xlsx"], "unknown ending"),
        (["explain", "-o", "out.csv", "--plot", "p.pdf"], "--plot p.pdf: unknown ending. Use .png or .svg."),
        (["explain", "-o", "out.csv", "--plot", "p.png", "--resume"], "leave out --resume"),
        (["scan", "-o", "out.csv", "--language-model", "default"], "has no language-model head"),
        (["score", "-o", "out.csv", "--model", "default"], "has no language-model head"),
    ],
)
def test_refuses_what_cannot_be(words, said, run, write, tmp_path):
    write("p.fasta", FASTA)
    assert_refused(run(words[0], "p.fasta", *words[1:]), said)
    assert not (tmp_path / "out.csv").exists()


def test_the_default_model_says_that_it_has_no_language_model(run, write):
    status, _, err = run("scan", write("p.fasta", ">a\nMKVLAAGWDE\n"), "-o", "out.csv", "--model", "default")
    assert status == 0
    assert "no language model, so llr is empty. Name an ESM-C with --language-model." in err
    assert SolubilityModel.from_pretrained() is not None


def test_design_proposes_variants(run, write, model, encoder_folder, tmp_path):
    write("p.fasta", f">a\n{PROTEIN}\n>bad\nMK1\n")
    words = ["--mutations", "2", "--budget", "150", "--fix", "1-3", "--forbid", "C", "--plot", "p.png"]
    status, _, err = run("design", "p.fasta", "-o", "out.csv", *words, "--language-model", encoder_folder)
    assert status == 0, err
    assert "1 protein designed, 1 not designed: out.csv" in err
    assert err.count("no experiment") == 1
    rows = read(tmp_path / "out.csv")
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    encoder = ESMC.from_pretrained(encoder_folder)
    before = encoder.pseudo_log_likelihood(Tokenizer().encode(PROTEIN), one_pass=True)
    for row in rows:
        letters = list(PROTEIN)
        for each in row["mutations"].split(":"):
            assert letters[int(each[1:-1]) - 1] == each[0]
            assert int(each[1:-1]) > 3
            assert each[-1] != "C"
            letters[int(each[1:-1]) - 1] = each[-1]
        assert row["sequence"] == "".join(letters)
        (first, after) = model.predict([PROTEIN, row["sequence"]])
        assert float(row["probability_before"]) == pytest.approx(first, abs=1e-5)
        assert float(row["probability_after"]) == pytest.approx(after, abs=1e-5)
        assert after > first
        after = encoder.pseudo_log_likelihood(Tokenizer().encode(row["sequence"]), one_pass=True)
        assert float(row["naturalness_change"]) == pytest.approx(float(after - before), abs=1e-3)
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_a_seed_makes_the_same_designs(run, write, tmp_path):
    write("p.fasta", f">a\n{PROTEIN}\n")
    for name, words in {"one": [], "two": [], "other": ["--seed", "1", "--method", "evolution"]}.items():
        status, _, err = run("design", "p.fasta", "-o", f"{name}.csv", "--mutations", "2", "--budget", "80", *words)
        assert status == 0, err
    one, two, other = ((tmp_path / f"{name}.csv").read_text() for name in ("one", "two", "other"))
    assert one == two != other


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mutations", "0"], "--mutations is 0, expected at least 1"),
        (["--mutations", "2", "--fix", "1-22"], "every position is fixed"),
        (["--mutations", "2", "--forbid", "MKVLA"], "forbidden residues, more than the 2 mutations allowed"),
        (["--mutations", "2", "--least-naturalness", "0"], "--least-naturalness needs --language-model"),
        (["--mutations", "2", "--min-identity", "1"], "expected a share from 0 to below 1"),
        (["--mutations", "2", "--fix", "x"], "'x' is no position or range"),
    ],
)
def test_designs_that_cannot_be_are_refused(words, said, run, write, tmp_path):
    write("p.fasta", f">a\n{PROTEIN}\n")
    assert_refused(run("design", "p.fasta", "-o", "out.csv", *words), said)
    assert not (tmp_path / "out.csv").exists()
