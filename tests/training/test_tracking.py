"""A run in MLflow: the same figures as in its folder, and one MLflow run however often it is resumed."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("mlflow")
# SQLAlchemy warns about a query of MLflow.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

from mlflow import MlflowClient
from mlflow.entities import Run
from run_recipes import contents, hurry, stop_after, train

from eqxesm import InputError
from eqxesm.training import run as run_module
from eqxesm.training.recipe import read_recipe
from eqxesm.training.tracking import MlflowTracker


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def runs_of(folder: Path, name: str) -> list[Run]:
    client = client_of(folder)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return client.search_runs([experiment.experiment_id])


def logged(folder: Path, run: Run) -> dict[int, dict[str, float]]:
    """Metrics by step. No metric is logged twice for a step."""
    found: dict[int, dict[str, float]] = {}
    for name in run.data.metrics:
        for metric in client_of(folder).get_metric_history(run.info.run_id, name):
            step = found.setdefault(metric.step, {})
            assert name not in step
            step[name] = metric.value
    return found


def flat(epoch: dict) -> dict[str, float]:
    """A line of metrics.jsonl, with the names that MLflow gets."""
    values = {name: epoch[name] for name in ("learning_rate", "gradient_norm", "seconds")}
    sets = {"training": epoch["training"], "validation": epoch["validation"]}
    sets |= {name.replace(" ", "_"): scores for name, scores in epoch["tests"].items()}
    for name, scores in sets.items():
        values |= {f"{name}/{key}": value for key, value in scores.items()}
    return values


def lines(folder: Path) -> dict[int, dict[str, float]]:
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {epoch["number"]: flat(epoch) for epoch in read}


def test_run_that_is_stopped_twice_is_one_mlflow_run(recipe, tmp_path, monkeypatch):
    """It starts with MLflow, goes on without it, and ends with it."""
    hurry(monkeypatch)
    folder, stop = tmp_path / "run", stop_after(1)
    read = read_recipe(recipe)
    tracker = MlflowTracker(folder, read)

    def on_epoch(epoch) -> None:
        tracker(epoch)
        stop(epoch)

    with pytest.raises(KeyboardInterrupt):
        run_module.train(read, folder, on_epoch=on_epoch)
    (run,) = runs_of(folder, "tried")
    assert run.info.status == "RUNNING"
    assert logged(folder, run) == lines(folder)
    with pytest.raises(KeyboardInterrupt):
        run_module.train(read, folder, resume=True, on_epoch=stop_after(2))
    assert train(recipe, folder, "--mlflow", "--resume") == 0

    (run,) = runs_of(folder, "tried")
    assert run.info.status == "FINISHED"
    assert set(lines(folder)) == {1, 2, 3}
    assert logged(folder, run) == lines(folder)
    expected = {
        "training.epochs": "3", "training.learning_rate": "0.01", "model.head.hidden": "[8]",
        "data.training.0.path": "training.csv", "data.leakage": "refuse", "summary":
        "A recipe that is tried out.",
    }  # fmt: skip
    assert expected.items() <= run.data.params.items()
    kept = Path(run.info.artifact_uri.removeprefix("file://"))
    assert kept.is_relative_to(folder)
    assert contents(kept / "report") == contents(folder / "report")


@pytest.fixture
def folds(tmp_path) -> Path:
    """The files of a cross-validation, with made-up epochs."""
    scores = {"loss": 0.5, "accuracy": 0.75}
    for fold, count in (("fold-a", 2), ("fold-b", 1)):
        epochs = [
            {"number": number, "step": 3 * number, "training": scores,
             "validation": {"loss": 1 / number, "accuracy": 0.5}, "tests": {"µ (held-out)": scores},
             "learning_rate": 0.1, "gradient_norm": 2.0, "seconds": 1.5}
            for number in range(1, count + 1)
        ]  # fmt: skip
        (tmp_path / fold / "report").mkdir(parents=True)
        (tmp_path / fold / "report" / "table.md").write_text(fold)
        text = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
        (tmp_path / fold / "metrics.jsonl").write_text(text)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "metrics.json").write_text("{}")
    return tmp_path


def test_each_fold_is_a_run(folds, recipe):
    """Characters that MLflow refuses are replaced in names."""
    tracker = MlflowTracker(folds, read_recipe(recipe))
    tracker.finish()
    tracker.finish()
    runs = {run.info.run_name: run for run in runs_of(folds, "tried")}
    assert set(runs) == {"tried", "fold-a", "fold-b"}
    steps = logged(folds, runs["fold-a"])
    assert {step: values["validation/loss"] for step, values in steps.items()} == {1: 1.0, 2: 0.5}
    assert steps[1]["µ_held-out_/accuracy"] == 0.75
    assert set(logged(folds, runs["fold-b"])) == {1}
    assert runs["tried"].data.metrics == {}
    for name, file in (("fold-a", "table.md"), ("fold-b", "table.md"), ("tried", "metrics.json")):
        assert runs[name].info.status == "FINISHED"
        listed = client_of(folds).list_artifacts(runs[name].info.run_id, "report")
        assert [item.path for item in listed] == [f"report/{file}"]


def test_nothing_is_written_before_the_first_epoch(recipe, tmp_path):
    MlflowTracker(tmp_path / "run", read_recipe(recipe))
    assert os.listdir(tmp_path) == []


def test_refuses_a_damaged_store(folds, recipe):
    (folds / "mlflow.db").write_text("not a database")
    with pytest.raises(InputError, match=r"mlflow.db: MLflow failed \(.*--resume") as caught:
        MlflowTracker(folds, read_recipe(recipe)).finish()
    assert len(str(caught.value)) < 500


def test_telemetry_is_off(recipe, tmp_path):
    """MLflow reports its use by default."""
    from mlflow.telemetry.utils import is_telemetry_disabled

    MlflowTracker(tmp_path / "run", read_recipe(recipe))
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert is_telemetry_disabled()
