"""`eqxesm predict`: every input gives the same table, and a bad one is refused in one line."""

import csv
import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import assert_refused
from paths import EXAMPLES
from pyarrow import parquet

from eqxesm import SolubilityModel
from eqxesm.cli.main import main

FASTA = ">a one\nMKVLLAAG\n>b\nMKJ\nWW*\n>c,d\nGSHMWWYYFFPPL\n"
SEQUENCES = ["MKVLLAAG", "MKJWW*", "GSHMWWYYFFPPL"]
COLUMNS = ["id", "length", "probability", "soluble", "interval_low", "interval_high", "note"]


def expected_rows(model) -> list[dict]:
    probabilities = model.predict(SEQUENCES).tolist()
    notes = ["", "trailing * removed; 1 unknown letter (J) replaced by X", ""]
    rows = []
    for i, n, p, note in zip(("a", "b", "c,d"), (8, 5, 13), probabilities, notes, strict=True):
        low, high = model.calibration.interval(p)
        rows.append(
            {
                "id": i,
                "length": n,
                "probability": p,
                "soluble": p >= 0.5,
                "interval_low": low,
                "interval_high": high,
                "note": note,
            }
        )
    return rows


# Tables


def test_prints_a_table(run, write, model):
    status, out, err = run("predict", write("p.fasta"))
    assert status == 0
    assert err == "3 proteins predicted\n"
    header, *lines = out.splitlines()
    assert header.split() == COLUMNS
    for line, row in zip(lines, expected_rows(model), strict=True):
        words = line.split(maxsplit=6)
        shown = [f"{row[name]:.3f}" for name in ("probability", "interval_low", "interval_high")]
        shown.insert(1, "yes" if row["soluble"] else "no")
        assert words[:6] == [row["id"], str(row["length"]), *shown]
        assert words[6:] == ([row["note"]] if row["note"] else [])


