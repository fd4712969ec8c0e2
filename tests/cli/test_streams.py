"""Work in blocks: what is stopped goes on, shards make the whole, and nothing is lost or done twice."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import h5py
import jax
import numpy as np
import pytest
from commands import assert_refused
from pyarrow import parquet
from safetensors.numpy import load_file

from eqxesm.predict import Predictor

COUNT = 40
LENGTHS = np.random.default_rng(0).integers(1, 30, COUNT)
BAD = 17  # this record has a digit in it
FASTA = "".join(
    f">p{number}\n{'MKVLAGW1'[number % 7 :] if number == BAD else ('MKVLAGW' * 9)[number % 7 :][:length]}\n"
    for number, length in enumerate(LENGTHS)
)
FORMATS = ["csv", "tsv", "jsonl", "parquet"]

pytestmark = pytest.mark.usefixtures("small_blocks")


def read(path) -> object:
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: np.asarray(each).tobytes() for name, each in file.items()}
    if path.suffix == ".safetensors":
        # Its metadata is in no order.
        return {name: each.tobytes() for name, each in load_file(path).items()}
    return parquet.read_table(path).to_pylist() if path.suffix == ".parquet" else path.read_bytes()


def rounded(table: object) -> object:
    """Without the last digits: a batch of another shape may be summed in another order."""
    if isinstance(table, bytes):
        return re.sub(rb"\d+\.\d+", lambda found: b"%.5f" % float(found[0]), table)
    return [{name: round(v, 5) if isinstance(v, float) else v for name, v in row.items()} for row in table]


def stop_at(monkeypatch, block: int, error: BaseException) -> list[int]:
    """Raise an error when a block is worked on, the first time. Returns the numbers of the blocks, as they come."""
    seen: list[int] = []
    real = Predictor.__call__

    def call(self, asked, advance):
        if asked.number == block and block not in seen:
            seen.append(block)
            raise error
        seen.append(asked.number)
        return real(self, asked, advance)

    monkeypatch.setattr(Predictor, "__call__", call)
    return seen


@pytest.fixture
def whole(run, write, tmp_path):
    """What an unbroken run writes, by format."""
    write("p.fasta", FASTA)
    for ending in FORMATS:
        assert run("predict", "p.fasta", "-o", f"whole.{ending}")[0] == 0
    return {ending: read(tmp_path / f"whole.{ending}") for ending in FORMATS}


def test_blocks_give_what_one_block_gives(whole, run, tmp_path, monkeypatch):
    monkeypatch.setattr("eqxesm.records.MOST", 10**6)
    monkeypatch.setattr("eqxesm.records.FEWEST", 10**6)
    for ending in FORMATS:
        status, _, err = run("predict", "p.fasta", "-o", f"one.{ending}")
        assert (status, err) == (0, f"39 proteins predicted, 1 not predicted: see the notes: one.{ending}\n")
        assert rounded(read(tmp_path / f"one.{ending}")) == rounded(whole[ending])
    assert len(whole["parquet"]) == COUNT


@pytest.mark.parametrize("ending", FORMATS)
def test_a_stopped_run_goes_on(ending, whole, run, tmp_path, monkeypatch):
    seen = stop_at(monkeypatch, 5, KeyboardInterrupt())
    status, _, err = run("predict", "p.fasta", "-o", f"out.{ending}")
    assert (status, err) == (130, f"eqxesm: interrupted, and out.{ending} is not whole. Go on with --resume.\n")
    assert not (tmp_path / f"out.{ending}").exists()
    parts = sorted((tmp_path / f".out.{ending}.parts").glob(f"*.{ending}"))
    assert len(parts) == 5
    assert all(read(part) for part in parts)
    assert run("predict", "p.fasta", "-o", f"out.{ending}", "--resume")[0] == 0
    assert read(tmp_path / f"out.{ending}") == whole[ending]
    blocks = max(seen) + 1
    assert blocks > 10
    assert seen == [*range(6), *range(5, blocks)]
    assert not (tmp_path / f".out.{ending}.parts").exists()


def test_a_run_starts_anew_without_resume(whole, run, tmp_path, monkeypatch):
    seen = stop_at(monkeypatch, 3, KeyboardInterrupt())
    run("predict", "p.fasta", "-o", "out.csv")
    assert run("predict", "p.fasta", "-o", "out.csv")[0] == 0
    assert seen[:5] == [0, 1, 2, 3, 0]
    assert read(tmp_path / "out.csv") == whole["csv"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda words, _: words.__setitem__(1, "q.fasta"), "another input"),
        (lambda words, copy: words.extend(["--model", copy]), "another model"),
        (lambda words, _: words.extend(["--id-column", "name"]), "another --id-column"),
    ],
)
def test_refuses_to_go_on_with_something_else(change, part, whole, run, write, model, tmp_path, monkeypatch):
    stop_at(monkeypatch, 4, KeyboardInterrupt())
    write("q.fasta", FASTA + ">more\nMKV\n")
    model.replace(head=type(model.head)(model.head.config, key=jax.random.key(9))).save_pretrained(tmp_path / "copy")
    run("predict", "p.fasta", "-o", "out.csv")
    words = ["predict", "p.fasta", "-o", "out.csv", "--resume"]
    change(words, str(tmp_path / "copy"))
    before = sorted(os.listdir(tmp_path / ".out.csv.parts"))
    assert_refused(run(*words), "out.csv: the run that was stopped had ", part)
    assert sorted(os.listdir(tmp_path / ".out.csv.parts")) == before
    assert run("predict", "p.fasta", "-o", "out.csv", "--resume")[0] == 0
    assert read(tmp_path / "out.csv") == whole["csv"]


def test_a_full_disk_midway_keeps_what_is_written(whole, run, tmp_path, monkeypatch):
    moves, real = [], os.replace

    def replace(*paths):
        moves.append(paths)
        if len(moves) == 5:
            raise OSError(28, "No space left on device")
        real(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        assert_refused(run("predict", "p.fasta", "-o", "out.csv"), "No space left on device")
    # The first move was that of inputs.json.
    assert len(list((tmp_path / ".out.csv.parts").glob("*.csv"))) == 3
    assert run("predict", "p.fasta", "-o", "out.csv", "--resume")[0] == 0
    assert read(tmp_path / "out.csv") == whole["csv"]


@pytest.mark.parametrize("ending", FORMATS)
def test_shards_make_the_whole(ending, whole, run, tmp_path):
    out = f"out.{ending}"
    for number in (2, 3, 1):
        assert_refused(run("join", out), out)
        status, _, err = run("predict", "p.fasta", "-o", out, "--shard", f"{number}/3")
        assert status == 0
        assert f"; join the shards of {out} when all are done" in err
        assert not (tmp_path / out).exists()
    assert run("join", out) == (0, "", f"joined: {out}\n")
    assert read(tmp_path / out) == whole[ending]
    assert_refused(run("join", out), "there are no parts of it")


def test_join_names_what_is_missing(whole, run, tmp_path):
    for number in (1, 2):
        run("predict", "p.fasta", "-o", "out.csv", "--shard", f"{number}/2")
    (tmp_path / ".out.csv.parts" / "000000003.csv").unlink()
    assert_refused(run("join", "out.csv"), "1 part of ", "missing, the first 000000003.csv")
    assert run("predict", "p.fasta", "-o", "out.csv", "--shard", "2/2")[0] == 0
    assert run("join", "out.csv")[0] == 0
    assert read(tmp_path / "out.csv") == whole["csv"]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_refuses_shards_that_are_none(text, run, write):
    assert_refused(run("predict", write("p.fasta"), "-o", "out.csv", f"--shard={text}"), "expected I/N")


@pytest.mark.parametrize("words", [["--resume"], ["--shard", "1/2"]])
def test_going_on_needs_files(words, run, write):
    assert_refused(run("predict", write("p.fasta"), *words), "add --out")
    assert_refused(run("predict", "-", "-o", "out.csv", *words, stdin=FASTA.encode()), "name files")


def test_files_are_read_one_after_another(whole, run, write, tmp_path):
    lines = FASTA.splitlines(keepends=True)
    write("a.fasta", "".join(lines[:30]))
    write(
        "b.csv",
        "id,sequence\n" + "".join(f"{h[1:].strip()},{s}" for h, s in zip(lines[30::2], lines[31::2], strict=True)),
    )
    assert run("predict", "a.fasta", "b.csv", "-o", "out.csv")[0] == 0
    assert read(tmp_path / "out.csv") == whole["csv"]
    assert_refused(run("predict", "a.fasta", "b.csv", "--strict"), f"b.csv, record {BAD - 14} (p{BAD}): ")
    assert_refused(run("predict", "a.fasta", "nowhere.csv"), "nowhere.csv: file not found")


def test_an_id_of_another_file_is_noted(run, write):
    write("a.fasta", ">x\nMKV\n>y\nMKV\n")
    _, out, _ = run("predict", "a.fasta", "a.fasta")
    assert [line.split()[6:] for line in out.splitlines()[3:]] == [
        ["duplicate", "id,", "first", "used", "by", "record", number] for number in "12"
    ]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_table_from_standard_input(delimiter, run):
    table = f"name{delimiter}seq\na{delimiter}MKVLLAAG\n"
    _, expected, _ = run("predict", "-", stdin=b">a\nMKVLLAAG\n")
    assert run("predict", "-", stdin=table.encode())[1] == expected


def test_the_terminal_shows_every_row(run, write):
    _, out, _ = run("predict", write("p.fasta", FASTA))
    assert [line.split()[0] for line in out.splitlines()] == ["id", *(f"p{number}" for number in range(COUNT))]


KILLS = 20
FEW_KILLS = 4
"""Where another kind of file is written in the same way."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "ending", "kills"),
    [
        *(("predict", each, KILLS if each in ("csv", "parquet") else FEW_KILLS) for each in FORMATS),
        *(("embed", each, KILLS if each == "h5" else FEW_KILLS) for each in ("h5", "parquet", "safetensors")),
    ],
)
def test_killed_runs_lose_nothing(command, ending, kills, folder, encoder_folder, tmp_path):
    """Killed outright again and again, from the first block to the last, and resumed each time."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 6, 10_000)
    (tmp_path / "p.fasta").write_text("".join(f">p{i}\n{'MKVLAGWDE' * int(n)}\n" for i, n in enumerate(lengths)))
    block = 9 * int(lengths.sum()) // 100
    code = f"from eqxesm import records; records.MOST = records.FEWEST = {block}; from eqxesm.cli.main import main; "
    call = "import sys; sys.exit(main(sys.argv[1:]))"
    model = str(folder if command == "predict" else encoder_folder)
    words = [sys.executable, "-c", code + call, command, "p.fasta", "--model", model, "-o"]

    def start(out: str, *more: str) -> subprocess.Popen:
        return subprocess.Popen([*words, out, *more], cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    _, err = (whole := start(f"whole.{ending}")).communicate()
    assert whole.returncode == 0, err
    parts = tmp_path / f".out.{ending}.parts"
    for kill in range(kills):
        process = start(f"out.{ending}", *["--resume"] * bool(kill))
        while process.poll() is None and (not parts.exists() or len(os.listdir(parts)) < (kill - 1) * 100 // kills):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert not (tmp_path / f"out.{ending}").exists()
    _, err = (last := start(f"out.{ending}", "--resume")).communicate()
    assert last.returncode == 0, err
    assert read(tmp_path / f"out.{ending}") == read(tmp_path / f"whole.{ending}")


def test_a_damaged_folder_of_parts_is_refused(run, write, tmp_path):
    write("p.fasta", FASTA)
    (tmp_path / ".out.csv.parts").mkdir()
    (tmp_path / ".out.csv.parts" / "inputs.json").write_text(json.dumps(["no", "inputs"]))
    (tmp_path / ".out.csv.parts" / "000000000.csv").write_text("id\n")
    assert_refused(run("predict", "p.fasta", "-o", "out.csv", "--resume"), "another input")
    shutil.rmtree(tmp_path / ".out.csv.parts")
    assert run("predict", "p.fasta", "-o", "out.csv", "--resume")[0] == 0
