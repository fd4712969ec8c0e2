"""`eqxesm predict --ray` on a cluster of one node beside the plain command, in turns: what Ray costs.

    python -m benchmarks.cluster PROTEINS [--device cpu|gpu] [--quick]

One worker has all cores, as the plain command has. What is left between the two is Ray: it pays with more nodes, as
soon as their share of the work saves more than that. Needs the extra `ray`.
"""

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.measure import Row, parse_options, run_alone, save, take_turns, with_cache
from benchmarks.scale import read_short, write_proteins

COUNTS = (1, 1000, 5000)
ROUNDS = 3


@contextmanager
def one_node(cores: int) -> Generator[str]:
    """A cluster of this machine alone; its address."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cores, "include_dashboard": False})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def measure(count: int, folder: Path, address: str) -> Iterator[Row]:
    """Two rows for a number of proteins."""
    words = ["predict", folder / f"{count}.fasta", "-o", folder / "out.parquet"]
    sides = {"plain": words, "Ray": [*words, "--ray", address]}
    commands = {name: with_cache(folder / "cache", *each) for name, each in sides.items()}
    for command in commands.values():
        run_alone(command)
    turns = {name: lambda command=command: run_alone(command)[0] for name, command in commands.items()}
    for name, seconds in take_turns(turns, ROUNDS).items():
        yield Row(f"predict, {name}, {count:,}", float(np.median(seconds)))


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__, "proteins")
    sequences, rows = read_short(options.proteins), []
    with tempfile.TemporaryDirectory() as temporary, one_node(len(os.sched_getaffinity(0))) as address:
        folder = Path(temporary)
        for count in COUNTS[:2] if options.quick else COUNTS:
            write_proteins(folder / f"{count}.fasta", sequences, count)
            for row in measure(count, folder, address):
                print(row, flush=True)
                rows.append(row)
    save("cluster", options, rows)


if __name__ == "__main__":
    main()
