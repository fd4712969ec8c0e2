"""What `eqxesm train` refuses: one line, status 2, and nothing half written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from run_recipes import (
    SIZES,
    contents,
    epochs,
    hurry,
    make_data,
    refused,
    rows,
    train,
    weights,
    write,
)

from eqxesm.training import folder as folder_module
from eqxesm.training import loop
from eqxesm.training import run as run_module
from eqxesm.training.loop import train_step


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def first_of_training(made: list[dict]) -> None:
    made[0].update(rows("training")[0])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("training", lambda made: made[0].update(label=2), "training.csv: line 2, record '1': "
         "column 'label' holds '2': write 0, 1 or nothing"),
        ("test", lambda made: made[3].update(label="yes"), "test.csv: line 5, record '4'"),
        ("training", lambda made: [row.update(label=1) for row in made],
         "training: every protein that is left has label 1: give both classes"),
        ("validation", lambda made: [row.update(label=0) for row in made],
         "validation: every protein that is left has label 0: give both classes"),
        ("test", lambda made: [row.update(label=0) for row in made],
         "test set 'test set': every protein has label 0: give both classes"),
        ("validation", first_of_training, "1 training protein leaks into validation: the sequence "
         "of 'training:1' is that of 'validation:1'"),
        ("test", first_of_training, "1 training protein leaks into test set 'test set'"),
        ("training", lambda made: [row.update(sequence="") for row in made],
         "training: of 60 proteins none is left (60 not readable)"),
        ("test", lambda made: [row.update(sequence="?") for row in made],
         "test set 'test set': of 40 proteins none is left"),
        ("validation", lambda made: [row.update(label="") for row in made],
         "validation.csv: of 30 proteins, none that is wanted has a label"),
    ],
    ids=["label", "word", "one class", "one class to stop by", "one class to measure",
         "leak", "leak to measure", "empty", "unreadable", "unlabelled"],
)  # fmt: skip
def test_data_that_will_not_do(name, change, message, tmp_path, capsys):
    recipe = make_data(tmp_path)
    made = rows(name)
    change(made)
    write(tmp_path / f"{name}.csv", made)
    assert message in refused(capsys, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.training.0.label_column=solubility"],
         "training.csv: no column 'solubility': name one of those there: 'sequence', 'label'"),
        (["data.test.0.sequence_column=protein"], "test.csv: no column 'protein'"),
        (["data.training.0.path=absent.csv"], "absent.csv: no such file"),
        (["data.max_residues=5"], "training: of 60 proteins none is left (60 too long)"),
        (["model.encoder={pretrained='/absent'}"], "/absent: no such folder"),
        (["training.strategy=lora"], "training: strategy 'lora': OneHot has no blocks"),
        (["training.epoch=9", "data.limit=9", "body=1"],
         "recipe.toml: the recipe: unknown key 'body'; data: unknown key 'limit'; training: "
         "unknown key 'epoch'"),
    ],
    ids=["column", "other column", "file", "too long", "encoder", "strategy", "keys"],
)  # fmt: skip
def test_settings_that_will_not_do(settings, message, recipe, tmp_path, capsys):
    assert message in refused(capsys, recipe, tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_recipes_that_are_none(tmp_path, capsys):
    assert "cannot be read (No such file or directory)" in refused(
        capsys, tmp_path / "absent.toml", tmp_path / "run"
    )
    (tmp_path / "r.toml").write_text("name = 'r'\n[data\n")
    error = refused(capsys, tmp_path / "r.toml", tmp_path / "run")
    assert "r.toml: not TOML (" in error
    assert "line 2" in error
    assert os.listdir(tmp_path) == ["r.toml"]


# Folders


def test_folders_that_will_not_do(recipe, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.toml").write_text("[")
    before = contents(tmp_path)
    for name, message in (
        ("file", "file: is a file: choose another folder"),
        ("file/run", "file: is a file: choose another folder"),
        ("full", "full: holds something, but no run: choose another folder"),
        ("broken", "broken: the recipe of its run is broken: choose another folder"),
        ("a" * 300, "cannot be used (File name too long): choose another folder"),
    ):
        assert message in refused(capsys, recipe, tmp_path / name)
    assert contents(tmp_path) == before
    monkeypatch.setattr(folder_module.os, "access", lambda path, _: path != tmp_path)
    error = refused(capsys, recipe, tmp_path / "new" / "run")
    assert "no permission to write there: choose another folder" in error


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that nobody may write to")
def test_a_folder_that_cannot_be_made(recipe, capsys, monkeypatch):
    monkeypatch.setattr(folder_module.os, "access", lambda *_: True)
    room = shutil._ntuple_diskusage(0, 0, 10**9)
    monkeypatch.setattr(folder_module.shutil, "disk_usage", lambda _: room)
    assert "cannot be made (" in refused(capsys, recipe, Path("/proc/eqxesm"))


@pytest.mark.parametrize("short", [True, False])
def test_a_disk_that_is_too_small_is_told_before(short, recipe, tmp_path, capsys, monkeypatch):
    # 26 * 8 + 8 weights of the hidden layer and 9 of the last: the model, and three copies of what
    # is trained in the state, all of it twice while the new takes the place of the old.
    needed = 2 * 4 * 4 * (26 * 8 + 8 + 9)
    room = shutil._ntuple_diskusage(0, 0, needed - short)
    monkeypatch.setattr(folder_module.shutil, "disk_usage", lambda _: room)
    monkeypatch.setattr(run_module, "fit", interrupt)
    run = tmp_path / "new" / "run"
    if short:
        error = refused(capsys, recipe, run)
        assert "checkpoints need 7.2 kB and 7.2 kB are free: make room" in error
        assert os.listdir(tmp_path) == []
    else:
        assert train(recipe, run) == 130


def interrupt(*_, **__):
    raise KeyboardInterrupt


# In the middle


def spoil(monkeypatch, number: int, change) -> None:
    """Change what a step of the training gives, counted from 1."""
    taken = []

    def step(*arguments):
        taken.append(1)
        given = train_step(*arguments)
        return change(given) if len(taken) == number else given

    monkeypatch.setattr(loop, "train_step", step)


def test_a_loss_that_is_no_number(recipe, tmp_path, capsys, monkeypatch):
    """The best model so far stays, and the batch is named."""
    hurry(monkeypatch)
    good = tmp_path / "good"
    assert train(recipe, good) == 0
    nothing = jax.numpy.float32("nan")
    spoil(monkeypatch, 5, lambda given: (given[0], given[1]._replace(loss=nothing)))
    run = tmp_path / "run"
    capsys.readouterr()
    assert train(recipe, run) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "step 5: the loss is nan" in error
    named = error.split("the batch: ")[1].split(" and ")[0].split(", ")
    assert len(named) == 8
    assert set(named) <= {f"training:{number}" for number in range(1, SIZES["training"] + 1)}
    assert epochs(run) == epochs(good)[:1]
    assert (run / "model" / "config.json").exists()
    monkeypatch.setattr(loop, "train_step", train_step)
    assert train(recipe, run, "--resume") == 0
    assert weights(run) == weights(good)


def test_a_learning_rate_that_is_too_high(recipe, tmp_path, capsys):
    settings = ["training.learning_rate=1e30", "training.warmup=0.0"]
    assert train(recipe, tmp_path / "run", settings=settings) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "step 2: the loss is nan" in error
    assert "lower learning_rate" in error


def test_a_batch_that_is_too_large(recipe, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(loop, "train_step", full)
    assert train(recipe, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert (
        "a batch of 25 proteins of 40 tokens does not fit the memory: lower "
        "training.tokens_per_batch (now 1024)"
    ) in error


# Packages


def test_a_missing_extra_is_named(recipe, tmp_path):
    code = (
        "import sys; sys.modules['sklearn'] = None; from eqxesm.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", str(recipe), "--out", str(tmp_path / "run")],
        capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=False,
    )  # fmt: skip
    expected = "eqxesm: error: sklearn is not installed: pip install 'eqxesm[evaluate]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
    assert not (tmp_path / "run").exists()


def test_a_missing_tracker_is_named(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "eqxesm.training.tracking", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    error = refused(capsys, recipe, tmp_path / "run", "--mlflow")
    assert "mlflow is not installed: pip install 'eqxesm[mlflow]'" in error
    assert not (tmp_path / "run").exists()
