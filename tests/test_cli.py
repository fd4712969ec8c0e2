import csv
import dataclasses
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from pyarrow import parquet

import eqxesm
from eqxesm import Calibration, OneHot, SolubilityModel, cli
from eqxesm.checkpoint.schema import Provenance
from eqxesm.data.cleaning import Cleaning
from eqxesm.declarations import Limits
from eqxesm.errors import InputError
from heads import CompositionMLP, CompositionMLPConfig

SHIPPED = Path(eqxesm.__file__).parent / "default" / "config.json"
FASTA = ">a one\nMKVLLAAG\n>b\nMKJ\nWW*\n>c,d\nGSHMWWYYFFPPL\n"
SEQUENCES = ["MKVLLAAG", "MKJWW*", "GSHMWWYYFFPPL"]
COLUMNS = ["id", "length", "probability", "soluble", "note"]


@pytest.fixture(scope="session")
def model() -> SolubilityModel:
    config = CompositionMLPConfig(OneHot().d_model, (4,))
    return SolubilityModel(
        OneHot(),
        CompositionMLP(config, key=jax.random.key(0)),
        Cleaning(),
        Calibration(0.2, 0.5),
        Limits(60),
        Provenance("a test", license="mit"),
    )


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "model"
    model.save_pretrained(path)
    return path


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder, with the model of this test."""
    monkeypatch.chdir(tmp_path)

    def _run(*words, stdin: bytes = b""):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
        arguments = [str(word) for word in words]
        if "--model" not in arguments and arguments[0] == "predict":
            arguments += ["--model", str(folder)]
        status = cli.main(arguments)
        return status, *capsys.readouterr()

    return _run


@pytest.fixture
def write(tmp_path):
    def _write(name: str, content: str | bytes = FASTA) -> str:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return name

    return _write


def check_refused(result, *parts: str) -> None:
    status, out, err = result
    assert status == 2
    assert out == ""
    assert err.startswith("eqxesm: error: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    for part in parts:
        assert part in err


def expected_rows(model) -> list[dict]:
    probabilities = model.predict(SEQUENCES).tolist()
    notes = ["", "trailing * removed; 1 unknown letter (J) to X", ""]
    return [
        {"id": i, "length": n, "probability": p, "soluble": p >= 0.5, "note": note}
        for i, n, p, note in zip(
            ("a", "b", "c,d"), (8, 5, 13), probabilities, notes, strict=True
        )
    ]  # fmt: skip


def test_terminal(run, write, model):
    status, out, err = run("predict", write("p.fasta"))
    assert status == 0
    assert err == "3 proteins predicted\n"
    header, *lines = out.splitlines()
    assert header.split() == COLUMNS
    for line, row in zip(lines, expected_rows(model), strict=True):
        words = line.split(maxsplit=4)
        assert words[:4] == [
            row["id"], str(row["length"]), f"{row['probability']:.3f}",
            "yes" if row["soluble"] else "no",
        ]  # fmt: skip
        assert words[4:] == ([row["note"]] if row["note"] else [])


@pytest.mark.parametrize(("ending", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_separated_file(ending, delimiter, run, write, model, tmp_path):
    name = f"out.{ending}"
    assert run("predict", write("p.fasta"), "-o", name) == (
        0,
        "",
        f"3 proteins predicted: {name}\n",
    )
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


def test_parquet_to_the_bit(run, write, model, tmp_path):
    assert run("predict", write("p.fasta"), "--out", "out.parquet")[0] == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == COLUMNS
    assert table.to_pylist() == expected_rows(model)
    read = np.array(table["probability"].to_pylist(), np.float32)
    assert read.tobytes() == model.predict(SEQUENCES).tobytes()


def test_json_lines(run, write, model, tmp_path):
    assert run("predict", write("p.fasta"), "-o", "out.jsonl")[0] == 0
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected_rows(model)


def test_every_input_gives_the_same(run, write):
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
    _, numbered, _ = run("predict", write("r.csv", table.replace("id,", "name,")))
    assert [line.split()[0] for line in numbered.splitlines()] == ["id", "1", "2", "3"]


# Each of these is one line on standard error, status 2, and nothing anywhere else.

BAD_FILES = {
    "empty": (b"", "holds no records"),
    "white space": (b"\n \n", "holds no records"),
    "not fasta": (b"MKVLLAAG\n", "line 1 is not FASTA"),
    "prose": (b"Dear all,\nplease find attached\n", "line 1 is not FASTA"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0", "not text"),
    "latin-1": (b">\xe9\nMKV\n", "line 1 is not text"),
    "half a gzip": (gzip.compress(FASTA.encode())[:-9], "gzip data is corrupt"),
    "no id": (b">\nMKV\n", "a header with no id"),
    "digits": (b">a\nMK1V\n", "record 1 (a): position 3: digit '1'"),
    "gaps": (b">a\nMK-V\n", "record 1 (a): position 3: gap '-'"),
    "empty sequence": (b">a\n", "record 1 (a): empty sequence"),
    "all too long": (b">a\n" + b"M" * 61, "61 residues are more than the 60"),
    "several bad": (b">a\n1\n>b\n2\n", "(and 1 more problem)"),
}


@pytest.mark.parametrize(("content", "part"), BAD_FILES.values(), ids=list(BAD_FILES))
@pytest.mark.parametrize("way", ["file", "stdin", "out"])
def test_bad_files(content, part, way, run, write, tmp_path):
    if way == "stdin":
        check_refused(run("predict", "-", stdin=content), part, "standard input")
        return
    out = ["-o", "out.csv"] if way == "out" else []
    check_refused(run("predict", write("p.fasta", content), *out), part, "p.fasta")
    assert os.listdir(tmp_path) == ["p.fasta"]


@pytest.mark.parametrize(
    ("name", "part"),
    [("nowhere.fasta", "no such file"), (".", "a folder"), ("a" * 300, "too long")],
)
def test_files_that_are_not_there(name, part, run, tmp_path):
    check_refused(run("predict", name), part)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "words", "part"),
    [
        ("id,seq\na,MKV\n", [], "no column 'sequence'"),
        ("id,sequence\na,MKV\n", ["--id-column", "name"], "no column 'name'"),
        ("id,sequence\na,MKV,3\n", [], "line 2 has 3 fields"),
        ('id,sequence\na,"MKV\n', [], "malformed"),
        ("id,sequence\n", [], "holds no records"),
        ("id,sequence\n,MKV\n", ["--id-column", "id"], "no id"),
    ],
)
def test_bad_tables(content, words, part, run, write):
    check_refused(run("predict", write("p.csv", content), *words), part, "p.csv")


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        (">b\nMK1V\n", "position 3: digit '1'"),
        (">b\nMK-V\n", "gap '-'"),
        (">b\n", "empty sequence"),
        (">b\n" + "M" * 61 + "\n", "61 residues are more than the 60"),
    ],
)
def test_one_bad_record(bad, part, run, write, model, tmp_path):
    name = write("p.fasta", f">a\nMKVLL\n{bad}>c\nWWW\n")
    status, out, err = run("predict", name, "-o", "out.jsonl")
    assert (status, out) == (0, "")
    assert err == "2 proteins predicted, 1 not: see the notes: out.jsonl\n"
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    first, third = model.predict(["MKVLL", "WWW"]).tolist()
    assert [row["probability"] for row in rows] == [first, None, third]
    assert rows[1]["note"].startswith("not predicted: ")
    assert part in rows[1]["note"]
    (tmp_path / "out.jsonl").unlink()
    refused = run("predict", name, "--strict", "-o", "out.jsonl")
    check_refused(refused, "p.fasta: record 2 (b): ", part)
    assert os.listdir(tmp_path) == ["p.fasta"]


def test_repeated_ids(run, write):
    name = write("p.fasta", ">a\nMKV\n>a\nMKL\n")
    status, out, err = run("predict", name)
    assert (status, err) == (0, "2 proteins predicted\n")
    assert "duplicate id, first of record 1" in out.splitlines()[2]
    check_refused(run("predict", name, "--strict"), "record 2 (a): duplicate id")


def test_order_and_count_are_kept(run, write, tmp_path):
    lengths = np.random.default_rng(0).integers(1, 60, 150)
    text = "".join(f">p{i}\n{'MKVLAG' * 10}"[: 4 + len(str(i)) + n] + "\n" for i, n in
                   enumerate(lengths))  # fmt: skip
    run("predict", write("p.fasta", text), "-o", "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"p{i}" for i in range(150)]


# Models


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b""), "not a readable safetensors"),
        (lambda f: os.truncate(f / "model.safetensors", 700), "not a readable safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 900), "not a readable"),
        (lambda f: (f / "model.safetensors").unlink(), "no such file"),
        (lambda f: (f / "config.json").unlink(), "holds no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "not readable as JSON"),
        (lambda f: change(f, surprise=1), "unknown key 'surprise'"),
        (lambda f: change(f, schema_version=2), "schema_version 2 is not 1"),
        (lambda f: change(f, calibration={"temperature": 0}), "temperature is 0.0"),
        (lambda f: change(f, encoder={"type": "esm2"}), "type 'esm2' is not one of"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "info"])
def test_damaged_models(command, damage, part, run, write, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    words = ["predict", write("p.fasta"), "-o", "out.csv", "--model"]
    check_refused(run(*(words if command == "predict" else ["info"]), copy), part, "copy")
    assert not (tmp_path / "out.csv").exists()


def change(folder: Path, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nowhere", "no such folder"),
        ("nobody-at-all/no-such-model", "the Hub cannot be reached"),
        ("p.fasta", "is a file"),
        ("a" * 300, "cannot be looked up"),
        (".", "holds no config.json"),
    ],
)
def test_models_that_are_not_there(name, part, run, write):
    check_refused(run("predict", write("p.fasta"), "--model", name), part)
    check_refused(run("info", name), part)


def test_info(run, folder, model):
    status, out, err = run("info", folder)
    assert (status, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["model"] == str(folder)
    assert lines["encoder"] == "one_hot; 0 parameters"
    sizes = sum(leaf.size for leaf in jax.tree.leaves(model) if hasattr(leaf, "size"))
    assert f"{sizes} parameters" in lines["head"]
    assert "temperature 0.2" in lines["calibration"]
    assert "max_residues 60" in lines["limits"]
    assert (lines["precision"], lines["source"], lines["licence"]) == ("float32", "a test", "mit")


# Output files


@pytest.mark.parametrize("name", ["out", "out.xlsx", "out.csv.gz", "no/out.csv", "folder.csv"])
def test_bad_output_is_told_before_the_work(name, run, write, tmp_path, monkeypatch):
    def predict(*_, **__):
        raise AssertionError("predicted first")

    monkeypatch.setattr("eqxesm.prediction.predict_records", predict)
    (tmp_path / "folder.csv").mkdir()
    check_refused(run("predict", write("p.fasta"), "-o", name), name)
    assert sorted(os.listdir(tmp_path)) == ["folder.csv", "p.fasta"]


def test_a_full_disk(run, write, tmp_path, monkeypatch):
    write("out.csv", "old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    check_refused(run("predict", write("p.fasta"), "-o", "out.csv"), "No space left on device")
    assert (tmp_path / "out.csv").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "p.fasta"]


# Options


def test_help_names_the_examples(capsys):
    for words in (["--help"], ["predict", "--help"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        assert caught.value.code == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert "eqxesm predict proteins.fasta.gz -o out.csv" in out
        assert "eqxesm info" in out
    assert "probability" in out
    assert "--strict" in out


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"eqxesm {version('eqxesm')}\n"


@pytest.mark.parametrize("words", [[], ["predict"], ["nonsense"], ["predict", "p", "--nonsense"]])
def test_mistyped_commands(words, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: eqxesm")


def test_every_example_is_a_command_that_parses():
    lines = [line.strip() for line in cli.EXAMPLES.splitlines()[1:]]
    for line in lines:
        words = line.split("  ")[0].split("eqxesm ")[1].split()
        options = cli._parser().parse_args(words)
        assert callable(options.command)
    assert len(lines) == 5


def test_an_interrupt_is_no_traceback(run, write, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("eqxesm.prediction.predict_records", interrupt)
    status, out, err = run("predict", write("p.fasta"))
    assert (status, out) == (130, "")
    assert err == "eqxesm: interrupted, nothing was written\n"


def test_a_message_is_one_line_whatever_the_name(run, write):
    check_refused(run("predict", "no\nsuch.fasta"))
    check_refused(run("predict", write("p.fasta"), "--model", "no\nsuch"))
    assert str(InputError("a\nb\r\nc\u2028d")) == "a b c d"


# As a process


def process(command: list, **options) -> subprocess.Popen:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment, **options,
    )  # fmt: skip


def test_script_and_module_are_the_same(folder, tmp_path):
    script = Path(sys.executable).with_name("eqxesm")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    for words, status in (
        (["predict", "-", "--model", folder], 0),
        (["predict", "-", "--model", "nowhere"], 2),
    ):
        results = []
        for command in ([script], [sys.executable, "-m", "eqxesm"]):
            child = process([*command, *words], cwd=tmp_path)
            results.append((*child.communicate(FASTA, timeout=120), child.returncode))
        assert results[0] == results[1]
        out, err, code = results[0]
        assert code == status
        assert len(out.splitlines()) == (4 if status == 0 else 0)
        assert len(err.splitlines()) == 1
        assert "Traceback" not in err


def test_a_closed_pipe_is_no_traceback(folder, tmp_path):
    command = [sys.executable, "-m", "eqxesm", "predict", "-", "--model", folder]
    text = "".join(f">protein-number-{i}\nMKV\n" for i in range(5000))
    with process(command, cwd=tmp_path) as child:
        child.stdout.close()
        child.stdin.write(text)
        child.stdin.close()
        err = child.stderr.read()
        assert child.wait(120) == 0
    assert err == ""


@pytest.mark.skipif(not SHIPPED.exists(), reason="no default model stands in the package yet")
def test_the_default_model(run, tmp_path):
    examples = Path(__file__).parents[1] / "examples" / "proteins.fasta"
    assert cli.main(["predict", str(examples), "-o", str(tmp_path / "out.jsonl")]) == 0
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 20
    assert all(0 < row["probability"] < 1 for row in rows)
    status, out, _ = run("info")
    assert status == 0
    assert out.splitlines()[0].split() == ["model", "default"]
    shipped = SolubilityModel.from_pretrained()
    assert f"threshold {shipped.calibration.threshold}" in out
    assert dataclasses.asdict(shipped.limits)["max_residues"] > 100
