"""Seconds, peak memory and bytes of port, load and export of ESM-C.

    python benchmarks/port.py --out benchmarks/results/port.json

The checkpoint has the size and layout of transformers' `EsmcForMaskedLM` at 300M, and random
weights; it takes 5.4 GB of temporary disk.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from everyday import SIZE, cores, measure, write_checkpoint

# Loads in a process that has already started JAX, as a user's has; anonymous memory is what is not
# the file's own pages.
LOAD = """
import sys, time
import jax, jax.numpy as jnp
from eqxesm import ESMC
jnp.zeros(1).block_until_ready()

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

before, start = anonymous(), time.perf_counter()
encoder = jax.block_until_ready(ESMC.from_pretrained(sys.argv[1]))
print(time.perf_counter() - start, anonymous() - before)
"""


def load(folder: Path) -> dict[str, float]:
    """Load our checkpoint three times, each in a process of its own."""
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", LOAD, str(folder)], check=True, capture_output=True, text=True)
        runs.append([float(number) for number in done.stdout.split()])
    return {
        "seconds": sorted(seconds for seconds, _ in runs)[1],
        "anonymous_bytes": max(anonymous for _, anonymous in runs),
    }


def size_of(folder: Path) -> int:
    """Add up the bytes below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    python = sys.executable
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_checkpoint(folder / "source")
        ours = str(folder / "ours")
        port = measure(
            python, "-m", "conversion.port", SIZE, "--source", str(folder / "source"),
            "--out", ours,
        )  # fmt: skip
        loaded = load(folder / "ours")
        exported = {}
        for layout in ("split", "fused", "legacy"):
            out = folder / layout
            command = f"rm -rf {out}; {python} -m conversion.export {ours} --layout {layout} --out {out}"
            exported[layout] = {**measure("bash", "-c", command), "bytes": size_of(out)}
    result = {
        "port": {**port, "source_bytes": source, "peak_over_source": port["peak_bytes"] / source},
        "load": loaded,
        "export": exported,
        "machine": f"{platform.machine()}, {cores()} CPU cores",
        "versions": {name: version(name) for name in ("eqxesm", "jax", "numpy", "torch")},
        "date": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
