"""Loading a 300M checkpoint: ours, mapped and cast, against transformers' `from_pretrained`.

    python -m benchmarks.load [--device cpu|gpu] [--quick]

Every load is in a process of its own that has imported its framework. Peak memory is what the load
adds to the process's anonymous memory: mapped pages of the file are not counted. It is read from
/proc, so it needs Linux.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import ENCODERS
from benchmarks.measure import Row, Worker, compare, parse_options, save, timed
from benchmarks.sides import write_models


def anonymous_mb() -> float:
    """The anonymous memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


class OursLoading:
    """Loads our checkpoint, and runs nothing."""

    def __init__(self, folder: Path, dtype: str | None):
        import jax

        import eqxesm

        jax.numpy.zeros(1).block_until_ready()
        self._load = lambda: jax.block_until_ready(eqxesm.ESMC.from_pretrained(folder / "ours", dtype=dtype))

    def load(self) -> tuple[float, float]:
        return measure(self._load)


class TorchLoading:
    """Loads the same in transformers."""

    def __init__(self, folder: Path, dtype: str | None):
        import torch
        from transformers import EsmcModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        precision = getattr(torch, dtype or "float32")
        self._load = lambda: EsmcModel.from_pretrained(folder / "torch", dtype=precision)

    def load(self) -> tuple[float, float]:
        return measure(self._load)


def measure(load: Any) -> tuple[float, float]:
    """Seconds of a load, and the megabytes that it adds."""
    before = anonymous_mb()
    kept = []
    seconds = timed(lambda: kept.append(load()))
    return seconds, anonymous_mb() - before


def compare_loads(folder: Path, size: str, dtype: str | None, rounds: int) -> Row:
    """Both sides, each load in a fresh process."""
    seconds: dict[str, list[float]] = {"ours": [], "torch": []}
    added = []
    for _ in range(rounds):
        for name, side in (("ours", OursLoading), ("torch", TorchLoading)):
            worker = Worker(side, folder, dtype)
            taken, megabytes = worker.ask("load")
            seconds[name].append(taken)
            added += [megabytes] if name == "ours" else []
            worker.close()
    ours, theirs = (np.array(seconds[name]) for name in ("ours", "torch"))
    case = f"load, {size}, {f'cast to {dtype}' if dtype else 'as stored, float32'}"
    return compare(case, ours, theirs, peak_memory_mb=max(added))


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__)
    size = "12x240" if options.quick else "300M"
    with tempfile.TemporaryDirectory() as name:
        write_models(Path(name), ENCODERS[size])
        rounds = 1 if options.quick else 5
        rows = [compare_loads(Path(name), size, dtype, rounds) for dtype in (None, "bfloat16")]
    save("load", options, rows)


if __name__ == "__main__":
    main()
