"""A run in MLflow: the same figures as in its folder, and one MLflow run however often it is resumed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("mlflow")
# SQLAlchemy warns about a query of MLflow.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

import requests
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from run_recipes import FOLDS, contents, hurry, refused, stop_after, train

from eqxesm import InputError
from eqxesm.training import run as run_module
from eqxesm.training import run_log, tracking
from eqxesm.training.recipe import read_recipe
from eqxesm.training.state import Epoch, Scores
from eqxesm.training.tracking import MlflowTracker

EPOCH = Epoch(1, 3, Scores(0.7, 0.5), Scores(0.7, 0.5), {}, 0.1, 2.0, 1.5)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No settings of the user, and system metrics soon enough to see some."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")


def store(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def runs_of(client: MlflowClient, name: str = "tried") -> dict[str, Run]:
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def logged(client: MlflowClient, run: Run) -> dict[int, dict[str, float]]:
    """Metrics of the epochs, and when each ended. None is logged twice."""
    found: dict[int, dict[str, float]] = {}
    for name in run.data.metrics:
        if not name.startswith("system/"):
            for metric in client.get_metric_history(run.info.run_id, name):
                step = found.setdefault(metric.step, {"ended": metric.timestamp})
                assert name not in step
                assert step["ended"] == metric.timestamp
                step[name] = metric.value
    return found


def read_epochs(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def flat(epoch: dict) -> dict[str, float]:
    """A line of metrics.jsonl, with the names that MLflow gets."""
    values = {name: epoch[name] for name in ("learning_rate", "gradient_norm", "seconds")}
    sets = {"training": epoch["training"], "validation": epoch["validation"]}
    sets |= {name.replace(" ", "_"): scores for name, scores in epoch["tests"].items()}
    for name, scores in sets.items():
        values |= {f"{name}/{key}": value for key, value in scores.items()}
    return {**values, "ended": round(1000 * epoch["ended"])}


def check_run(client: MlflowClient, run: Run, folder: Path, status: str = "FINISHED") -> None:
    """Compare a run with its folder: status, times and metrics."""
    epochs = read_epochs(folder)
    assert run.info.status == status
    assert run.info.start_time == round(1000 * (epochs[0]["ended"] - epochs[0]["seconds"]))
    assert run.info.end_time == round(1000 * epochs[-1]["ended"])
    assert logged(client, run) == {epoch["number"]: flat(epoch) for epoch in epochs}


def fail(*_, **__):
    raise MlflowException("out of order")


def test_run_that_is_stopped_twice_is_one_mlflow_run(recipe, tmp_path, monkeypatch):
    """It starts with MLflow, goes on without it, and ends with it."""
    hurry(monkeypatch)
    folder, stop = tmp_path / "run", stop_after(1)
    read = read_recipe(recipe)
    before = time.time()

    def on_epoch(epoch) -> None:
        tracker(epoch)
        assert runs_of(store(folder))["tried"].info.status == "RUNNING"
        stop(epoch)

    tracker = MlflowTracker(folder, read)
    with pytest.raises(KeyboardInterrupt), tracker:
        run_module.train(read, folder, on_epoch=on_epoch)
    (run,) = runs_of(store(folder)).values()
    check_run(store(folder), run, folder, "KILLED")
    assert 1000 * before < run.info.start_time < run.info.end_time < 1000 * time.time()
    with pytest.raises(KeyboardInterrupt):
        run_module.train(read, folder, resume=True, on_epoch=stop_after(2))
    assert train(recipe, folder, "--mlflow", "--resume") == 0

    (run,) = runs_of(store(folder)).values()
    assert {epoch["number"] for epoch in read_epochs(folder)} == {1, 2, 3}
    check_run(store(folder), run, folder)
    expected = {
        "training.epochs": "3", "training.learning_rate": "0.01", "model.head.hidden": "[8]",
        "data.training.0.path": "training.csv", "data.leakage": "refuse", "summary":
        "A recipe that is tried out.",
    }  # fmt: skip
    assert expected.items() <= run.data.params.items()
    assert run.data.tags["mlflow.note.content"] == "A recipe that is tried out."
    # Nothing says where the folder is, so it may be moved.
    kept = folder / "mlartifacts" / run.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    for part in ("report", "model"):
        assert contents(kept / part) == contents(folder / part)
    assert (kept / "model" / "model.safetensors").samefile(folder / "model" / "model.safetensors")
    for name, most in (("cpu_utilization_percentage", 100), ("system_memory_usage_megabytes", 1e9)):
        history = store(folder).get_metric_history(run.info.run_id, f"system/{name}")
        assert [metric.step for metric in history] == list(range(len(history)))
        assert all(0 <= metric.value <= most for metric in history)
        assert min(metric.timestamp for metric in history) >= run.info.start_time
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 10


@pytest.fixture
def folds(tmp_path) -> Path:
    """The files of a cross-validation, with made-up epochs."""
    scores = {"loss": 0.5, "accuracy": 0.75}
    for fold, ends in (("fold-a", [1000.0, 1010.0]), ("fold-b", [1100.0])):
        epochs = [
            {"number": number, "step": 3 * number, "training": scores,
             "validation": {"loss": 1 / number, "accuracy": 0.5}, "tests": {"µ (held-out)": scores},
             "learning_rate": 0.1, "gradient_norm": 2.0, "seconds": 1.5, "ended": ended}
            for number, ended in enumerate(ends, 1)
        ]  # fmt: skip
        (tmp_path / fold / "report").mkdir(parents=True)
        (tmp_path / fold / "report" / "table.md").write_text(fold)
        (tmp_path / fold / "report" / "metrics.json").write_text("{}")
        text = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
        (tmp_path / fold / "metrics.jsonl").write_text(text)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "metrics.json").write_text("{}")
    return tmp_path


def test_each_fold_is_a_run_within_the_run(folds, recipe):
    """Characters that MLflow refuses are replaced in names."""
    for _ in range(2):
        with MlflowTracker(folds, read_recipe(recipe)):
            pass
    client = store(folds)
    runs = runs_of(client)
    assert set(runs) == {"tried", "fold-a", "fold-b"}
    parent = runs["tried"].info.run_id
    for name, times in (("tried", (998_500, 1_100_000)), ("fold-a", (998_500, 1_010_000)),
                        ("fold-b", (1_098_500, 1_100_000))):  # fmt: skip
        run = runs[name]
        assert run.info.status == "FINISHED"
        assert (run.info.start_time, run.info.end_time) == times
        assert run.data.tags.get("mlflow.parentRunId") == (None if name == "tried" else parent)
        kept = folds / "mlartifacts" / run.info.artifact_uri.removeprefix("mlflow-artifacts:/")
        assert contents(kept / "report") == contents((folds if name == "tried" else folds / name) / "report")
    steps = logged(client, runs["fold-a"])
    assert {step: values["validation/loss"] for step, values in steps.items()} == {1: 1.0, 2: 0.5}
    assert steps[2]["ended"] == 1_010_000
    assert steps[1]["µ_held-out_/accuracy"] == 0.75
    assert set(logged(client, runs["fold-b"])) == {1}
    assert logged(client, runs["tried"]) == {}


def test_fold_is_finished_while_the_others_go_on(folds, recipe):
    (folds / "report" / "metrics.json").unlink()
    (folds / "fold-b" / "report" / "metrics.json").unlink()

    def statuses() -> dict[str, str]:
        return {name: run.info.status for name, run in runs_of(store(folds)).items()}

    def go_on() -> None:
        tracker(EPOCH)
        assert statuses() == {"tried": "RUNNING", "fold-a": "FINISHED", "fold-b": "RUNNING"}
        raise InputError("diverged")

    tracker = MlflowTracker(folds, read_recipe(recipe))
    with pytest.raises(InputError, match="diverged"), tracker:
        go_on()
    assert statuses() == {"tried": "FAILED", "fold-a": "FINISHED", "fold-b": "FAILED"}


def test_environment_names_the_store_and_the_experiment(folds, recipe, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folds / 'elsewhere.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "all assays")
    monkeypatch.chdir(folds)
    with MlflowTracker(folds, read_recipe(recipe)):
        pass
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    runs = runs_of(client, "all assays")
    assert set(runs) == {"tried", "fold-a", "fold-b"}
    listed = client.list_artifacts(runs["fold-b"].info.run_id, "report")
    assert [item.path for item in listed] == ["report/metrics.json", "report/table.md"]
    assert not (folds / "mlflow.db").exists()


def test_run_of_another_store_is_logged_whole(folds, recipe, monkeypatch):
    with MlflowTracker(folds, read_recipe(recipe)):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folds / 'elsewhere.db'}")
    monkeypatch.chdir(folds)
    with MlflowTracker(folds, read_recipe(recipe)):
        pass
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    assert set(logged(client, runs_of(client)["fold-a"])) == {1, 2}


def test_refused_run_leaves_nothing_and_changes_nothing(folds, recipe, tmp_path):
    with pytest.raises(InputError, match="refused"), MlflowTracker(tmp_path / "new", read_recipe(recipe)):
        raise InputError("refused")
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="refused"), MlflowTracker(folds, read_recipe(recipe)):
        raise InputError("refused")
    assert not (folds / "mlflow.db").exists()


def test_refuses_a_damaged_store(folds, recipe):
    (folds / "mlflow.db").write_text("not a database")
    with pytest.raises(InputError, match=r"mlflow.db: MLflow failed \(.*Nothing was trained.") as caught:
        MlflowTracker(folds, read_recipe(recipe)).__enter__()
    assert len(str(caught.value)) < 500


def test_refuses_a_deleted_experiment(folds, recipe):
    with MlflowTracker(folds, read_recipe(recipe)):
        pass
    store(folds).delete_experiment(store(folds).get_experiment_by_name("tried").experiment_id)
    with pytest.raises(InputError, match="experiment 'tried' was deleted"):
        MlflowTracker(folds, read_recipe(recipe)).__enter__()


@pytest.mark.parametrize("listening", [True, False])
def test_refuses_a_server_that_does_not_answer(listening, recipe, tmp_path, capsys, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not listening:
            server.close()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
        # What the user chose holds.
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        before = time.monotonic()
        error = refused(capsys, recipe, tmp_path / "run", "--mlflow")
    assert error == f"eqxesm: error: http://127.0.0.1:{port}: MLflow does not answer. Nothing was trained.\n"
    assert time.monotonic() - before < 10
    assert not (tmp_path / "run").exists()


def test_failures_of_mlflow_do_not_end_training(recipe, tmp_path, capsys, monkeypatch):
    """What they left out is logged when the run is resumed, with the times of training."""
    hurry(monkeypatch)
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        patch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: 0))
        assert train(recipe, folder, "--mlflow") == 0
    ended = time.time()
    failed = f"sqlite:///{folder}/mlflow.db: MLflow failed (out of order). Not logged: "
    errors = [line for line in capsys.readouterr().err.splitlines() if "MLflow" in line]
    assert errors == [
        f"{failed}1 epoch, report, model. Training goes on.",
        f"{failed}3 epochs, report, model. {folder} is whole: log the rest with --resume.",
    ]
    (run,) = runs_of(store(folder)).values()
    assert run.info.status == "RUNNING"
    assert train(recipe, folder, "--mlflow", "--resume") == 0
    assert "MLflow" not in capsys.readouterr().err
    (run,) = runs_of(store(folder)).values()
    check_run(store(folder), run, folder)
    assert run.info.end_time < 1000 * ended


def test_little_time_is_spent_on_a_server_that_is_gone(folds, recipe, capsys, monkeypatch):
    now, tries = [0.0], []

    def wait(*_, **__):
        tries.append(now[0])
        now[0] += 20
        fail()

    monkeypatch.setattr(MlflowClient, "create_run", wait)
    monkeypatch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with MlflowTracker(folds, read_recipe(recipe)) as tracker:
        for _ in range(300):
            tracker(EPOCH)
            now[0] += 1
    assert tries == [0, 220, 340]
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_only_the_first_process_logs(recipe, tmp_path, monkeypatch):
    hurry(monkeypatch)
    monkeypatch.setattr("eqxesm.training.devices.is_first", lambda: False)
    monkeypatch.setattr(MlflowTracker, "__enter__", fail)
    assert train(recipe, tmp_path / "run", "--mlflow") == 0


def test_telemetry_is_off():
    """MLflow reports its use by default."""
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert is_telemetry_disabled()


needs_server = pytest.mark.skipif(find_spec("flask") is None, reason="the whole of mlflow is not installed")


@contextmanager
def running_server(folder: Path, port: int) -> Iterator[tuple[MlflowClient, Callable[[], None]]]:
    """MLflow's own server, started in a folder without any option, and a function that kills it."""
    uri = f"http://127.0.0.1:{port}"
    with open(folder / "server.log", "a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
        )  # fmt: skip

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    try:
        for _ in range(240):
            with suppress(requests.ConnectionError):
                requests.get(f"{uri}/health", timeout=5).raise_for_status()
                break
            time.sleep(0.5)
        yield MlflowClient(uri), kill
    finally:
        kill()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def downloaded(client: MlflowClient, run: Run, part: str, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    return contents(Path(client.download_artifacts(run.info.run_id, part, str(folder))))


@pytest.mark.slow
@needs_server
def test_server_that_dies_in_training(recipe, tmp_path, port, capsys, monkeypatch):
    hurry(monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "all assays")
    folder, write_lines = tmp_path / "run", run_log.write_lines
    with running_server(tmp_path, port) as (client, kill), monkeypatch.context() as patch:

        def kill_server(path, epochs) -> None:
            write_lines(path, epochs)
            if len(epochs) == 2:
                (run,) = runs_of(client, "all assays").values()
                assert set(logged(client, run)) == {1}
                kill()

        patch.setattr(run_log, "write_lines", kill_server)
        assert train(recipe, folder, "--mlflow") == 0
    failed = f"http://127.0.0.1:{port}: MLflow does not answer. Not logged: "
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("model: ")]
    assert errors == [
        f"{failed}1 epoch, report, model. Training goes on.",
        f"{failed}2 epochs, report, model. {folder} is whole: log the rest with --resume.",
    ]
    ended = time.time()
    with running_server(tmp_path, port) as (client, _):
        (run,) = runs_of(client, "all assays").values()
        assert run.info.status == "RUNNING"
        assert train(recipe, folder, "--mlflow", "--resume") == 0
        (run,) = runs_of(client, "all assays").values()
        check_run(client, run, folder)
        assert run.info.end_time < 1000 * ended
        assert run.data.metrics["system/system_memory_usage_megabytes"] > 10
        for part in ("report", "model"):
            assert downloaded(client, run, part, tmp_path / f"got-{part}") == contents(folder / part)


