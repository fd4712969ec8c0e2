"""What the benchmarks share: sides that take turns, a row per case, and the file of results.

Each side runs in a process of its own, so that its threads and its peak memory are its own. The two
take turns, and a ratio is that of two neighbours in time: machines are noisy.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("eqxesm", "jax", "jaxlib", "equinox", "torch", "transformers")
PEAK_SIZE = 2048
"""Rows and columns of the matrices whose product measures a framework's peak."""

COLUMNS = {
    "ours_s": "ours, s",
    "rate": "proteins/s",
    "residue_us": "µs/residue",
    "torch_s": "torch, s",
    "ratio": "ratio",
    "spread": "quartiles",
    "peak_ratio": "P",
    "share_of_peak": "of peak",
    "padding": "padding",
    "compile_s": "compile, s",
    "peak_memory_mb": "MB",
    "torch_peak_memory_mb": "torch, MB",
}
"""Columns of the table, by what they show; the spread is that of the ratio."""

# In a process of its own, so that peak memory is that of the command alone.
RUN = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


@dataclass(frozen=True)
class Row:
    """One case. Seconds are medians; ratios are torch's seconds over ours, of neighbours in time.

    `ratio_low` and `ratio_high` are quartiles. `peak_ratio` is JAX's matrix-multiply peak over torch's, and
    `share_of_peak` our useful operations over JAX's peak. `padding` is our share of padded positions, `compile_s` what
    our first call takes beyond the second. Memory is the most that a process ever held. `rate` is in proteins
    per second, `residue_us` in microseconds per residue.
    """

    case: str
    ours_s: float | None = None
    torch_s: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    peak_ratio: float | None = None
    share_of_peak: float | None = None
    padding: float | None = None
    compile_s: float | None = None
    peak_memory_mb: float | None = None
    torch_peak_memory_mb: float | None = None
    rate: float | None = None
    residue_us: float | None = None


class Worker:
    """A side in a process of its own, which does one thing at a time."""

    def __init__(self, side: Callable, *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, side, *arguments), daemon=True)
        self._process.start()
        there.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the side."""
        self._pipe.send((method, arguments))
        return self._pipe.recv()

    def close(self) -> float:
        """End the process; the most memory that it ever held, in MB."""
        peak = self.ask("peak_memory")
        self._process.join()
        return peak


def _serve(pipe: Any, side: Callable, *arguments: Any) -> None:
    this = side(*arguments)
    while True:
        method, values = pipe.recv()
        if method == "peak_memory":
            pipe.send(memory_mb("VmHWM"))
            return
        pipe.send(getattr(this, method)(*values))


def memory_mb(field: str) -> float:
    """A figure of this process's memory, by its name in /proc: `getrusage` would count the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def timed(function: Callable, *arguments: Any) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def take_turns(turns: Mapping[Any, Callable[[], float]], rounds: int) -> dict[Any, np.ndarray]:
    """Let every side run once a round, in an order that is turned around each time; seconds of each."""
    seconds: dict[Any, list[float]] = {name: [] for name in turns}
    for number in range(rounds):
        for name in list(turns)[:: 1 if number % 2 else -1]:
            seconds[name].append(turns[name]())
    return {name: np.array(values) for name, values in seconds.items()}


def compare(case: str, ours: np.ndarray, theirs: np.ndarray) -> Row:
    """The row of two sides that took turns."""
    low, ratio, high = np.percentile(theirs / ours, [25, 50, 75]).tolist()
    return Row(case, float(np.median(ours)), float(np.median(theirs)), ratio, low, high)


def with_cache(cache: Path, *words: object) -> list[str]:
    """The command line of `eqxesm`, with a cache of its own."""
    return ["env", f"EQXESM_CACHE={cache}", sys.executable, "-m", "eqxesm", *map(str, words)]


def run_alone(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; seconds, and the most memory that it held, in MB."""
    done = subprocess.run([sys.executable, "-c", RUN, *command], check=True, capture_output=True, text=True)
    seconds, megabytes = done.stdout.splitlines()[-1].split()
    return float(seconds), float(megabytes)


def measure_commands(case: str, commands: Sequence[Sequence[str]]) -> Row:
    """The row of commands that do the same, each run alone."""
    seconds, megabytes = zip(*map(run_alone, commands), strict=True)
    return Row(case, float(np.median(seconds)), peak_memory_mb=max(megabytes))


def parse_options(description: str | None, *files: str) -> argparse.Namespace:
    """The options that every benchmark has, and files that some need."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds, to see that it runs")
    for name in files:
        parser.add_argument(name, metavar=name.upper(), type=Path)
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return options


def save(name: str, options: argparse.Namespace, rows: Sequence[Row]) -> None:
    """Print the table, and write it with what it was measured on."""
    print(make_table(rows))
    if options.quick:
        return
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    about = {
        "command": f"python -m benchmarks.{name} --device {options.device}",
        "machine": describe_machine(options.device),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }
    path = RESULTS / f"{name}-{options.device}.json"
    path.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    print(f"written: {path}")


def describe_machine(device: str) -> str:
    """Processor and cores, or the accelerator."""
    if device == "gpu":
        import jax

        return jax.devices()[0].device_kind
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    widest = next((flag for flag in ("avx512f", "avx2") if flag in flags), platform.machine())
    cores = len(os.sched_getaffinity(0))
    return f"{next(named, platform.processor())}, {cores} core{'s' * (cores > 1)}, {widest}"


def make_table(rows: Sequence[Row]) -> str:
    """A Markdown table of the columns that have a value."""
    cells = [[_format(name, row) for name in COLUMNS] for row in rows]
    kept = [i for i in range(len(COLUMNS)) if any(line[i] for line in cells)]
    titles = list(COLUMNS.values())
    lines = [
        ["case", *(titles[i] for i in kept)],
        *([row.case, *(line[i] for i in kept)] for row, line in zip(rows, cells, strict=True)),
    ]
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    lines.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
    padded = ([line[0].ljust(first), *map(str.rjust, line[1:], others)] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def _format(name: str, row: Row) -> str:
    if name == "spread":
        return "" if row.ratio is None else f"{row.ratio_low:.2f} to {row.ratio_high:.2f}"
    value = getattr(row, name)
    if value is None:
        return ""
    if name in ("share_of_peak", "padding"):
        return f"{value:.0%}"
    return f"{value:,.0f}" if name.endswith("_mb") else f"{value:,.2f}"