@pytest.mark.parametrize(("ending", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_csv_and_tsv_hold_every_digit(ending, delimiter, run, write, model, tmp_path):
    name = f"out.{ending}"
    assert run("predict", write("p.fasta"), "-o", name) == (0, "", f"3 proteins predicted: {name}\n")
    with open(tmp_path / name, newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        rows = list(reader)
    assert reader.fieldnames == COLUMNS
    for row, expected in zip(rows, expected_rows(model), strict=True):
        assert row["probability"] == repr(expected["probability"])
        assert row["soluble"] == ("true" if expected["soluble"] else "false")
        assert (row["id"], row["length"]) == (expected["id"], str(expected["length"]))
        assert row["note"] == expected["note"]
    read = np.array([row["probability"] for row in rows], np.float32)
    np.testing.assert_array_equal(read, model.predict(SEQUENCES))


def test_parquet_holds_every_bit(run, write, model, tmp_path):
    assert run("predict", write("p.fasta"), "--out", "out.parquet")[0] == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == COLUMNS
    assert table.to_pylist() == expected_rows(model)
    read = np.array(table["probability"].to_pylist(), np.float32)
    assert read.tobytes() == model.predict(SEQUENCES).tobytes()


def test_the_encoder_computes_in_the_precision_that_is_asked_for(run, write, tmp_path):
    words = ["--model", "default", "--dtype", "bfloat16", "-o", "out.parquet"]
    assert run("predict", write("p.fasta"), *words)[0] == 0
    found = parquet.read_table(tmp_path / "out.parquet")["probability"].to_numpy()
    half, whole = (SolubilityModel.from_pretrained(dtype=dtype).predict(SEQUENCES) for dtype in ("bfloat16", None))
    np.testing.assert_allclose(found, half, atol=1e-6)
    assert np.abs(found - whole).max() > 1e-5


def test_json_lines_hold_every_value(run, write, model, tmp_path):
    assert run("predict", write("p.fasta"), "-o", "out.jsonl")[0] == 0
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected_rows(model)


def test_order_and_count_are_kept(run, write, tmp_path):
    lengths = np.random.default_rng(0).integers(1, 60, 150)
    text = "".join(f">p{i}\n{('MKVLAG' * 10)[:n]}\n" for i, n in enumerate(lengths))
    run("predict", write("p.fasta", text), "-o", "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], int(row["length"])) for row in rows] == [(f"p{i}", n) for i, n in enumerate(lengths)]


# Inputs


def test_every_input_gives_the_same_table(run, write):
    _, plain, _ = run("predict", write("p.fasta"))
    table = 'id,n,sequence\na,1,MKVLLAAG\nb,2,MKJWW*\n"c,d",3,GSHMWWYYFFPPL\n'
    results = [
        run("predict", write("p.fa.gz", gzip.compress(FASTA.encode()))),
        run("predict", write("gzip-without-ending", gzip.compress(FASTA.encode()))),
        run("predict", write("windows.fasta", FASTA.replace("\n", "\r\n"))),
        run("predict", "-", stdin=FASTA.encode()),
        run("predict", "-", stdin=gzip.compress(FASTA.encode())),
        run("predict", write("p.csv", table), "--id-column", "id"),
        run("predict", write("q.csv", table.replace("sequence", "s")), "--id-column", "id",
            "--sequence-column", "s"),
        run("predict", write("p.tsv", "id\tsequence\na\tMKVLLAAG\nb\tMKJWW*\nc,d\tGSHMWWYYFFPPL\n"),
            "--id-column", "id"),
    ]  # fmt: skip
    for status, out, _ in results:
        assert status == 0
        assert out == plain
    assert run("predict", "p.csv")[1] == plain
    assert run("predict", write("s.csv", table.replace("id,", "name,")))[1] == plain
    _, numbered, err = run("predict", write("r.csv", table.replace("id,", "lab,")))
    assert "rows are numbered. Name one with --id-column." in err
    assert [line.split()[0] for line in numbered.splitlines()] == ["id", "1", "2", "3"]


BAD_FILES = {
    "empty": (b"", "no proteins found"),
    "white space": (b"\n \n", "no proteins found"),
    "not fasta": (b"MKVLLAAG\n", "line 1: not FASTA"),
    "prose": (b"Dear all,\nplease find attached\n", "line 1: not FASTA"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0", "not text"),
    "half a gzip": (gzip.compress(FASTA.encode())[:-9], "gzip data are corrupt"),
    "digits": (b">a\nMK1V\n", "record 1 (a): position 3: digit '1'"),
    "gaps": (b">a\nMK-V\n", "record 1 (a): position 3: gap '-'"),
    "empty sequence": (b">a\n", "record 1 (a): empty sequence"),
    "all too long": (b">a\n" + b"M" * 61, "61 residues; this model accepts at most 60"),
    "several bad": (b">a\n1\n>b\n2\n", "(1 more problem)"),
}


@pytest.mark.parametrize(("content", "part"), BAD_FILES.values(), ids=list(BAD_FILES))
@pytest.mark.parametrize("way", ["file", "stdin", "out"])
def test_refuses_bad_files_and_writes_nothing(content, part, way, run, write, tmp_path):
    if way == "stdin":
        assert_refused(run("predict", "-", stdin=content), part, "standard input")
        return
    out = ["-o", "out.csv"] if way == "out" else []
    assert_refused(run("predict", write("p.fasta", content), *out), part, "p.fasta")
    assert os.listdir(tmp_path) == ["p.fasta"]


@pytest.mark.parametrize(
    ("name", "part"), [("nowhere.fasta", "file not found"), (".", "is a folder"), ("a" * 300, "too long")]
)
def test_refuses_files_that_do_not_exist(name, part, run, tmp_path):
    assert_refused(run("predict", name), part)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "words", "part"),
    [
        ("id,aa\na,MKV\n", [], "no column 'sequence'"),
        ("id,sequence\na,MKV\n", ["--id-column", "name"], "no column 'name'"),
        ("id,sequence\na,MKV,3\n", [], "line 2 has 3 fields, the header 2"),
        ('id,sequence\na,"MKV\n', [], "malformed"),
        ("id,sequence\n", [], "no proteins found"),
        ("id,sequence\n,MKV\n", ["--strict"], "no id, so the row's number is used"),
    ],
)
def test_refuses_bad_tables(content, words, part, run, write):
    assert_refused(run("predict", write("p.csv", content), *words), part, "p.csv")


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        (">b\nMK1V\n", "position 3: digit '1'"),
        (">b\nMK-V\n", "gap '-'"),
        (">b\n", "empty sequence"),
        (">b\n" + "M" * 61 + "\n", "61 residues; this model accepts at most 60"),
    ],
)
def test_a_bad_record_is_noted_and_refused_with_strict(bad, part, run, write, model, tmp_path):
    name = write("p.fasta", f">a\nMKVLL\n{bad}>c\nWWW\n")
    status, out, err = run("predict", name, "-o", "out.jsonl")
    assert (status, out) == (0, "")
    assert err == "2 proteins predicted, 1 not predicted: see the notes: out.jsonl\n"
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    first, third = model.predict(["MKVLL", "WWW"]).tolist()
    assert [row["probability"] for row in rows] == [first, None, third]
    assert rows[1]["note"].startswith("not predicted: ")
    assert part in rows[1]["note"]
    (tmp_path / "out.jsonl").unlink()
    assert_refused(run("predict", name, "--strict", "-o", "out.jsonl"), "p.fasta, record 2 (b): ", part)
    assert os.listdir(tmp_path) == ["p.fasta"]


def test_a_repeated_id_is_noted_and_refused_with_strict(run, write):
    name = write("p.fasta", ">a\nMKV\n>a\nMKL\n")
    status, out, err = run("predict", name)
    assert (status, err) == (0, "2 proteins predicted\n")
    assert "duplicate id, first used by record 1" in out.splitlines()[2]
    assert_refused(run("predict", name, "--strict"), "record 2 (a): duplicate id")


# Models


def change(folder: Path, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b""), "not a readable safetensors"),
        (lambda f: os.truncate(f / "model.safetensors", 700), "not a readable safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 900), "not a readable"),
        (lambda f: (f / "model.safetensors").unlink(), "file not found"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "not readable as JSON"),
        (lambda f: change(f, surprise=1), "surprise"),
        (lambda f: change(f, schema_version=2), "schema_version is 2"),
        (lambda f: change(f, calibration={"temperature": 0}), "calibration.temperature"),
        (lambda f: change(f, encoder={"type": "esm2"}), "'esm2'"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "info"])
