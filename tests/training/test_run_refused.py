"""What `eqxesm train` refuses: one line, status 2, and no half-written files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from run_recipes import SIZES, contents, epochs, hurry, make_data, refused, rows, train, weights, write

from eqxesm.training import loop, run_folder
from eqxesm.training import run as run_module
from eqxesm.training.loop import train_step


def first_of_training(made: list[dict]) -> None:
    made[0].update(rows("training")[0])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("training", lambda made: made[0].update(label=2),
         "training.csv, line 2 (training:1): label is '2', expected one of 1/0, true/false"),
        ("test", lambda made: made[3].update(label="yes"),
         "test.csv, line 5 (test set:4): label is 'yes', but earlier ones are 1 and 0"),
        ("training", lambda made: [row.update(label=1) for row in made],
         "training: every protein that is left has label 1"),
        ("validation", lambda made: [row.update(label=0) for row in made],
         "validation: every protein that is left has label 0"),
        ("test", lambda made: [row.update(label=0) for row in made],
         "test set 'test set': every protein has label 0"),
        ("validation", first_of_training, "1 training protein leaks into validation: the sequence "
         "of 'training:1' is that of 'validation:1'"),
        ("test", first_of_training, "1 training protein leaks into test set 'test set'"),
        ("training", lambda made: [row.update(sequence="") for row in made],
         "training: none of 60 proteins is left (60 not readable)"),
        ("test", lambda made: [row.update(sequence="?") for row in made],
         "test set 'test set': none of 40 proteins is left"),
        ("validation", lambda made: [row.update(label="") for row in made],
         "validation.csv: no labelled protein matches where and folds (30 proteins without a label)"),
    ],
    ids=["label", "word", "one class", "one class to stop by", "one class to measure",
         "leak", "leak to measure", "empty", "unreadable", "unlabelled"],
)  # fmt: skip
def test_refuses_data_that_cannot_be_used(name, change, message, tmp_path, capsys):
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
         "training.csv: no column 'solubility'"),
        (["data.test.0.sequence_column=protein"], "test.csv: no column 'protein'"),
        (["data.training.0.path=absent.csv"], "data.training.0: "),
        (["data.max_residues=5"], "training: none of 60 proteins is left (60 too long)"),
        (["model.encoder={pretrained='/absent'}"], "model.encoder.pretrained is '/absent': folder not found"),
        (["training.strategy=lora"], "training.strategy is 'lora': adapters are for ESM-C, not for OneHot"),
        (["training.epoch=9", "data.limit=9", "body=1"],
         "recipe.toml: unknown key 'data.limit'; unknown key 'training.epoch'; unknown key 'body'"),
    ],
    ids=["column", "other column", "file", "too long", "encoder", "strategy", "keys"],
)  # fmt: skip
def test_refuses_settings_that_cannot_be_used(settings, message, recipe, tmp_path, capsys):
    assert message in refused(capsys, recipe, tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_refuses_files_that_are_not_recipes(tmp_path, capsys):
    assert "absent.toml: file not found" in refused(capsys, tmp_path / "absent.toml", tmp_path / "run")
    (tmp_path / "r.toml").write_text("name = 'r'\n[data\n")
    error = refused(capsys, tmp_path / "r.toml", tmp_path / "run")
    assert "r.toml: not TOML (" in error
    assert "line 2" in error
    assert os.listdir(tmp_path) == ["r.toml"]


# Folders


def test_refuses_folders_that_cannot_be_used(recipe, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.toml").write_text("[")
    before = contents(tmp_path)
    for name, message in (
        ("file", "file: is a file. Choose another folder"),
        ("file/run", "file: is a file. Choose another folder"),
        ("full", "full: not empty, and not a run. Choose another folder"),
        ("broken", "broken/config.toml: damaged. Choose another folder"),
        ("a" * 300, "cannot be used (File name too long)"),
    ):
        assert message in refused(capsys, recipe, tmp_path / name)
    assert contents(tmp_path) == before
    monkeypatch.setattr(run_folder.os, "access", lambda path, _: path != tmp_path)
    error = refused(capsys, recipe, tmp_path / "new" / "run")
    assert "no permission to write there" in error


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that nobody can write to")
def test_refuses_a_folder_that_cannot_be_made(recipe, capsys, monkeypatch):
    monkeypatch.setattr(run_folder.os, "access", lambda *_: True)
    room = shutil._ntuple_diskusage(0, 0, 10**9)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _: room)
    assert "cannot be made (" in refused(capsys, recipe, Path("/proc/eqxesm"))


@pytest.mark.parametrize("short", [True, False])
def test_refuses_a_disk_that_is_too_small(short, recipe, tmp_path, capsys, monkeypatch):
    # 26 * 8 + 8 weights of the hidden layer and 9 of the last: the model, and three copies of what
    # is trained in the state, all of it twice while the new replaces the old.
    needed = 2 * 4 * 4 * (26 * 8 + 8 + 9)
    room = shutil._ntuple_diskusage(0, 0, needed - short)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _: room)
    monkeypatch.setattr(run_module, "fit", interrupt)
    run = tmp_path / "new" / "run"
    if short:
        error = refused(capsys, recipe, run)
        assert "checkpoints need 7.20kB, and 7.20kB are free" in error
        assert os.listdir(tmp_path) == []
    else:
        assert train(recipe, run) == 130


def interrupt(*_, **__):
    raise KeyboardInterrupt


# In the middle of a run


def change_step(monkeypatch, number: int, change) -> None:
    """Change what one training step returns. Steps are counted from 1."""
    taken = []

    def step(*arguments):
        taken.append(1)
        returned = train_step(*arguments)
        return change(returned) if len(taken) == number else returned

    monkeypatch.setattr(loop, "train_step", step)


def test_loss_of_nan_stops_the_run_and_keeps_the_best_model(recipe, tmp_path, capsys, monkeypatch):
    """The error names the batch, and the run can be resumed."""
    hurry(monkeypatch)
    good, run = tmp_path / "good", tmp_path / "run"
    assert train(recipe, good) == 0
    nan = jax.numpy.float32("nan")
    change_step(monkeypatch, 5, lambda returned: (returned[0], returned[1]._replace(loss=nan)))
    capsys.readouterr()
    assert train(recipe, run) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "training diverged at step 5: loss nan" in error
    named = error.split("the batch: ")[1].split(" and ")[0].split(", ")
    assert len(named) == 8
    assert set(named) <= {f"training:{number}" for number in range(1, SIZES["training"] + 1)}
    assert epochs(run) == epochs(good)[:1]
    assert (run / "model" / "config.json").exists()
    monkeypatch.setattr(loop, "train_step", train_step)
    assert train(recipe, run, "--resume") == 0
    assert weights(run) == weights(good)


def test_learning_rate_that_is_too_high_stops_the_run(recipe, tmp_path, capsys):
    settings = ["training.learning_rate=1e30", "training.warmup=0.0"]
    assert train(recipe, tmp_path / "run", settings=settings) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "training diverged at step 2: loss nan" in error
    assert "Try a lower training.learning_rate" in error


def test_batch_that_does_not_fit_stops_the_run(recipe, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(loop, "train_step", full)
    assert train(recipe, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "out of memory: a batch of 25 proteins of 40 tokens. Lower training.tokens_per_batch (now 1024)" in error


# Missing packages


def test_missing_extra_is_named(recipe, tmp_path):
    code = "import sys; sys.modules['sklearn'] = None; from eqxesm.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", str(recipe), "--out", str(tmp_path / "run")],
        capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=False,
    )  # fmt: skip
    expected = f'sklearn is not installed. Run: {sys.executable} -m pip install "eqxesm[train]"'
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith(f"eqxesm: error: {expected}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variable", ["SLURM_NTASKS", "JAX_NUM_PROCESSES"])
def test_refuses_an_environment_that_makes_no_sense(variable, recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1") if "JAX" in variable else None
    monkeypatch.setenv(variable, "two")
    error = refused(capsys, recipe, tmp_path / "run")
    assert f"the environment variable {variable} is 'two', expected a number" in error


def test_missing_tracker_is_named(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "eqxesm.training.tracking", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    error = refused(capsys, recipe, tmp_path / "run", "--mlflow")
    assert f'mlflow is not installed. Run: {sys.executable} -m pip install "eqxesm[mlflow]"' in error
    assert not (tmp_path / "run").exists()
