"""A run's epochs in MLflow, in a store inside the run's folder."""

import json
import logging
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Unpublished data must leave no trace elsewhere. MLflow reads this when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from eqxesm.config import describe
from eqxesm.errors import InputError
from eqxesm.training.recipe import file_name, flatten
from eqxesm.training.run_folder import EPOCHS, REPORT
from eqxesm.training.state import Epoch
from heads.fields import without_none

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow"


class MlflowTracker:
    """Logs the recipe, every epoch and the report to `mlflow.db` in the run's folder.

    A resumed run goes on in the same MLflow run; each fold of a cross-validation has its own.
    """

    def __init__(self, folder: Path, recipe: Any):
        self._folder = folder
        self._recipe = recipe
        self._client: MlflowClient | None = None
        self._experiment = ""

    def __call__(self, epoch: Epoch) -> None:
        """Log the epochs that are not logged yet."""
        del epoch
        with self._explained():
            self._log_epochs()

    def finish(self) -> None:
        """Log what is left, and the reports, and close the runs."""
        with self._explained():
            client = self._log_epochs()
            for folder in self._folders(REPORT):
                run = self._find_run(client, folder)
                client.log_artifacts(run, str(folder / REPORT), REPORT)
                client.set_terminated(run)

    def _log_epochs(self) -> MlflowClient:
        client = self._connect()
        for folder in self._folders(EPOCHS):
            run = self._find_run(client, folder)
            logged = {metric.step for metric in client.get_metric_history(run, "validation/loss")}
            for line in (folder / EPOCHS).read_text().splitlines():
                epoch = json.loads(line)
                if epoch["number"] not in logged:
                    client.log_batch(run, metrics=_metrics(epoch))
        return client

    def _folders(self, name: str) -> list[Path]:
        """The run's folder and those of its folds, where they hold the file `name`."""
        folders = [self._folder, *sorted(self._folder.glob("fold-*"))]
        return [folder for folder in folders if (folder / name).exists()]

    def _connect(self) -> MlflowClient:
        if self._client is None:
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
            folder, name = self._folder.resolve(), self._recipe.name
            self._client = MlflowClient(tracking_uri=f"sqlite:///{folder / DATABASE}")
            found = self._client.get_experiment_by_name(name)
            self._experiment = (
                found.experiment_id
                if found
                else self._client.create_experiment(name, artifact_location=(folder / ARTIFACTS).as_uri())
            )
        return self._client

    def _find_run(self, client: MlflowClient, folder: Path) -> str:
        """Find the MLflow run of a folder, or create it."""
        name = self._recipe.name if folder == self._folder else folder.name
        runs = client.search_runs([self._experiment])
        run = next((each.info.run_id for each in runs if each.info.run_name == name), None)
        if run is None:
            run = client.create_run(self._experiment, run_name=name).info.run_id
            for key, value in flatten(without_none(describe(self._recipe))).items():
                client.log_param(run, key, value)
        return run

    @contextmanager
    def _explained(self) -> Generator[None, None, None]:
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            # The other lines are the statement, and an address to read on.
            reason = str(error).splitlines()[0]
            database = self._folder / DATABASE
            raise InputError(f"{database}: MLflow failed ({reason}). Free space, and go on with --resume.") from error


def _metrics(epoch: dict[str, Any]) -> list[Metric]:
    values = {name: epoch[name] for name in ("learning_rate", "gradient_norm", "seconds")}
    sets = {"training": epoch["training"], "validation": epoch["validation"], **epoch["tests"]}
    for name, scores in sets.items():
        # MLflow refuses other characters.
        values |= {f"{file_name(name)}/{key}": value for key, value in scores.items()}
    now = int(time.time() * 1000)
    return [Metric(name, value, now, epoch["number"]) for name, value in values.items()]