@pytest.mark.slow
@needs_server
def test_folder_that_was_moved_still_shows_its_artifacts(folds, recipe, tmp_path_factory, port):
    with MlflowTracker(folds, read_recipe(recipe)):
        pass
    moved = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.move(folds, moved)
    with running_server(moved, port) as (client, _):
        runs = runs_of(client)
        assert runs["fold-b"].data.tags["mlflow.parentRunId"] == runs["tried"].info.run_id
        for name, run in runs.items():
            expected = contents((moved if name == "tried" else moved / name) / "report")
            assert downloaded(client, run, "report", moved / f"got-{name}") == expected


@pytest.mark.slow
@needs_server
def test_cross_validation_on_a_server(recipe, tmp_path, port, monkeypatch):
    hurry(monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    folder = tmp_path / "run"
    with running_server(tmp_path, port) as (client, _):
        assert train(recipe, folder, "--mlflow", settings=FOLDS) == 0
        runs = runs_of(client)
        assert set(runs) == {"tried", "fold-0", "fold-1", "fold-2"}
        for name in ("fold-0", "fold-1", "fold-2"):
            check_run(client, runs[name], folder / name)
            assert runs[name].data.tags["mlflow.parentRunId"] == runs["tried"].info.run_id
            listed = {item.path for item in client.list_artifacts(runs[name].info.run_id)}
            assert listed == {"report", "model"}
        whole = runs["tried"].info
        assert (whole.status, whole.start_time) == ("FINISHED", runs["fold-0"].info.start_time)
        assert whole.end_time == runs["fold-2"].info.end_time
        assert [item.path for item in client.list_artifacts(whole.run_id)] == ["report"]
