"""Runs of a recipe with `eqxesm train`: what they leave behind, and how they resume."""

import errno
import json
import shlex
import shutil
import tomllib
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from array_records import write_proteins
from paths import ROOT
from run_recipes import (
    RECIPE,
    SIZES,
    contents,
    epochs,
    hurry,
    make_data,
    proteins,
    refused,
    resample,
    rows,
    stop_after,
    train,
    weights,
    write,
)
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from eqxesm import InputError, SolubilityModel
from eqxesm.checkpoint import folder as checkpoint_folder
from eqxesm.cli.arguments import describe_command
from eqxesm.cli.main import main
from eqxesm.data.protein import Protein
from eqxesm.data.proteins import read_proteins
from eqxesm.evaluation.baselines import fit_baselines
from eqxesm.forms import Limits
from eqxesm.training import run as run_module
from eqxesm.training import state
from eqxesm.training.recipe import read_recipe


@pytest.fixture(scope="module")
def done(recipe, tmp_path_factory) -> Path:
    """A finished run, with its pictures."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    with pytest.MonkeyPatch.context() as monkeypatch:
        resample(monkeypatch, 50)
        assert train(recipe, folder) == 0
    return folder


def measured(folder: Path) -> dict:
    return json.loads((folder / "report" / "metrics.json").read_text())


def test_run_writes_its_files_and_one_state(done):
    files = set(contents(done))
    states = {name for name in files if name.startswith("state-")}
    pictures = ("confusion", "roc", "reliability", "by_length")
    assert files - states == {
        "config.toml", "digests.json", "metrics.jsonl",
        "model/README.md", "model/calibration.png", "model/config.json", "model/metrics.json",
        "model/model.safetensors",
        "report/hygiene.json", "report/hygiene.md", "report/metrics.json", "report/table.md",
        "report/curves.png", "report/curves.svg",
        *(f"report/test_set/{name}.{kind}" for name in pictures for kind in ("png", "svg")),
    }  # fmt: skip
    assert len({Path(name).parts[0] for name in states}) == 1


def test_recipe_is_written_with_its_defaults(done, recipe):
    written = tomllib.loads((done / "config.toml").read_text())
    given = tomllib.loads(RECIPE)
    assert written["training"] | given["training"] == written["training"]
    assert written["training"]["weight_decay"] == 0.01
    assert written["data"]["root"] == str(recipe.parent)


def test_report_measures_what_the_model_predicts(done):
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


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("too_long", ["drop", "truncate"])
def test_a_limit_of_length_holds_for_the_report_and_for_predicting_alike(too_long, recipe, tmp_path):
    settings = ["data.length_percentile=40", f"data.too_long={too_long}", "training.epochs=1"]
    assert train(recipe, tmp_path / "run", settings=settings) == 0
    model = SolubilityModel.from_pretrained(tmp_path / "run" / "model")
    lengths = [len(sequence) - 1 for sequence in proteins("training")[0]]
    limit = int(np.percentile(lengths, 40))
    sequences, labels = proteins("test")
    notes = [" ".join(model.clean(sequence).notes) for sequence in sequences]
    is_long = [len(sequence) - 1 > limit for sequence in sequences]
    assert 0 < sum(is_long) < len(sequences)
    if too_long == "drop":
        assert model.limits == Limits(2046, min(lengths), limit)
        assert [f"longer than any protein the model was trained on ({limit}" in note for note in notes] == is_long
    else:
        assert (model.limits.max_residues, model.cleaning.truncate) == (2046, limit)
        assert [f"cut to its first {limit} residues" in note for note in notes] == is_long
    found = measured(tmp_path / "run")["tests"]["test set"]["all"]
    assert found["proteins"] == len(sequences)
    assert found["model"]["auroc"]["value"] == pytest.approx(roc_auc_score(labels, model.predict(sequences)))
    # The package's own examples are predicted, whatever the limit.
    examples = [protein.sequence for protein in read_proteins(ROOT / "examples" / "proteins.fasta")]
    assert np.isfinite(model.predict(examples)).all()


def test_every_epoch_is_recorded_and_the_best_is_kept(done):
    recorded = epochs(done)
    assert [epoch["number"] for epoch in recorded] == [1, 2, 3]
    losses = [epoch["validation"]["loss"] for epoch in recorded]
    best = int(np.argmin(losses))
    assert measured(done)["best_epoch"] == best + 1
    model = SolubilityModel.from_pretrained(done / "model")
    for name in ("validation", "test"):
        sequences, labels = proteins(name)
        scores = logit(model.predict(sequences).astype(float)) * model.calibration.temperature
        expected = recorded[best]["validation" if name == "validation" else "tests"]
        expected = expected["test set"] if name == "test" else expected
        found = log_loss(labels, 1 / (1 + np.exp(-scores)))
        assert found == pytest.approx(expected["loss"], rel=1e-4)
        assert accuracy_score(labels, scores > 0) == pytest.approx(expected["accuracy"])


def test_temperature_is_that_of_a_logistic_regression(done):
    """The inverse of the slope of a regression on the logits without an intercept."""
    model = SolubilityModel.from_pretrained(done / "model")
    sequences, labels = proteins("validation")
    temperature = model.calibration.temperature
    scores = logit(model.predict(sequences).astype(float)) * temperature
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    slope = regression.fit(scores[:, None], labels).coef_[0, 0]
    assert temperature == pytest.approx(1 / slope, rel=1e-3)
    assert temperature == measured(done)["temperature"]


def test_table_and_jsonl_have_the_same_epochs(done):
    table = (done / "report" / "table.md").read_text().splitlines()[2:]
    lines = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    for row, line in zip(table, lines, strict=True):
        cells = [cell.strip(" *") for cell in row.strip("|").split("|")]
        sets = [line["training"], line["validation"], line["tests"]["test set"]]
        values = [f"{each['loss']:.4f} {each['accuracy']:.3f}" for each in sets]
        seconds = f"{line['seconds']:.1f}"
        assert cells == [str(line["number"]), *" ".join(values).split(), seconds]


def test_model_carries_origin_limits_and_card(done, capsys):
    model = SolubilityModel.from_pretrained(done / "model")
    assert model.cleaning.strip_initial_met
    assert model.about.provenance is not None
    origin = model.about.provenance.source, model.about.provenance.license
    assert origin == ("eqxesm train, recipe tried", "mit")
    lengths = [len(sequence) - 1 for sequence in proteins("training")[0]]
    assert model.limits == Limits(2046, min(lengths), max(lengths))
    card = (done / "model" / "README.md").read_text()
    # The card is published: it says nothing of the folders of this machine.
    command = f"eqxesm train recipe.toml --out {done.name}`"
    assert str(done.parent) not in card
    for fact in ("A recipe that is tried out.", "| one | one | MIT | 30 |", "tag rule", command):
        assert fact in card
    assert main(["info", str(done / "model")]) == 0
    assert "A recipe that is tried out." in capsys.readouterr().out


def test_report_counts_every_source_of_its_own(done):
    hygiene = json.loads((done / "report" / "hygiene.json").read_text())
    portions = [(each["split"], each["source"], each["license"], each["kept"]) for each in hygiene["portions"]]
    assert portions == [
        ("training", "other", "MIT", 30),
        ("training", "one", "MIT", 30),
        ("validation", "validation", None, 30),
        ("test set", "test set", None, 40),
    ]
    assert "| training | other | MIT | 30 |" in (done / "report" / "hygiene.md").read_text()


def test_evaluate_uses_the_baselines_of_the_run(done, recipe, tmp_path, monkeypatch):
    resample(monkeypatch, 10)
    words = [recipe.parent / "test.csv", "--model", done / "model", "--out", tmp_path / "r"]
    assert main(["evaluate", *map(str, words)]) == 0
    report = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert report["baselines_fitted_on"] == "the model's training data, by its record"
    trained = measured(done)["tests"]["test set"]
    for part in ("all", "untagged"):
        for name in ("tag_rule", "composition", "model"):
            ours, theirs = report[part][name]["auroc"], trained[part][name]["auroc"]
            assert ours["value"] == pytest.approx(theirs["value"])


@pytest.mark.usefixtures("quick")
def test_terminal_output(recipe, tmp_path, capsys):
    folder = tmp_path / "a run"
    assert train(recipe, folder, settings=["training.epochs=1"]) == 0
    out, err = capsys.readouterr()
    first, *table = out.splitlines()
    assert first.startswith("60 training proteins, 30 for validation. ")
    assert first.endswith(f"{folder}/report/hygiene.md")
    assert table[0].split() == ["training", "validation", "test", "set"]
    assert table[2].split()[0] == "1"
    assert table[2].endswith("  best so far")
    assert table[3:5] == ["", "test set"]
    assert err == f"model: {folder}/model, report: {folder}/report\n"
    # A name with a space is quoted in the recorded command.
    assert f"--out '{folder.name}'" in (folder / "model" / "README.md").read_text()


# The same run again


@pytest.mark.usefixtures("quick")
def test_second_run_is_the_same_to_the_bit(done, recipe, tmp_path):
    # --resume without a run starts one.
    assert train(recipe, tmp_path / "again", "--resume") == 0
    assert weights(tmp_path / "again") == weights(done)
    assert epochs(tmp_path / "again") == epochs(done)


@pytest.mark.usefixtures("quick")
def test_written_recipe_makes_the_same_run(done, tmp_path):
    assert train(done / "config.toml", tmp_path / "run") == 0
    assert weights(tmp_path / "run") == weights(done)


@pytest.mark.usefixtures("quick")
def test_array_record_file_makes_the_same_run(done, recipe, tmp_path):
    made = [
        Protein(f"training:{i}", row["sequence"], row["label"], row["origin"], "MIT")
        for i, row in enumerate(rows("training"))
    ]
    write_proteins(tmp_path / "training.arrayrecord", made)
    source = f"data.training=[{{path='{tmp_path / 'training.arrayrecord'}'}}]"
    assert train(recipe, tmp_path / "run", settings=[source]) == 0
    assert weights(tmp_path / "run") == weights(done)


@pytest.mark.usefixtures("quick")
def test_two_sources_make_one_training_set(done, recipe, tmp_path):
    made = rows("training")
    for name, part in (("first", made[:20]), ("second", made[20:])):
        write(tmp_path / f"{name}.csv", part)
    sources = ", ".join(
        f"{{path='{tmp_path / name}.csv', license='{terms}'}}" for name, terms in (("first", "MIT"), ("second", "CC0"))
    )
    assert train(recipe, tmp_path / "run", settings=[f"data.training=[{sources}]"]) == 0
    assert weights(tmp_path / "run") == weights(done)
    hygiene = json.loads((tmp_path / "run" / "report" / "hygiene.json").read_text())
    portions = [(each["source"], each["license"], each["read"]) for each in hygiene["portions"]]
    assert portions[:2] == [("first", "MIT", 20), ("second", "CC0", 40)]


@pytest.mark.usefixtures("quick")
def test_run_without_test_sets(recipe, tmp_path):
    settings = ["data.test=[]", "training.epochs=1"]
    assert train(recipe, tmp_path / "run", settings=settings) == 0
    assert measured(tmp_path / "run")["tests"] == {}
    assert SolubilityModel.from_pretrained(tmp_path / "run" / "model").calibration.temperature != 1


# Resuming


def test_resuming_a_finished_run_changes_nothing(done, recipe, monkeypatch):
    hurry(monkeypatch)
    resample(monkeypatch, 50)
    before = contents(done)
    assert train(recipe, done, "--resume") == 0
    assert contents(done) == before


def test_lost_report_is_made_again(done, recipe, tmp_path, monkeypatch):
    resample(monkeypatch, 50)
    copy = shutil.copytree(done, tmp_path / "run")
    shutil.rmtree(copy / "report")
    assert train(recipe, copy, "--resume") == 0
    again, before = contents(copy / "report"), contents(done / "report")
    assert set(again) == set(before)
    # Matplotlib gives the parts of an SVG other names every time.
    kept = {name for name in before if not name.endswith((".png", ".svg"))}
    assert {name: again[name] for name in kept} == {name: before[name] for name in kept}
    assert weights(copy) == weights(done)


@pytest.mark.usefixtures("quick")
def test_stopped_run_resumes_to_the_bit(done, recipe, tmp_path, capsys):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_module.train(read_recipe(recipe), folder, on_epoch=stop_after(1))
    assert epochs(folder) == epochs(done)[:1]
    assert train(recipe, folder, "--resume") == 0
    assert weights(folder) == weights(done)
    assert epochs(folder) == epochs(done)
    # The earlier epochs are in the table too.
    numbers = [line.split()[0] for line in capsys.readouterr().out.splitlines()[3:6]]
    assert numbers == ["1", "2", "3"]


def assert_resuming_fails(said, recipe, folder, capsys):
    capsys.readouterr()
    assert train(recipe, folder, "--resume") == 2
    error = capsys.readouterr().err
    assert error.startswith("eqxesm: error: ")
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("state/progress.json", "{", "missing or damaged"),
        ("state/progress.json", '{"step": "a"}', "missing or damaged"),
        ("state/progress.json", None, "missing or damaged"),
        ("state/progress.json", '{"step": -5}', "is at step -5 of"),
        ("state/progress.json", '{"step": 1000000}', "is at step 1000000 of"),
        ("state/model.safetensors", "", "not a readable safetensors file"),
        ("digests.json", "{", "not readable as JSON"),
        ("digests.json", "[]", "damaged"),
        ("digests.json", '{"data": null}', "holds a run whose data differed"),
    ],
)
def test_refuses_to_resume_a_damaged_run(file, text, said, done, recipe, tmp_path, capsys):
    copy = shutil.copytree(done, tmp_path / "run")
    shutil.rmtree(copy / "report")
    (state_folder,) = copy.glob("state-*")
    path = copy / file if "/" not in file else state_folder / file.partition("/")[2]
    path.unlink() if text is None else path.write_text(text)
    assert_resuming_fails(said, recipe, copy, capsys)


def test_a_model_that_is_gone_is_not_looked_for_on_the_hub(done, recipe, tmp_path, capsys, monkeypatch):
    copy = shutil.copytree(done, tmp_path / "run")
    shutil.rmtree(copy / "report")
    shutil.rmtree(copy / "model")
    monkeypatch.chdir(tmp_path)
    assert_resuming_fails("run/model: folder not found", recipe, Path("run"), capsys)


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("data.root=/home/ann/data", "data.root=data"),
        ("data.root=../data", "data.root=data"),
        ('data.test=[{path="/home/ann/t.csv"}]', "data.test=..."),
        (r"data.root='C:\Users\ann'", "data.root=ann"),
        ("data.training.0.citation='see /home/ann/x'", "data.training.0.citation=..."),
        ("data.training.0.citation='https://a.org/b'", "data.training.0.citation=https://a.org/b"),
        ("model.encoder={pretrained='me/esmc'}", "model.encoder={pretrained='me/esmc'}"),
    ],
)
def test_the_command_on_the_card_names_no_folder_of_the_machine(setting, shown):
    options = Namespace(recipe="/home/ann/r.toml", settings=[setting], out="~/runs/a")
    words = shlex.split(describe_command("train", options))
    assert words == ["eqxesm", "train", "r.toml", "--set", shown, "--out", "a"]


def test_interrupted_run_says_how_to_go_on(recipe, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "fit", interrupt)
    assert train(recipe, tmp_path / "run") == 130
    expected = "eqxesm: interrupted, --resume goes on from the last checkpoint\n"
    assert capsys.readouterr().err == expected


def test_resumes_when_the_data_have_moved(done, recipe, tmp_path, monkeypatch):
    hurry(monkeypatch)
    for name in SIZES:
        shutil.copy(recipe.parent / f"{name}.csv", tmp_path)
    copy = shutil.copytree(done, tmp_path / "run")
    assert train(recipe, copy, "--resume", settings=[f"data.root={tmp_path}"]) == 0
    assert weights(copy) == weights(done)


@pytest.mark.usefixtures("quick")
def test_resumes_a_run_whose_recipe_lacks_a_default(done, recipe, tmp_path):
    """An earlier version may not have had the key."""
    copy = shutil.copytree(done, tmp_path / "run")
    lines = (copy / "config.toml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(("leakage", "clip"))]
    assert len(kept) == len(lines) - 2
    (copy / "config.toml").write_text("".join(kept))
    assert train(recipe, copy, "--resume") == 0
    assert weights(copy) == weights(done)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("survived", [1, 3])
def test_full_disk_keeps_what_was_whole_and_the_run_resumes(survived, done, recipe, tmp_path, capsys, monkeypatch):
    """The disk fills up while the first state is written, or the second."""
    folder, write_tensors = tmp_path / "run", checkpoint_folder.write_tensors
    written = []

    def fill_up(*arguments, **options):
        written.append(arguments[0])
        write_tensors(*arguments, **options)
        if len(written) > survived:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        for module in (checkpoint_folder, state):
            full.setattr(module, "write_tensors", fill_up)
        assert train(recipe, folder) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "No space left on device" in error
    assert len(list(folder.glob("state-*"))) == survived // 2
    assert not list(folder.glob(".*"))
    assert train(recipe, folder, "--resume") == 0
    assert weights(folder) == weights(done)
    assert epochs(folder) == epochs(done)


def test_full_disk_while_the_report_is_written(done, recipe, tmp_path, capsys, monkeypatch):
    copy = shutil.copytree(done, tmp_path / "run")
    shutil.rmtree(copy / "report")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        hurry(patched)
        patched.setattr(run_module, "draw_evaluation", full)
        assert train(recipe, copy, "--resume") == 2
    error = capsys.readouterr().err
    assert "the report cannot be written (No space left on device)" in error
    assert not (copy / "report" / "metrics.json").exists()
    hurry(monkeypatch)
    assert train(recipe, copy, "--resume") == 0
    assert weights(copy) == weights(done)


# Refusing to resume


def test_refuses_to_resume_another_recipe(done, recipe, capsys):
    before = contents(done)
    changed = ["training.epochs=9", "training.seed=1", "data.max_residues=99"]
    error = refused(capsys, recipe, done, "--resume", settings=changed)
    assert (
        "holds a run of another recipe: data.max_residues was not set and is 99; "
        "training.epochs was 3 and is 9; training.seed was 0 and is 1. Choose another folder"
    ) in error
    assert "Add --resume, or choose another" in refused(capsys, recipe, done)
    with pytest.raises(InputError, match="Add --resume"):
        run_module.train(read_recipe(recipe), done)
    assert contents(done) == before


def test_refuses_to_resume_with_other_data(done, tmp_path, capsys):
    before = contents(done)
    made = rows("training")
    made[0]["sequence"] += "A"
    other = make_data(tmp_path)
    write(tmp_path / "training.csv", made)
    error = refused(capsys, other, done, "--resume")
    digest = json.loads((done / "digests.json").read_text())["data"]
    assert f"holds a run whose data differed (digest {digest[:12]}, now " in error
    assert contents(done) == before
