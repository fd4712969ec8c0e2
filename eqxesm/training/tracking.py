"""A run's epochs in MLflow, in a store of its own inside the run's folder."""

import json
import logging
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Data that are not published shall not leave a trace elsewhere; asked before MLflow is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from eqxesm.errors import InputError
from eqxesm.training.folder import EPOCHS, REPORT
from eqxesm.training.plan import Recipe, file_name, flatten
from eqxesm.training.store import Epoch

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow"


class MlflowTracker:
    """Logs the recipe, every epoch and the report; `mlflow ui` reads `mlflow.db` in the folder.

    A run is one of MLflow's too, and so is each fold of a cross-validation. What is logged is what
    `metrics.jsonl` holds and MLflow does not: epochs of before a run was stopped, or before it
    was tracked, are there as well.
    """

    def __init__(self, folder: Path, recipe: Recipe):
        """Note where to; nothing is written before the first epoch.

        Args:
            folder: of the run.
            recipe: what is trained, and how.
        """
        self._folder = folder
        self._recipe = recipe
        self._client: MlflowClient | None = None
        self._experiment = ""

    def __call__(self, epoch: Epoch) -> None:
        """Log the epochs that are not logged yet.

        Args:
            epoch: the one that is over; it is read from the folder, as all others are.
        """
        del epoch
        with self._refusing():
            self._log_epochs()

    def finish(self) -> None:
        """Log what is left, and the reports, and close the runs."""
        with self._refusing():
            client = self._log_epochs()
            for place in self._places(REPORT):
                run = self._find(client, place)
                client.log_artifacts(run, str(place / REPORT), REPORT)
                client.set_terminated(run)

    def _log_epochs(self) -> MlflowClient:
        client = self._open()
        for place in self._places(EPOCHS):
            run = self._find(client, place)
            logged = {metric.step for metric in client.get_metric_history(run, "validation/loss")}
            for line in (place / EPOCHS).read_text().splitlines():
                epoch = json.loads(line)
                if epoch["number"] not in logged:
                    client.log_batch(run, metrics=_metrics(epoch))
        return client

    def _places(self, name: str) -> list[Path]:
        """List the folder of the run and those of folds, as far as they hold something."""
        places = [self._folder, *sorted(self._folder.glob("fold-*"))]
        return [place for place in places if (place / name).exists()]

    def _open(self) -> MlflowClient:
        """Connect to the store, making it where there is none."""
        if self._client is None:
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
            place = self._folder.resolve()
            self._client = MlflowClient(tracking_uri=f"sqlite:///{place / DATABASE}")
            experiment = self._client.get_experiment_by_name(self._recipe.name)
            self._experiment = (
                self._client.create_experiment(
                    self._recipe.name, artifact_location=(place / ARTIFACTS).as_uri()
                )
                if experiment is None
                else experiment.experiment_id
            )
        return self._client

    def _find(self, client: MlflowClient, place: Path) -> str:
        """Find the MLflow run of a folder, beginning it where there is none."""
        name = self._recipe.name if place == self._folder else place.name
        runs = client.search_runs([self._experiment])
        run = next((each.info.run_id for each in runs if each.info.run_name == name), None)
        if run is None:
            run = client.create_run(self._experiment, run_name=name).info.run_id
            for key, value in flatten(self._recipe.to_plain()).items():
                client.log_param(run, key, value)
        return run

    @contextmanager
    def _refusing(self) -> Generator[None, None, None]:
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            # The rest is the statement, and an address to read on.
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self._folder / DATABASE}: MLflow failed ({reason}): make room, and go on with "
                "--resume, with --mlflow or without"
            ) from error


def _metrics(epoch: dict[str, Any]) -> list[Metric]:
    values = {name: epoch[name] for name in ("learning_rate", "gradient_norm", "seconds")}
    sets = {"training": epoch["training"], "validation": epoch["validation"], **epoch["tests"]}
    for name, scores in sets.items():
        # MLflow refuses other characters.
        values |= {f"{file_name(name)}/{key}": value for key, value in scores.items()}
    now = int(time.time() * 1000)
    return [Metric(name, value, now, epoch["number"]) for name, value in values.items()]
