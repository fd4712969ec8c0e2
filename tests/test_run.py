"""Runs of recipes, as `eqxesm train` makes them: what they leave behind, and what they refuse."""

import csv
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from training_sets import LETTERS

from eqxesm import ESMC, ESMCConfig, InputError, SolubilityModel, cli
from eqxesm.data.array_record import write_array_record
from eqxesm.data.records import LabelledProtein
from eqxesm.evaluation import assessment
from eqxesm.evaluation.baselines import fit_baselines
from eqxesm.training import run as run_module
from eqxesm.training.recipe import read_recipe
from eqxesm.training.run import train

RECIPE = """
name = "tried"
summary = "A recipe that is tried out."
license = "mit"
[data]
[[data.training]]
path = "training.csv"
source_column = "origin"
license = "MIT"
[[data.validation]]
path = "validation.csv"
[[data.test]]
path = "test.csv"
name = "test set"
[model]
cleaning = { strip_initial_met = true }
encoder = { type = "one_hot" }
head = { type = "composition_mlp", hidden = [8] }
[training]
epochs = 3
learning_rate = 1e-2
tokens_per_batch = 1024
"""
TINY = "model.encoder={type='esmc', layers=1, d_model=32, heads=2, d_ffn=32}"
POOLED = "model.head={type='mean_pool_mlp', hidden=[8]}"


