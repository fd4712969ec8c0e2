"""Loading a 300M checkpoint against transformers' `from_pretrained`, as it is and with a cast; and its port.

    python -m benchmarks.load [--device cpu|gpu] [--quick]

Every load is in a process of its own that has imported its framework. Peak memory is what the load
adds to the process's anonymous memory: mapped pages of the file are not counted. It is read from
/proc, so it needs Linux.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import ENCODERS
from benchmarks.measure import Row, Worker, compare, measure_commands, memory_mb, parse_options, save, timed
from benchmarks.sides import import_original, write_models


class OursLoading:
    """Loads our checkpoint, and runs nothing."""

    def __init__(self, folder: Path, dtype: str | None):
        import jax

        from eqxesm import ESMC

        jax.numpy.zeros(1).block_until_ready()
        self._load = lambda: jax.block_until_ready(ESMC.from_pretrained(folder / "ours", dtype=dtype))

    def load(self) -> tuple[float, float]:
        return measure(self._load)


class TorchLoading:
    """Loads the same in transformers."""

    def __init__(self, folder: Path, dtype: str | None):
        original = import_original()
        self._load = lambda: original.from_pretrained(folder / "torch", dtype=dtype or "float32")

    def load(self) -> tuple[float, float]:
        return measure(self._load)


def measure(load: Any) -> tuple[float, float]:
    """Seconds of a load, and the megabytes that it adds."""
    before = memory_mb("RssAnon")
    kept = []
    seconds = timed(lambda: kept.append(load()))
    return seconds, memory_mb("RssAnon") - before


def compare_loads(folder: Path, size: str, dtype: str | None, rounds: int) -> Row:
    """Both sides, each load in a fresh process."""
    seconds: dict[str, list[float]] = {"ours": [], "torch": []}
    added: dict[str, float] = {}
    for _ in range(rounds):
        for name, side in (("ours", OursLoading), ("torch", TorchLoading)):
            worker = Worker(side, folder, dtype)
            taken, megabytes = worker.ask("load")
            seconds[name].append(taken)
            added[name] = max(megabytes, added.get(name, 0.0))
            worker.close()
    ours, theirs = (np.array(seconds[name]) for name in ("ours", "torch"))
    memory = {"peak_memory_mb": added["ours"], "torch_peak_memory_mb": added["torch"]}
    case = f"load, {size}, {f'cast to {dtype}' if dtype else 'as stored, float32'}"
    return replace(compare(case, ours, theirs), **memory)


def measure_port(folder: Path) -> Row:
    """The port of transformers' 300M checkpoint to ours."""
    command = [sys.executable, "-m", "conversion.port", "esmc_300m", "--source", str(folder / "torch"), "--out"]
    return measure_commands("port, 300M", [[*command, str(folder / f"ported {number}")] for number in range(3)])


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__)
    size = "12x240" if options.quick else "300M"
    with tempfile.TemporaryDirectory() as name:
        write_models(Path(name), ENCODERS[size])
        rounds = 1 if options.quick else 5
        rows = [compare_loads(Path(name), size, dtype, rounds) for dtype in (None, "bfloat16")]
        rows += [] if options.quick else [measure_port(Path(name))]
    save("load", options, rows)


if __name__ == "__main__":
    main()
