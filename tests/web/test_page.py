"""What the page answers, as a browser asks it."""

import csv
import html

import pytest
from pages import ask, read_download, read_refusal
from paths import ROOT

from eqxesm.cli.main import main
from eqxesm.design import mean_residue
from eqxesm.web.app import WAITING
from eqxesm.web.inputs import MAX_BYTES, MAX_ONE, MAX_PROTEINS, MAX_RESIDUES, read_records
from eqxesm.web.service import FEWEST_PASSES, MAX_MUTATIONS, MOST_PASSES

PROTEIN = "MKVLAAGWDEFFPPLMKVLAAG"
HOSTILE = "<img/src=x/onerror=alert(1)>${alert(2)}{{value}}"
INPUTS = {
    "fasta": f">a\n{PROTEIN}\n>bad\nMK1\n>short\nMKVA\n>a\n{PROTEIN[::-1]}\n>long\n{PROTEIN * 20}\n",
    "csv": f"# of a plate\nname;seq\nx;{PROTEIN}\n{HOSTILE};{PROTEIN[::-1]}\nmissing;NA\n",
}


@pytest.mark.parametrize("kind", INPUTS)
def test_predictions_are_those_of_the_command(kind, client, solubility, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solubility.save_pretrained("model")
    (tmp_path / f"p.{kind}").write_text(INPUTS[kind])
    assert main(["predict", f"p.{kind}", "-o", "out.csv", "--model", "model"]) == 0
    page = ask(client, "predict", INPUTS[kind])
    with open("out.csv", newline="") as file:
        expected = list(csv.DictReader(file))
    found = read_download(page)
    assert len(found) == len(expected)
    for row, own in zip(expected, found, strict=True):
        assert list(row) == list(own)
        for name, text in row.items():
            if name == "probability" or name.startswith("interval"):
                assert bool(own[name]) == bool(text)
                assert float(own[name] or 0) == pytest.approx(float(text or 0), rel=1e-5)
            else:
                assert own[name] == text
        assert html.escape(row["id"]).split("$")[0] in page
    assert page.count("<tr>") == len(expected) + 1


def test_a_bare_sequence_is_a_protein(client):
    (row,) = read_download(ask(client, "predict", f"{PROTEIN}\n{PROTEIN}\n"))
    assert (row["id"], row["length"]) == ("protein", str(2 * len(PROTEIN)))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["is empty"]),
        (" \n ", ["is empty"]),
        ("/etc/passwd", ["line 1", "not FASTA", "a record starts with"]),
        ("file:///etc/passwd", ["not FASTA"]),
        ("hello, these are no proteins", ["not FASTA", "a header with a column sequence"]),
        ("# a comment\n", ["no proteins found"]),
        ("PK\x03\x04[Content_Types].xml", ["is an Excel workbook"]),
        (f">a\n{PROTEIN}\x00", ["not text"]),
        (">a\n" + "A" * MAX_BYTES, [f"more than {MAX_BYTES:,} bytes", "eqxesm predict"]),
        (">a\nMK\n" * (MAX_PROTEINS + 1), [f"more than {MAX_PROTEINS:,} proteins"]),
        (f">a{HOSTILE}\n" + "A" * (MAX_RESIDUES + 1), [f"{MAX_RESIDUES + 1:,} residues", f"at most {MAX_RESIDUES:,}"]),
        (f"<script>alert(1)</script>{HOSTILE}", ["not FASTA"]),
        ("\ud800", ["not FASTA"]),
    ],
)
def test_refusals_are_one_line(text, parts, client):
    refusal = html.unescape(read_refusal(ask(client, "predict", text)))
    for part in parts:
        assert part in refusal


def test_only_one_protein_is_explained(client):
    assert "2 proteins, expected one" in read_refusal(ask(client, "explain", f">a\n{PROTEIN}\n>b\n{PROTEIN}\n"))
    long = f">a\n{PROTEIN * 100}\n"
    assert f"at most {MAX_ONE:,}" in read_refusal(ask(client, "scan", long))
    assert "this model accepts at most 254" in read_refusal(ask(client, "scan", f">a\n{PROTEIN * 20}\n"))
    assert "digit" in read_refusal(ask(client, "scan", ">a\nMK1\n"))


def test_ids_are_text_everywhere(client):
    text = f">{HOSTILE}\n{PROTEIN}\n"
    for name, more in (("predict", ()), ("explain", ()), ("scan", ()), ("design", (2, "", ""))):
        page = ask(client, name, text, *more)
        assert HOSTILE in read_download(page)[0]["id"]
        assert "<img/src" not in page
        assert "${" not in page
        assert "{{" not in page


def test_mathematics_in_an_id_is_text(client):
    assert "data:image/png" in ask(client, "explain", f">$\\frac{{$\n{PROTEIN}\n")


def test_attribution_and_scan(client, solubility):
    rows = read_download(ask(client, "explain", f">a\n{PROTEIN}\n"))
    assert "".join(row["residue"] for row in rows) == PROTEIN
    tokens = solubility.tokenize(solubility.clean(PROTEIN))
    gain = solubility(tokens) - solubility(mean_residue(tokens))
    assert sum(float(row["attribution"]) for row in rows) == pytest.approx(float(gain), abs=1e-3)
    page = ask(client, "scan", f">a\n{PROTEIN}\n")
    assert len(read_download(page)) == 19 * len(PROTEIN)
    assert 'alt="How the logit' in page


def test_designs_keep_to_the_constraints(client):
    page = ask(client, "design", f">a\n{PROTEIN}\n", 2, "1-10, 12", "Y, c")
    rows = read_download(page)
    assert rows
    for row in rows:
        changed = [n for n, (a, b) in enumerate(zip(PROTEIN, row["sequence"], strict=True), 1) if a != b]
        assert 0 < len(changed) <= 2
        assert not set(changed) & {*range(1, 11), 12}
        assert not set("YC") & set(row["sequence"])
        assert float(row["probability_after"]) > float(row["probability_before"])
    assert "no experiment" in page


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ((2, "x", ""), "'x' is no position"),
        ((2, "99", ""), "position 99 is to be fixed"),
        ((2, "1," * 1000, ""), "more than 1,000 characters"),
        ((2, "", "<"), "no standard residue"),
        ((2, "1-22", ""), "every position is fixed"),
    ],
)
def test_constraints_are_refused(values, part, client):
    assert part in html.unescape(read_refusal(ask(client, "design", f">a\n{PROTEIN}\n", *values)))


def test_a_fault_of_the_program_is_one_line(client, service, monkeypatch, caplog):
    def fail(text):
        raise RuntimeError(f"secret {text}")

    monkeypatch.setattr(service, "predict", fail)
    assert "fault of the program" in read_refusal(ask(client, "predict", ">a\nMK\n"))
    assert "secret" in caplog.text


def test_the_limits_are_those_of_the_document():
    told = (ROOT / "docs" / "web.md").read_text()
    assert f"{MAX_BYTES:,} bytes, {MAX_PROTEINS:,} proteins, {MAX_RESIDUES:,} residues in each" in told
    assert f"| {MAX_ONE:,} residues |" in told
    assert f"{MAX_MUTATIONS} mutations; {FEWEST_PASSES} to {MOST_PASSES} forward passes" in told
    assert f"; {WAITING} may wait" in told


def test_a_repeated_id_is_noted():
    assert read_records(f">a\n{PROTEIN}\n>a\n{PROTEIN}\n")[1].repeat == "duplicate id, first used by record 1"
