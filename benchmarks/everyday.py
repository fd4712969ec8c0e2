"""Time and memory of import, of predicting 1,000 proteins, and of the port of a 300M checkpoint.

    python benchmarks/everyday.py --out benchmarks/results/everyday.json

The checkpoint has the size and layout of transformers'
`EsmcForMaskedLM` at 300M, and random weights; it takes 2.7 GB of temporary disk.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.checkpoint.tensors import TensorSpec, write_tensors
from eqxesm.encoders import PRESETS
from eqxesm.encoders.published.layouts import Layout, plan_tensors, planned_shape
from eqxesm.encoders.published.reader import leaf_shapes

SIZE = "esmc_300m"
REPEATS = 3

# Run in a process of its own, so that peak memory is that of the command alone.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.perf_counter() - start
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def measure(*command: str) -> dict[str, float]:
    """Run a command several times; report the median seconds and the largest peak memory."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", MEASURE, *command], check=True, capture_output=True, text=True
        ).stdout.split()
        for _ in range(REPEATS)
    ]
    return {
        "seconds": float(np.median([float(seconds) for seconds, _ in runs])),
        "peak_bytes": max(float(peak) for _, peak in runs),
    }


def write_proteins(path: Path, count: int) -> None:
    """Write random proteins with lengths like those of the labelled sets."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.55, 0.6, count), 30, 1700).astype(int)
    letters = np.array(list(STANDARD_RESIDUES))
    path.write_text("".join(f">p{i}\n{''.join(rng.choice(letters, n))}\n" for i, n in enumerate(lengths)))


def write_checkpoint(folder: Path) -> int:
    """Write a random checkpoint in the split layout, and return its bytes."""
    shapes = leaf_shapes(PRESETS[SIZE])
    specs = {}
    for name, (part,) in plan_tensors(Layout("split"), PRESETS[SIZE]).items():
        specs[name] = TensorSpec(planned_shape([part], shapes[part.row.ours]), np.dtype(np.float32))
    rng = np.random.default_rng(0)
    folder.mkdir()
    write_tensors(folder, specs, lambda name: [rng.standard_normal(specs[name].shape, np.float32)])
    return sum(file.stat().st_size for file in folder.iterdir())


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    python = sys.executable
    base = measure(python, "-c", "import jax, equinox")
    ours = measure(python, "-c", "import eqxesm")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_proteins(folder / "proteins.fasta", 1000)
        predict = measure(
            python, "-m", "eqxesm", "predict", str(folder / "proteins.fasta"),
            "-o", str(folder / "out.csv"),
        )  # fmt: skip
        size = write_checkpoint(folder / "source")
        port = measure(
            python, "-m", "conversion.port", SIZE,
            "--source", str(folder / "source"), "--out", str(folder / "ours"),
        )  # fmt: skip
    result = {
        "import_seconds_beyond_jax_and_equinox": ours["seconds"] - base["seconds"],
        "predict_1000_proteins": predict,
        "port_300m": {**port, "source_bytes": size, "peak_over_source": port["peak_bytes"] / size},
        "machine": f"{platform.machine()}, {cores()} CPU cores",
        "versions": {name: version(name) for name in ("eqxesm", "jax", "equinox", "numpy")},
        "date": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
