"""What a run takes of the machine, for MLflow."""

import threading
import time
from contextlib import suppress
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor


class SystemMetrics:
    """MLflow's system metrics, measured in a thread and kept until they are logged.

    MLflow's own thread needs a run before it starts, and ends when the server is away for a moment.
    """

    def __init__(self) -> None:
        self._monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        # It raises without a GPU or nvidia-ml-py.
        with suppress(Exception):
            self._monitors.append(GPUMonitor())
        # The first look at the CPU is always 0: it has nothing to compare with.
        self._look()
        self._samples: list[tuple[int, dict[str, float]]] = []
        self._step: int | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Measure once more, and end."""
        self._stopped.set()
        self._thread.join()

    def log(self, client: MlflowClient, run: str, started: int) -> None:
        """Log what was measured since the run started."""
        if self._step is None:
            self._step = len(client.get_metric_history(run, "system/cpu_utilization_percentage"))
        while self._samples:
            when, values = self._samples[0]
            if when >= started:
                metrics = [Metric(f"system/{name}", value, when, self._step) for name, value in values.items()]
                client.log_batch(run, metrics=metrics)
                self._step += 1
            del self._samples[0]

    def _measure(self) -> None:
        while not self._stopped.is_set():
            self._stopped.wait(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or 10)
            self._samples.append((round(1000 * time.time()), self._look()))

    def _look(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        return values
