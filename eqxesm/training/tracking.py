"""A run in MLflow: its epochs, report and model, on a server or in a store inside the run's folder."""

import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

# Unpublished data must leave no trace elsewhere. MLflow reads this when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import get_tracking_uri, is_tracking_uri_set
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from requests import RequestException

from eqxesm.config import describe
from eqxesm.errors import InputError, one_line, pluralise
from eqxesm.files import write_file
from eqxesm.training.recipe import file_name, flatten
from eqxesm.training.run_folder import EPOCHS, MODEL, REPORT, RESULT
from eqxesm.training.state import Epoch
from eqxesm.training.system_metrics import SystemMetrics
from heads.fields import without_none

# Where `mlflow ui`, started in the run's folder, looks for its store and for artefacts.
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
ARTIFACTS_URI = "mlflow-artifacts:/"
RUN_ID = "mlflow-run-id.txt"
# MLflow would try for ten minutes, and training waits.
WAITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}

MOST_PARAMS = 100
"""That MLflow takes at a time."""

Epochs = list[dict[str, Any]]


class MlflowTracker:
    """Logs a run after every epoch, and closes it when the `with` block ends.

    It goes to `MLFLOW_TRACKING_URI`, or to a store in the run's folder. A resumed run goes on in the same
    MLflow run; folds are nested runs. Entering raises where MLflow does not answer. Later failures are a line
    on standard error, and what they left out is logged after another epoch or when the run is resumed.
    """

    def __init__(self, folder: Path, recipe: Any):
        self._folder = folder.resolve()
        self._recipe = recipe
        self._local = not is_tracking_uri_set()
        self._uri = f"sqlite:///{self._folder / DATABASE}" if self._local else get_tracking_uri()
        self._experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or recipe.name
        self._logged: dict[Path, set[int]] = {}
        self._finished: set[Path] = set()
        self._called = self._failing = False
        self._next_try = 0.0

    def __enter__(self) -> "MlflowTracker":
        for name in ("mlflow", "alembic", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.ERROR)
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        try:
            # A run that is refused leaves no folder behind.
            if not self._local or (self._folder / DATABASE).exists():
                with _waiting_briefly():
                    found = MlflowClient(self._uri).get_experiment_by_name(self._experiment)
                if found and found.lifecycle_stage != LifecycleStage.ACTIVE:
                    raise InputError(f"the experiment {self._experiment!r} was deleted")
        except Exception as error:
            raise InputError(f"{self._explain(error)}. Nothing was trained.") from error
        self._system = SystemMetrics()
        return self

    def __call__(self, epoch: Epoch) -> None:
        """Log the epochs that are not logged yet."""
        del epoch
        self._called = True
        if time.monotonic() >= self._next_try:
            self._try("RUNNING", "Training goes on.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._system.stop()
        # A run that was refused stays as it was.
        if kind is None or self._called:
            self._failing = False
            status = "KILLED" if kind and issubclass(kind, KeyboardInterrupt) else "FAILED"
            self._try(status, f"{self._folder} is whole: log the rest with --resume.")

    def _try(self, status: str, advice: str) -> None:
        started = time.monotonic()
        try:
            self._log(status)
            self._failing = False
        # Artefact stores raise whatever they like, and a failure must not end the training.
        except Exception as error:
            # At most a tenth of the time is spent waiting.
            self._next_try = time.monotonic() + 10 * (time.monotonic() - started)
            if not self._failing:
                epochs = sum(len(_read_epochs(folder)) for folder in self._folders())
                left = pluralise(epochs - sum(map(len, self._logged.values())), "epoch")
                print(f"{self._explain(error)}. Not logged: {left}, report, model. {advice}", file=sys.stderr)
            self._failing = True

    def _explain(self, error: Exception) -> str:
        unanswered = any(isinstance(each, RequestException) for each in (error, error.__context__))
        text = f"{self._uri}: MLflow {'does not answer' if unanswered else f'failed ({one_line(error)})'}"
        # An address may hold a password.
        return re.sub(r"://[^/@\s]*@", "://", text)

    def _folders(self) -> list[Path]:
        """The run's folder and those of its folds."""
        return [self._folder, *sorted(self._folder.glob("fold-*"))]

    def _log(self, status: str) -> None:
        """Log what is new. `status` is that of runs without a result."""
        client = MlflowClient(self._uri)
        own = {folder: _read_epochs(folder) for folder in self._folders()}
        spanned = own | {self._folder: [epoch for epochs in own.values() for epoch in epochs]}
        for folder, epochs in own.items():
            if spanned[folder] and folder not in self._finished:
                self._log_run(client, folder, epochs, spanned[folder], status)

    def _log_run(self, client: MlflowClient, folder: Path, epochs: Epochs, spanned: Epochs, status: str) -> None:
        started = _milliseconds(min(epoch["ended"] - epoch["seconds"] for epoch in spanned))
        with _waiting_briefly():
            run = self._find_run(client, folder, started)
            name = run.info.run_id
            if run.info.status == "FINISHED":
                self._finished.add(folder)
                return
            if run.info.status != "RUNNING":
                client.update_run(name, "RUNNING")
            self._log_epochs(client, name, folder, epochs)
            if folder == self._folder:
                self._system.log(client, name, started)
        ended = (folder / REPORT / RESULT).exists()
        if ended:
            for part in (folder / REPORT, folder / MODEL):
                if part.exists():
                    self._log_artifacts(client, run, part)
        if ended or status != "RUNNING":
            last = max(epoch["ended"] for epoch in spanned)
            client.set_terminated(name, "FINISHED" if ended else status, _milliseconds(last))
        if ended:
            self._finished.add(folder)

    def _find_run(self, client: MlflowClient, folder: Path, started: int) -> Run:
        """Find the MLflow run of a folder, or create it."""
        run = _get_run(client, folder)
        if run is None:
            parent = None if folder == self._folder else _get_run(client, self._folder)
            tags = {MLFLOW_RUN_NOTE: self._recipe.summary}
            if parent:
                tags[MLFLOW_PARENT_RUN_ID] = parent.info.run_id
            found = client.get_experiment_by_name(self._experiment)
            experiment = (
                found.experiment_id
                if found
                else client.create_experiment(self._experiment, ARTIFACTS_URI if self._local else None)
            )
            name = folder.name if parent else self._recipe.name
            run = client.create_run(experiment, started, resolve_tags(tags), name)
            write_file(folder / RUN_ID, run.info.run_id + "\n")
        if not run.data.params:
            recipe = flatten(without_none(describe(self._recipe)))
            params = [Param(name, str(value)) for name, value in recipe.items()]
            for start in range(0, len(params), MOST_PARAMS):
                client.log_batch(run.info.run_id, params=params[start : start + MOST_PARAMS])
        return run

    def _log_epochs(self, client: MlflowClient, run: str, folder: Path, epochs: Epochs) -> None:
        if folder not in self._logged:
            self._logged[folder] = {metric.step for metric in client.get_metric_history(run, "validation/loss")}
        for epoch in epochs:
            if epoch["number"] not in self._logged[folder]:
                client.log_batch(run, metrics=_metrics(epoch))
                self._logged[folder].add(epoch["number"])

    def _log_artifacts(self, client: MlflowClient, run: Run, source: Path) -> None:
        if self._local:
            # The address is one that a server resolves, and none runs yet.
            inside = str(run.info.artifact_uri).removeprefix(ARTIFACTS_URI)
            target = self._folder / ARTIFACTS / inside / source.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, copy_function=_link)
        else:
            client.log_artifacts(run.info.run_id, str(source), source.name)


@contextmanager
def _waiting_briefly() -> Generator[None, None, None]:
    """Give up soon on a server that does not answer, unless the user chose how long to wait."""
    chosen = {name: value for name, value in WAITS.items() if name not in os.environ}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name in chosen:
            del os.environ[name]


def _get_run(client: MlflowClient, folder: Path) -> Run | None:
    try:
        run = client.get_run((folder / RUN_ID).read_text().strip())
    except FileNotFoundError:
        return None
    except MlflowException as error:
        # It was deleted for good, or belongs to another store.
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


def _read_epochs(folder: Path) -> Epochs:
    path = folder / EPOCHS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _metrics(epoch: dict[str, Any]) -> list[Metric]:
    values = {name: epoch[name] for name in ("learning_rate", "gradient_norm", "seconds")}
    sets = {"training": epoch["training"], "validation": epoch["validation"], **epoch["tests"]}
    for name, scores in sets.items():
        # MLflow refuses other characters.
        values |= {f"{file_name(name)}/{key}": value for key, value in scores.items() if value is not None}
    return [Metric(name, value, _milliseconds(epoch["ended"]), epoch["number"]) for name, value in values.items()]


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _link(source: str, target: str) -> None:
    """Link a file, which takes no space, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