def rows(count: int, seed: int) -> list[dict]:
    """Proteins of one padded length, labelled by composition; every fifth one has a tag."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        label = int(rng.integers(2))
        weights = np.where(np.isin(LETTERS, ["K" if label else "L"]), 4.0, 1.0)
        body = "".join(rng.choice(LETTERS, rng.integers(28, 33), p=weights / weights.sum()))
        tag = "HHHHHH" if number % 5 == 0 else ""
        origin = "one" if number % 2 else "other"
        made.append({"sequence": "M" + tag + body, "label": label, "origin": origin,
                     "fold": number % 3, "cluster": number})  # fmt: skip
    return made


def write(path: Path, made: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(made[0]))
        writer.writeheader()
        writer.writerows(made)


def make_data(folder: Path) -> Path:
    for seed, (name, count) in enumerate((("training", 60), ("validation", 30), ("test", 40))):
        write(folder / f"{name}.csv", rows(count, seed))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def done(recipe, tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    assert cli.main(["train", str(recipe), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def quick(monkeypatch) -> None:
    """Few resamples and no pictures, for what looks at neither."""
    monkeypatch.setattr(assessment, "RESAMPLES", 10)
    for name in ("draw", "draw_curves"):
        monkeypatch.setattr(run_module, name, lambda *_: None)


def read_csv(recipe: Path, name: str) -> tuple[list[str], np.ndarray]:
    with open(recipe.parent / f"{name}.csv", newline="") as file:
        made = list(csv.DictReader(file))
    return [row["sequence"] for row in made], np.array([int(row["label"]) for row in made])


def epochs(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def refused(capsys, *arguments: object) -> str:
    status = cli.main(["train", *map(str, arguments)])
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("eqxesm: error: ")
    assert error.count("\n") == 1
    return error


def test_what_a_run_leaves_behind(done):
    left = {str(path.relative_to(done)) for path in done.rglob("*") if path.is_file()}
    states = {name for name in left if name.startswith("state-")}
    pictures = ("confusion", "roc", "reliability", "by_length")
    assert left - states == {
        "config.toml", "data.json", "metrics.jsonl",
        "model/README.md", "model/config.json", "model/metrics.json", "model/model.safetensors",
        "report/hygiene.json", "report/hygiene.md", "report/metrics.json", "report/table.md",
        "report/curves.png", "report/curves.svg",
        *(f"report/test_set/{name}.{kind}" for name in pictures for kind in ("png", "svg")),
    }  # fmt: skip
    assert len({Path(name).parts[0] for name in states}) == 1


def test_the_report_is_what_the_model_predicts(done, recipe):
    model = SolubilityModel.from_pretrained(done / "model")
    sequences, labels = read_csv(recipe, "test")
    probabilities = model.predict(sequences)
    report = json.loads((done / "report" / "metrics.json").read_text())
    measured = report["tests"]["test set"]["all"]["model"]
    assert measured["auroc"]["value"] == pytest.approx(roc_auc_score(labels, probabilities))
    assert measured["accuracy"]["value"] == pytest.approx(
        accuracy_score(labels, probabilities >= 0.5)
    )
    baselines = fit_baselines(*read_csv(recipe, "training")).predict(sequences)
    for name, predicted in baselines.items():
        found = report["tests"]["test set"]["all"][name]["auroc"]["value"]
        assert found == pytest.approx(roc_auc_score(labels, predicted))


def test_the_epochs_are_told_and_the_best_is_kept(done, recipe):
    told = epochs(done)
    assert [epoch["number"] for epoch in told] == [1, 2, 3]
    losses = [epoch["validation"]["loss"] for epoch in told]
    report = json.loads((done / "report" / "metrics.json").read_text())
    assert report["best_epoch"] == int(np.argmin(losses)) + 1
    model = SolubilityModel.from_pretrained(done / "model")
    sequences, labels = read_csv(recipe, "validation")
    scores = logit(model.predict(sequences).astype(float)) * model.calibration.temperature
    assert log_loss(labels, expit(scores)) == pytest.approx(min(losses), rel=1e-4)
    # No other temperature does better on the validation proteins.
    best = log_loss(labels, expit(scores / model.calibration.temperature))
    for factor in (0.9, 1.1):
        assert best <= log_loss(labels, expit(scores / model.calibration.temperature / factor))


def test_what_the_model_says_of_itself(done, capsys):
    model = SolubilityModel.from_pretrained(done / "model")
    assert model.cleaning.strip_initial_met
    assert model.provenance is not None
    assert (model.provenance.source, model.provenance.license) == (
        "eqxesm train, recipe tried",
        "mit",
    )
    assert 28 <= model.limits.min_residues <= model.limits.max_residues <= 38
    card = (done / "model" / "README.md").read_text()
    for fact in ("A recipe that is tried out.", "| one | one | MIT | 30 |", "tag rule", "--out"):
        assert fact in card
    hygiene = (done / "report" / "hygiene.md").read_text()
    assert "| training | other | MIT | 30 |" in hygiene
    assert cli.main(["info", str(done / "model")]) == 0
    assert "A recipe that is tried out." in capsys.readouterr().out


def test_evaluate_finds_the_baselines_of_the_run(done, recipe, tmp_path):
    data = recipe.parent / "test.csv"
    arguments = [
        "evaluate",
        str(data),
        "--model",
        str(done / "model"),
        "--out",
        str(tmp_path / "r"),
    ]
    assert cli.main(arguments) == 0
    report = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert report["baselines_fitted_on"] == "the model's training data, by its record"
    trained = json.loads((done / "report" / "metrics.json").read_text())["tests"]["test set"]
    for part in ("all", "untagged"):
        for name in ("tag_rule", "composition", "model"):
            ours, theirs = report[part][name]["auroc"], trained[part][name]["auroc"]
            assert ours["value"] == pytest.approx(theirs["value"])


@pytest.mark.usefixtures("quick")
def test_a_second_run_is_the_same_to_the_bit(done, recipe, tmp_path):
    assert cli.main(["train", str(recipe), "--out", str(tmp_path / "again")]) == 0
    assert weights(tmp_path / "again") == weights(done)
    assert epochs(tmp_path / "again") == epochs(done)


@pytest.mark.usefixtures("quick")
def test_the_recipe_it_wrote_makes_the_same_run(done, tmp_path):
    assert cli.main(["train", str(done / "config.toml"), "--out", str(tmp_path / "run")]) == 0
    assert weights(tmp_path / "run") == weights(done)


def test_resuming_what_is_finished_changes_nothing(done, recipe):
    before = {path: path.read_bytes() for path in (done / "model").iterdir()}
    shutil.rmtree(done / "report")
    assert cli.main(["train", str(recipe), "--out", str(done), "--resume"]) == 0
    assert weights(done) == before[done / "model" / "model.safetensors"]
    assert (done / "model" / "config.json").read_bytes() == before[done / "model" / "config.json"]
    assert (done / "report" / "metrics.json").exists()


@pytest.mark.usefixtures("quick")
def test_a_run_that_was_stopped_goes_on(done, recipe, tmp_path):
    folder = tmp_path / "run"

    def stop(_) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(read_recipe(recipe), folder, watch=stop)
    assert len(epochs(folder)) == 1
    assert cli.main(["train", str(recipe), "--out", str(folder), "--resume"]) == 0
    assert weights(folder) == weights(done)
    assert epochs(folder) == epochs(done)


@pytest.mark.usefixtures("quick")
def test_resuming_what_never_began_begins(recipe, tmp_path, done):
    assert cli.main(["train", str(recipe), "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert weights(tmp_path / "run") == weights(done)


def test_another_recipe_or_other_data_are_refused(done, recipe, tmp_path, capsys):
    error = refused(
        capsys, recipe, "--out", done, "--resume", "--set", "training.epochs=9", "--set",
        "training.seed=1",
    )  # fmt: skip
    assert "training.epochs was 3 and is 9; training.seed was 0 and is 1" in error
    assert "add --resume" in refused(capsys, recipe, "--out", done)
    other = make_data(tmp_path)
    write(tmp_path / "training.csv", rows(61, 0))
    assert "holds a run on other data" in refused(capsys, other, "--out", done, "--resume")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("training", lambda made: made[0].update(label=2), "write 0, 1 or nothing"),
        ("training", lambda made: [row.update(label=1) for row in made], "give both classes"),
        ("validation", lambda made: [row.update(label=0) for row in made], "give both classes"),
        ("validation", lambda made: made[0].update(rows(60, 0)[0]), "leak"),
        ("test", lambda made: made[0].update(rows(60, 0)[0]), "leak"),
        ("training", lambda made: [row.update(sequence="") for row in made], "none is left"),
        ("test", lambda made: [row.update(label="") for row in made], "test.csv"),
    ],
    ids=["label", "one class", "one class to stop by", "leak", "test leak", "empty", "unlabelled"],
)
def test_data_that_will_not_do(name, change, message, tmp_path, capsys):
    recipe = make_data(tmp_path)
    made = rows(
        {"training": 60, "validation": 30, "test": 40}[name],
        ("training", "validation", "test").index(name),
    )
    change(made)
    write(tmp_path / f"{name}.csv", made)
    assert message in refused(capsys, recipe, "--out", tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.usefixtures("quick")
def test_a_leak_can_be_removed(tmp_path):
    recipe = make_data(tmp_path)
    made = rows(30, 1)
    made[0].update(rows(60, 0)[0])
    write(tmp_path / "validation.csv", made)
    settings = ["--set", "data.leakage=remove", "--set", "training.epochs=1"]
    assert cli.main(["train", str(recipe), "--out", str(tmp_path / "run"), *settings]) == 0
    assert "exact: 1" in (tmp_path / "run" / "report" / "hygiene.md").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.training.0.label_column=solubility"], "no column 'solubility'"),
        (["data.training.0.path=absent.csv"], "absent.csv: no such file"),
        (["model.encoder={pretrained='/absent'}"], "/absent: no such folder"),
        (["data.max_residues=5"], "none is left"),
        (["training.learning_rate=1e30", "training.warmup=0.0"], "step 2: the loss is nan"),
        (["training.strategy=lora"], "OneHot has no blocks"),
    ],
)
def test_settings_that_will_not_do(settings, message, recipe, tmp_path, capsys):
    given = [word for setting in settings for word in ("--set", setting)]
    assert message in refused(capsys, recipe, "--out", tmp_path / "run", *given)


def test_folders_that_will_not_do(recipe, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "cannot be used" in refused(capsys, recipe, "--out", tmp_path / "file")
    assert "holds no run, but something" in refused(capsys, recipe, "--out", tmp_path)
    assert "cannot be used" in refused(capsys, recipe, "--out", tmp_path / "file" / "run")


def test_a_disk_that_is_too_small_is_told_before(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        run_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9)
    )
    assert "make room or choose another" in refused(capsys, recipe, "--out", tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("strategy", ["frozen", "lora", "joint"])
def test_a_language_model_every_way(strategy, recipe, tmp_path, monkeypatch):
    """From a pretrained folder, in half precision, to a model that says where it comes from."""
    monkeypatch.setenv("EQXESM_CACHE", str(tmp_path / "cache"))
    encoder = ESMC(ESMCConfig(1, 32, 2, 32), key=jax.random.key(0))
    encoder.save_pretrained(tmp_path / "encoder")
    settings = [f"training.strategy={strategy}", "training.epochs=1", POOLED,
                "training.compute_dtype=bfloat16",
                f"model.encoder={{pretrained='{tmp_path / 'encoder'}'}}"]  # fmt: skip
    given = [word for setting in settings for word in ("--set", setting)]
    assert cli.main(["train", str(recipe), "--out", str(tmp_path / "run"), *given]) == 0
    model = SolubilityModel.from_pretrained(tmp_path / "run" / "model")
    same = (
        model.encoder.blocks.attention.query.weight == encoder.blocks.attention.query.weight
    ).all()
    assert same == (strategy == "frozen")
    assert (tmp_path / "cache").exists() == (strategy == "frozen")
    assert (tmp_path / "run" / "report" / "metrics.json").exists()


@pytest.mark.usefixtures("quick")
def test_a_set_that_stays_on_disk(done, recipe, tmp_path):
    made = [
        LabelledProtein(f"training:{i}", row["sequence"], row["label"], row["origin"], "MIT")
        for i, row in enumerate(rows(60, 0))
    ]
    write_array_record(tmp_path / "training.arrayrecord", made)
    source = f"data.training=[{{path='{tmp_path / 'training.arrayrecord'}'}}]"
    assert cli.main(["train", str(recipe), "--out", str(tmp_path / "run"), "--set", source]) == 0
    assert weights(tmp_path / "run") == weights(done)


FOLDS = [
    "data.validation=[]", "data.test=[]", "data.cross_validation=true",
    "data.training.0.fold_column=fold", "data.training.0.cluster_column=cluster",
    "training.epochs=1",
]  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_cross_validation(recipe, tmp_path, capsys):
    given = [word for setting in FOLDS for word in ("--set", setting)]
    assert cli.main(["train", str(recipe), "--out", str(tmp_path / "run"), *given]) == 0
    assert "out of fold" in capsys.readouterr().out
    report = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    assert report["folds"] == ["0", "1", "2"]
    measured = report["tests"]["out of fold"]["all"]
    assert measured["proteins"] == 60
    # Every protein by the model that never saw it.
    truth, predicted = [], []
    for fold in "012":
        model = SolubilityModel.from_pretrained(tmp_path / "run" / f"fold-{fold}" / "model")
        own = [row for row in rows(60, 0) if str(row["fold"]) == fold]
        truth += [row["label"] for row in own]
        # Not by `predict`, which refuses proteins longer than those of the other folds.
        tokens = [model.tokenize(model.cleaning.clean(row["sequence"])) for row in own]
        predicted += model.predict_tokens(tokens).tolist()
    assert measured["model"]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, predicted))
    # Going on finds what is finished.
    assert cli.main(["train", str(recipe), "--out", str(tmp_path / "run"), "--resume", *given]) == 0


def test_a_fold_that_leaks(tmp_path, capsys):
    recipe = make_data(tmp_path)
    made = rows(60, 0)
    made[1]["cluster"] = made[0]["cluster"]
    write(tmp_path / "training.csv", made)
    given = [word for setting in FOLDS for word in ("--set", setting)]
    assert "a fold leaks" in refused(capsys, recipe, "--out", tmp_path / "run", *given)


@pytest.mark.filterwarnings("ignore:The ``noload``")  # MLflow's own query
def test_mlflow_holds_the_same(recipe, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    folder = tmp_path / "run"
    arguments = ["train", str(recipe), "--out", str(folder), "--mlflow"]
    assert cli.main(arguments) == 0
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tried"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "3"
    logged = client.get_metric_history(run.info.run_id, "validation/loss")
    told = [epoch["validation"]["loss"] for epoch in epochs(folder)]
    assert [metric.value for metric in sorted(logged, key=lambda m: m.step)] == told
    assert {item.path for item in client.list_artifacts(run.info.run_id, "report")} >= {
        "report/metrics.json",
        "report/curves.png",
    }


def test_a_missing_extra_is_named(recipe, tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "eqxesm.training.tracking", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    error = refused(capsys, recipe, "--out", tmp_path / "run", "--mlflow")
    assert "mlflow is not installed: pip install 'eqxesm[mlflow]'" in error


def test_train_itself_refuses_what_it_cannot_go_on_with(done, recipe):
    with pytest.raises(InputError, match="add --resume"):
        train(read_recipe(recipe), done)
