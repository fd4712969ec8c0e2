"""Runs of a recipe, as `eqxesm train` makes them: what they leave behind, and how they go on."""

import errno
import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from run_recipes import (
    RECIPE,
    SIZES,
    contents,
    epochs,
    hurry,
    make_data,
    proteins,
    refused,
    rows,
    stop_after,
    train,
    weights,
    write,
)
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from eqxesm import InputError, SolubilityModel, cli
from eqxesm.checkpoint import tensors
from eqxesm.data.array_record import write_array_record
from eqxesm.data.records import LabelledProtein
from eqxesm.evaluation import assessment
from eqxesm.evaluation.baselines import fit_baselines
from eqxesm.training import run as run_module
from eqxesm.training.recipe import read_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def done(recipe, tmp_path_factory) -> Path:
    """A finished run, its pictures drawn."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(assessment, "RESAMPLES", 50)
        assert train(recipe, folder) == 0
    return folder


@pytest.fixture
def quick(monkeypatch) -> None:
    hurry(monkeypatch)


def measured(folder: Path) -> dict:
    return json.loads((folder / "report" / "metrics.json").read_text())


def test_what_a_run_leaves_behind(done):
    left = set(contents(done))
    states = {name for name in left if name.startswith("state-")}
    pictures = ("confusion", "roc", "reliability", "by_length")
    assert left - states == {
        "config.toml", "digests.json", "metrics.jsonl",
        "model/README.md", "model/calibration.png", "model/config.json", "model/metrics.json",
        "model/model.safetensors",
        "report/hygiene.json", "report/hygiene.md", "report/metrics.json", "report/table.md",
        "report/curves.png", "report/curves.svg",
        *(f"report/test_set/{name}.{kind}" for name in pictures for kind in ("png", "svg")),
    }  # fmt: skip
    assert len({Path(name).parts[0] for name in states}) == 1


def test_the_recipe_is_spelled_out(done, recipe):
    told = tomllib.loads((done / "config.toml").read_text())
    asked = tomllib.loads(RECIPE)
    assert told["training"] | asked["training"] == told["training"]
    assert told["training"]["weight_decay"] == 0.01
    assert told["data"]["root"] == str(recipe.parent)


def test_the_report_is_what_the_model_predicts(done):
    model = SolubilityModel.from_pretrained(done / "model")
    sequences, labels = proteins("test")
    probabilities = model.predict(sequences)
    found = measured(done)["tests"]["test set"]["all"]
    expected = {
        "auroc": roc_auc_score(labels, probabilities),
        "accuracy": accuracy_score(labels, probabilities >= 0.5),
        "brier": brier_score_loss(labels, probabilities),
    }
    assert found["proteins"] == SIZES["test"]
    for name, value in expected.items():
        assert found["model"][name]["value"] == pytest.approx(value, rel=1e-5)
    for name, predicted in fit_baselines(*proteins("training")).predict(sequences).items():
        assert found[name]["auroc"]["value"] == pytest.approx(roc_auc_score(labels, predicted))


def test_the_epochs_are_told_and_the_best_is_kept(done):
    told = epochs(done)
    assert [epoch["number"] for epoch in told] == [1, 2, 3]
    losses = [epoch["validation"]["loss"] for epoch in told]
    best = int(np.argmin(losses))
    assert measured(done)["best_epoch"] == best + 1
    model = SolubilityModel.from_pretrained(done / "model")
    for name in ("validation", "test"):
        sequences, labels = proteins(name)
        scores = logit(model.predict(sequences).astype(float)) * model.calibration.temperature
        expected = told[best]["validation" if name == "validation" else "tests"]
        expected = expected["test set"] if name == "test" else expected
        found = log_loss(labels, 1 / (1 + np.exp(-scores)))
        assert found == pytest.approx(expected["loss"], rel=1e-4)
        assert accuracy_score(labels, scores > 0) == pytest.approx(expected["accuracy"])


def test_the_temperature_is_that_of_a_regression(done):
    """The slope of a logistic regression on the logits without an intercept is its inverse."""
    model = SolubilityModel.from_pretrained(done / "model")
    sequences, labels = proteins("validation")
    temperature = model.calibration.temperature
    scores = logit(model.predict(sequences).astype(float)) * temperature
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    slope = regression.fit(scores[:, None], labels).coef_[0, 0]
    assert temperature == pytest.approx(1 / slope, rel=1e-3)
    assert temperature == measured(done)["temperature"]


def test_the_table_and_the_lines_say_the_same(done):
    table = (done / "report" / "table.md").read_text().splitlines()[2:]
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    for row, line in zip(table, lines, strict=True):
        cells = [cell.strip(" *") for cell in row.strip("|").split("|")]
        sets = [line["training"], line["validation"], line["tests"]["test set"]]
        values = [f"{each['loss']:.4f} {each['accuracy']:.3f}" for each in sets]
        seconds = f"{line['seconds']:.1f}"
        assert cells == [str(line["number"]), *" ".join(values).split(), seconds]


def test_what_the_model_says_of_itself(done, capsys):
    model = SolubilityModel.from_pretrained(done / "model")
    assert model.cleaning.strip_initial_met
    assert model.provenance is not None
    origin = model.provenance.source, model.provenance.license
    assert origin == ("eqxesm train, recipe tried", "mit")
    lengths = [len(sequence) - 1 for sequence in proteins("training")[0]]
    limits = model.limits.min_residues, model.limits.max_residues
    assert limits == (min(lengths), max(lengths))
    card = (done / "model" / "README.md").read_text()
    command = f"recipe.toml --out {done}`"
    for fact in ("A recipe that is tried out.", "| one | one | MIT | 30 |", "tag rule", command):
        assert fact in card
    assert cli.main(["info", str(done / "model")]) == 0
    assert "A recipe that is tried out." in capsys.readouterr().out


def test_the_sources_stay_apart_in_the_report(done):
    hygiene = json.loads((done / "report" / "hygiene.json").read_text())
    portions = [
        (each["split"], each["source"], each["license"], each["kept"])
        for each in hygiene["portions"]
    ]
    assert portions == [
        ("training", "other", "MIT", 30),
        ("training", "one", "MIT", 30),
        ("validation", "validation", None, 30),
        ("test set", "test set", None, 40),
    ]
    assert "| training | other | MIT | 30 |" in (done / "report" / "hygiene.md").read_text()


def test_evaluate_finds_the_baselines_of_the_run(done, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(assessment, "RESAMPLES", 10)
    words = [recipe.parent / "test.csv", "--model", done / "model", "--out", tmp_path / "r"]
    assert cli.main(["evaluate", *map(str, words)]) == 0
    report = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert report["baselines_fitted_on"] == "the model's training data, by its record"
    trained = measured(done)["tests"]["test set"]
    for part in ("all", "untagged"):
        for name in ("tag_rule", "composition", "model"):
            ours, theirs = report[part][name]["auroc"], trained[part][name]["auroc"]
            assert ours["value"] == pytest.approx(theirs["value"])


@pytest.mark.usefixtures("quick")
def test_what_a_user_sees(recipe, tmp_path, capsys):
    folder = tmp_path / "a run"
    assert train(recipe, folder, settings=["training.epochs=1"]) == 0
    out, err = capsys.readouterr()
    first, *table = out.splitlines()
    assert first.startswith("60 proteins to train on, 30 to stop by; ")
    assert first.endswith(f"{folder}/report/hygiene.md")
    assert table[0].split() == ["training", "validation", "test", "set"]
    assert table[2].split()[0] == "1"
    assert table[2].endswith("  best so far")
    assert table[3:5] == ["", "test set"]
    assert err == f"model: {folder}/model, report: {folder}/report\n"
    # A name with a blank is quoted where the command is recorded.
    assert f"--out '{folder}'" in (folder / "model" / "README.md").read_text()


# The same again


@pytest.mark.usefixtures("quick")
def test_a_second_run_is_the_same_to_the_bit(done, recipe, tmp_path):
    # To go on with what never began is to begin.
    assert train(recipe, tmp_path / "again", "--resume") == 0
    assert weights(tmp_path / "again") == weights(done)
    assert epochs(tmp_path / "again") == epochs(done)


@pytest.mark.usefixtures("quick")
def test_the_recipe_it_wrote_makes_the_same_run(done, tmp_path):
    assert train(done / "config.toml", tmp_path / "run") == 0
    assert weights(tmp_path / "run") == weights(done)


@pytest.mark.usefixtures("quick")
def test_a_set_that_stays_on_disk_makes_the_same_run(done, recipe, tmp_path):
    made = [
        LabelledProtein(f"training:{i}", row["sequence"], row["label"], row["origin"], "MIT")
        for i, row in enumerate(rows("training"))
    ]
    write_array_record(tmp_path / "training.arrayrecord", made)
    source = f"data.training=[{{path='{tmp_path / 'training.arrayrecord'}'}}]"
    assert train(recipe, tmp_path / "run", settings=[source]) == 0
    assert weights(tmp_path / "run") == weights(done)


@pytest.mark.usefixtures("quick")
def test_two_sources_are_one_training_set(done, recipe, tmp_path):
    made = rows("training")
    for name, part in (("first", made[:20]), ("second", made[20:])):
        write(tmp_path / f"{name}.csv", part)
    sources = ", ".join(
        f"{{path='{tmp_path / name}.csv', license='{terms}'}}"
        for name, terms in (("first", "MIT"), ("second", "CC0"))
    )
    assert train(recipe, tmp_path / "run", settings=[f"data.training=[{sources}]"]) == 0
    assert weights(tmp_path / "run") == weights(done)
    hygiene = json.loads((tmp_path / "run" / "report" / "hygiene.json").read_text())
    portions = [(each["source"], each["license"], each["read"]) for each in hygiene["portions"]]
    assert portions[:2] == [("first", "MIT", 20), ("second", "CC0", 40)]


@pytest.mark.usefixtures("quick")
def test_no_test_set_is_needed(recipe, tmp_path):
    settings = ["data.test=[]", "training.epochs=1"]
    assert train(recipe, tmp_path / "run", settings=settings) == 0
    assert measured(tmp_path / "run")["tests"] == {}
    assert SolubilityModel.from_pretrained(tmp_path / "run" / "model").calibration.temperature != 1


# Going on


def test_resuming_what_is_finished_changes_nothing(done, recipe, monkeypatch):
    hurry(monkeypatch)
    monkeypatch.setattr(assessment, "RESAMPLES", 50)
    before = contents(done)
    assert train(recipe, done, "--resume") == 0
    assert contents(done) == before


def test_a_report_that_was_lost_is_made_again(done, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(assessment, "RESAMPLES", 50)
    copy = shutil.copytree(done, tmp_path / "run")
    shutil.rmtree(copy / "report")
    assert train(recipe, copy, "--resume") == 0
    again, before = contents(copy / "report"), contents(done / "report")
    assert set(again) == set(before)
    # Matplotlib names the parts of an SVG anew every time.
    kept = {name for name in before if not name.endswith((".png", ".svg"))}
    assert {name: again[name] for name in kept} == {name: before[name] for name in kept}
    assert weights(copy) == weights(done)


@pytest.mark.usefixtures("quick")
def test_a_run_that_was_stopped_goes_on(done, recipe, tmp_path, capsys):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_module.train(read_recipe(recipe), folder, watch=stop_after(1))
    assert epochs(folder) == epochs(done)[:1]
    assert train(recipe, folder, "--resume") == 0
    assert weights(folder) == weights(done)
    assert epochs(folder) == epochs(done)
    # The epochs of before are in the table too.
    numbers = [line.split()[0] for line in capsys.readouterr().out.splitlines()[3:6]]
    assert numbers == ["1", "2", "3"]


def test_an_interrupt_says_how_to_go_on(recipe, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "fit", interrupt)
    assert train(recipe, tmp_path / "run") == 130
    expected = "eqxesm: interrupted, --resume goes on from the last checkpoint\n"
    assert capsys.readouterr().err == expected


def test_the_data_may_have_moved(done, recipe, tmp_path, monkeypatch):
    hurry(monkeypatch)
    for name in SIZES:
        shutil.copy(recipe.parent / f"{name}.csv", tmp_path)
    copy = shutil.copytree(done, tmp_path / "run")
    assert train(recipe, copy, "--resume", settings=[f"data.root={tmp_path}"]) == 0
    assert weights(copy) == weights(done)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("survived", [1, 3])
def test_a_disk_that_fills_up(survived, done, recipe, tmp_path, capsys, monkeypatch):
    """While the first state is written, or the second."""
    folder, write_folder = tmp_path / "run", tensors.write_folder
    written = []

    def fill_up(*arguments, **options):
        written.append(arguments[0])
        write_folder(*arguments, **options)
        if len(written) > survived:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(tensors, "write_folder", fill_up)
        assert train(recipe, folder) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "No space left on device" in error
    assert len(list(folder.glob("state-*"))) == survived // 2
    assert not list(folder.glob(".*"))
    assert train(recipe, folder, "--resume") == 0
    assert weights(folder) == weights(done)
    assert epochs(folder) == epochs(done)


def test_a_disk_that_fills_up_in_the_report(done, recipe, tmp_path, capsys, monkeypatch):
    copy = shutil.copytree(done, tmp_path / "run")
    shutil.rmtree(copy / "report")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        hurry(patched)
        patched.setattr(run_module, "draw", full)
        assert train(recipe, copy, "--resume") == 2
    error = capsys.readouterr().err
    assert "the report cannot be written (No space left on device)" in error
    assert not (copy / "report" / "metrics.json").exists()
    hurry(monkeypatch)
    assert train(recipe, copy, "--resume") == 0
    assert weights(copy) == weights(done)


# Refused to go on


def test_another_recipe_is_refused(done, recipe, capsys):
    before = contents(done)
    changed = ["training.epochs=9", "training.seed=1", "data.max_residues=99"]
    error = refused(capsys, recipe, done, "--resume", settings=changed)
    assert (
        "holds a run of another recipe: data.max_residues was not set and is 99; "
        "training.epochs was 3 and is 9; training.seed was 0 and is 1: choose another folder"
    ) in error
    assert "add --resume, or choose another" in refused(capsys, recipe, done)
    with pytest.raises(InputError, match="add --resume"):
        run_module.train(read_recipe(recipe), done)
    assert contents(done) == before


def test_other_data_are_refused(done, tmp_path, capsys):
    before = contents(done)
    made = rows("training")
    made[0]["sequence"] += "A"
    other = make_data(tmp_path)
    write(tmp_path / "training.csv", made)
    error = refused(capsys, other, done, "--resume")
    digest = json.loads((done / "digests.json").read_text())["data"]
    assert f"holds a run with other data (digest {digest[:12]} there, " in error
    assert contents(done) == before
