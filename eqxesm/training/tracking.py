"""A run's epochs in MLflow, in a store of its own inside the run's folder."""

import logging
from pathlib import Path

from mlflow import MlflowClient

from eqxesm.training.recipe import Recipe, flatten
from eqxesm.training.store import Epoch

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow"


class MlflowTracker:
    """Logs the recipe, every epoch and the report; `mlflow ui` reads `mlflow.db` in the folder."""

    def __init__(self, folder: Path, recipe: Recipe):
        """Note where to; nothing is written before the first epoch.

        Args:
            folder: of the run.
            recipe: what is trained, and how.
        """
        self._folder = folder
        self._recipe = recipe
        self._client: MlflowClient | None = None
        self._run = ""

    def __call__(self, epoch: Epoch) -> None:
        """Log an epoch.

        Args:
            epoch: what came of it.
        """
        client = self._open()
        sets = {"training": epoch.training, "validation": epoch.validation, **epoch.tests}
        metrics = {
            "learning_rate": epoch.learning_rate,
            "gradient_norm": epoch.gradient_norm,
            "seconds": epoch.seconds,
        }
        for name, scores in sets.items():
            metrics |= {f"{name}/loss": scores.loss, f"{name}/accuracy": scores.accuracy}
        for name, value in metrics.items():
            client.log_metric(self._run, name, value, step=epoch.number)

    def finish(self) -> None:
        """Log the report and close the run."""
        client = self._open()
        client.log_artifacts(self._run, str(self._folder / "report"), "report")
        client.set_terminated(self._run)

    def _open(self) -> MlflowClient:
        """Connect to the store, and find the run that is there when an earlier one goes on."""
        if self._client is not None:
            return self._client
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        place = self._folder.resolve()
        client = MlflowClient(tracking_uri=f"sqlite:///{place / DATABASE}")
        experiment = client.get_experiment_by_name(self._recipe.name)
        if experiment is None:
            number = client.create_experiment(
                self._recipe.name, artifact_location=(place / ARTIFACTS).as_uri()
            )
            self._run = client.create_run(number).info.run_id
            for key, value in flatten(self._recipe.to_plain()).items():
                client.log_param(self._run, key, value)
        else:
            self._run = client.search_runs([experiment.experiment_id])[0].info.run_id
            client.update_run(self._run, status="RUNNING")
        self._client = client
        return client