def test_refuses_damaged_models(command, damage, part, run, write, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    words = ["predict", write("p.fasta"), "-o", "out.csv", "--model"]
    assert_refused(run(*(words if command == "predict" else ["info"]), copy), part, "copy")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nowhere", "folder not found"),
        ("nobody-at-all/no-such-model", "the Hub cannot be reached"),
        ("p.fasta", "is a file"),
        ("a" * 300, "cannot be looked up"),
        (".", "config.json is missing"),
    ],
)
def test_refuses_models_that_do_not_exist(name, part, run, write):
    assert_refused(run("predict", write("p.fasta"), "--model", name), part)
    assert_refused(run("info", name), part)


def test_the_default_model_predicts_the_examples(tmp_path, capsys):
    assert main(["predict", str(EXAMPLES / "proteins.fasta"), "-o", str(tmp_path / "out.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    assert all(0 < row["probability"] < 1 for row in rows)
    assert "the default model is a weak baseline" in capsys.readouterr().err


# Output files


@pytest.mark.parametrize("name", ["out", "out.xlsx", "out.csv.gz", "no/out.csv", "folder.csv"])
def test_refuses_a_bad_output_before_the_work(name, run, write, tmp_path, monkeypatch):
    def predict(*_, **__):
        raise AssertionError("predicted first")

    monkeypatch.setattr("eqxesm.predict.Predictor.__call__", predict)
    (tmp_path / "folder.csv").mkdir()
    assert_refused(run("predict", write("p.fasta"), "-o", name), name)
    assert sorted(os.listdir(tmp_path)) == ["folder.csv", "p.fasta"]


def test_refuses_to_write_over_the_input(run, write, tmp_path):
    name = write("p.csv", "id,sequence\na,MKV\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / name)
    for out in (name, f"./{name}", tmp_path / name, "link.csv"):
        assert_refused(run("predict", name, "-o", out), "is the input. Name another file to write to.")
    assert (tmp_path / name).read_text() == "id,sequence\na,MKV\n"


def test_an_earlier_output_is_replaced(run, write, tmp_path):
    write("out.csv", "old")
    assert_refused(run("predict", "nowhere.fasta", "-o", "out.csv"), "file not found")
    assert (tmp_path / "out.csv").read_text() == "old"
    assert run("predict", "-", "-o", "out.csv", stdin=FASTA.encode())[0] == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4


def test_a_full_disk_leaves_an_earlier_output(run, write, tmp_path, monkeypatch):
    write("out.csv", "old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert_refused(run("predict", write("p.fasta"), "-o", "out.csv"), "No space left on device")
    assert (tmp_path / "out.csv").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "p.fasta"]


def test_an_interrupt_is_one_line(run, write, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("eqxesm.predict.Predictor.__call__", interrupt)
    status, out, err = run("predict", write("p.fasta"))
    assert (status, out) == (130, "")
    assert err == "eqxesm: interrupted, nothing was written\n"


def test_the_default_model_has_no_revision(run, write):
    assert_refused(run("predict", write("p.fasta"), "--model", "default", "--revision", "v1"), "has no revision")
    assert SolubilityModel.from_pretrained().limits.max_residues > 100
