"""Cross-validation with `eqxesm train`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from run_recipes import FOLDS, contents, epochs, hurry, make_data, refused, rows, train, weights, write
from sklearn.metrics import roc_auc_score

from eqxesm import SolubilityModel
from eqxesm.evaluation.baselines import fit_baselines
from eqxesm.training import run as run_module
from eqxesm.training.recipe import read_recipe

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def done(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "done"
    with pytest.MonkeyPatch.context() as monkeypatch:
        hurry(monkeypatch)
        assert train(recipe, folder, settings=FOLDS) == 0
    return folder


def test_every_protein_is_scored_by_the_model_that_never_saw_it(done):
    report = json.loads((done / "report" / "metrics.json").read_text())
    assert report["folds"] == ["0", "1", "2"]
    measured = report["tests"]["out of fold"]["all"]
    assert measured["proteins"] == 60
    truth, predicted, composition = [], [], []
    for fold in range(3):
        model = SolubilityModel.from_pretrained(done / f"fold-{fold}" / "model")
        own = [row for row in rows("training") if row["fold"] == fold]
        truth += [row["label"] for row in own]
        # `predict` would refuse proteins longer than those of the other folds.
        tokens = [model.tokenize(model.cleaning.clean(row["sequence"])) for row in own]
        predicted += model.predict_tokens(tokens).tolist()
        # One fold is held out, the next is for validation, the third for training.
        rest = [row for row in rows("training") if row["fold"] == (fold + 2) % 3]
        sequences = [row["sequence"] for row in rest]
        baselines = fit_baselines(sequences, np.array([row["label"] for row in rest]))
        composition += baselines.predict([row["sequence"] for row in own])["composition"].tolist()
    for name, scores in (("model", predicted), ("composition", composition)):
        found = measured[name]["auroc"]["value"]
        assert found == pytest.approx(roc_auc_score(truth, scores)), name
    hygiene = json.loads((done / "fold-0" / "report" / "hygiene.json").read_text())
    splits = [(each["split"], each["read"]) for each in hygiene["portions"]]
    assert splits == [("training", 10), ("training", 10), ("validation", 10), ("validation", 10),
                      ("held-out fold", 10), ("held-out fold", 10)]  # fmt: skip


def test_every_fold_has_a_folder_and_a_finished_run_is_reported_again(done, recipe, capsys):
    assert {path.name for path in done.iterdir()} == {
        "config.toml", "report", "fold-0", "fold-1", "fold-2"
    }  # fmt: skip
    assert {"model", "report", "metrics.jsonl"} <= {path.name for path in (done / "fold-1").iterdir()}
    capsys.readouterr()
    assert train(recipe, done, "--resume", settings=FOLDS) == 0
    out, err = capsys.readouterr()
    assert out.count("held out\nalready finished\n") == 3
    assert "\nout of fold\n" in out
    assert err == f"model: {done}/fold-*/model, report: {done}/report\n"


def test_resumes_within_a_fold(done, recipe, tmp_path):
    stopped, seen = tmp_path / "stopped", []

    def stop(epoch) -> None:
        seen.append(epoch)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_module.train(read_recipe(recipe, FOLDS), stopped, on_epoch=stop)
    assert not (stopped / "fold-2" / "model").exists()
    before = contents(stopped / "fold-0")
    assert train(recipe, stopped, "--resume", settings=FOLDS) == 0
    assert contents(stopped / "fold-0") == before
    for fold in ("fold-0", "fold-1", "fold-2"):
        assert weights(stopped / fold) == weights(done / fold)
        assert epochs(stopped / fold) == epochs(done / fold)
    reports = [(folder / "report" / "metrics.json").read_text() for folder in (done, stopped)]
    assert reports[0] == reports[1]


def test_refuses_to_resume_with_other_data(done, tmp_path, capsys):
    """Not even when every fold is finished."""
    other = make_data(tmp_path)
    made = rows("training")
    made[0]["label"] = 1 - made[0]["label"]
    write(tmp_path / "training.csv", made)
    copy = shutil.copytree(done, tmp_path / "run")
    error = refused(capsys, other, copy, "--resume", settings=FOLDS)
    assert "fold-0: holds a run whose data differed" in error


def same_cluster(made: list[dict]) -> None:
    made[1]["cluster"] = made[0]["cluster"]


def same_sequence(made: list[dict]) -> None:
    made[1]["sequence"] = made[0]["sequence"]


def two_folds(made: list[dict]) -> None:
    for row in made:
        row["fold"] %= 2


def one_class(made: list[dict]) -> None:
    for row in made:
        row["label"] = 1 if row["fold"] == 2 else row["label"]


def like_names(made: list[dict]) -> None:
    for row in made:
        row["fold"] = ("a b", "a_b", "c")[row["fold"]]


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (same_cluster, [], "folds leak: 'training:2' in fold 1 and 'training:1' in fold 0 have the same cluster"),
        (same_sequence, [], "folds leak: 'training:2' in fold 1 and 'training:1' in fold 0 have the same sequence"),
        (two_folds, [], "folds 0, 1: cross-validation needs at least 3"),
        (one_class, [], "with fold 0 held out, 1 to stop by: training: every protein that is left"),
        (like_names, [], "folds a b, a_b, c: names differ only in special characters"),
        (list, ["data.training.0.fold_column=kind"], "no column 'kind'"),
        (list, ['data.training.0.folds=["0"]'], "1 fold: cross-validation needs at least 2"),
    ],
)
def test_refuses_folds_that_leak_or_cannot_be_used(change, settings, message, tmp_path, capsys):
    recipe = make_data(tmp_path)
    made = rows("training")
    change(made)
    write(tmp_path / "training.csv", made)
    assert message in refused(capsys, recipe, tmp_path / "run", settings=[*FOLDS, *settings])
    assert not (tmp_path / "run").exists()


def test_refuses_proteins_without_a_fold(recipe, tmp_path, capsys):
    settings = [each for each in FOLDS if "fold_column" not in each]
    error = refused(capsys, recipe, tmp_path / "run", settings=settings)
    assert "protein 'training:1' has no fold. Set fold_column" in error
