"""`eqxesm predict` on a thousand to a million proteins: time and memory.

    python -m benchmarks.scale PROTEINS [--device cpu|gpu] [--quick]

The proteins of the file, of up to 2,046 residues, are repeated under new ids. Every run is a process of its own that
finds its programs compiled, but for those that only the largest number needs. A rate is that beyond a run of one
protein: what starting takes is left out.
"""

import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.measure import Row, parse_options, run_alone, save, with_cache

COUNTS = (1000, 10_000, 100_000, 1_000_000)
FEW = 1000
"""Up to so many, a run is measured three times."""

COMPOSITION = "composition"
"""A model of 113 parameters: nearly all of its time is reading, batching and writing."""

MODELS = {COMPOSITION: COUNTS, "default": COUNTS[:3]}
"""Numbers of proteins for each."""


def write_model(folder: Path) -> None:
    """A head on composition with random weights."""
    import jax

    from eqxesm import SolubilityModel
    from eqxesm.encoders import OneHot
    from heads import CompositionMLP, CompositionMLPConfig

    encoder = OneHot()
    head = CompositionMLP(CompositionMLPConfig(encoder.d_model, (4,)), key=jax.random.key(0))
    SolubilityModel(encoder, head).save_pretrained(folder)


def read_short(path: Path) -> list[str]:
    """The sequences of a file that are no longer than what ESM-C was trained on."""
    from eqxesm.alphabet import CONTEXT_RESIDUES
    from eqxesm.data.proteins import read_proteins

    return [each.sequence for each in read_proteins(path) if len(each.sequence) <= CONTEXT_RESIDUES]


def write_proteins(path: Path, sequences: list[str], count: int) -> None:
    """Repeat proteins under new ids."""
    with open(path, "w") as file:
        file.writelines(f">p{number}\n{each}\n" for number, each in enumerate(islice(cycle(sequences), count)))


def measure(name: str, counts: tuple[int, ...], folder: Path) -> Iterator[Row]:
    """A row for each number of proteins."""
    case, model = f"predict, {name}", folder / COMPOSITION if name == COMPOSITION else name

    def run(count: int) -> tuple[float, float]:
        words = ["predict", folder / f"{count}.fasta", "--model", model, "-o", folder / "out.parquet"]
        return run_alone(with_cache(folder / "cache", *words))

    run(1)
    starts, megabytes = zip(*(run(1) for _ in range(5)), strict=True)
    start = float(np.median(starts))
    yield Row(f"{case}, 1", start, peak_memory_mb=max(megabytes))
    for count in counts:
        if count < counts[-1]:
            run(count)
        seconds, megabytes = zip(*(run(count) for _ in range(3 if count <= FEW else 1)), strict=True)
        took = float(np.median(seconds))
        yield Row(f"{case}, {count:,}", took, rate=count / (took - start), peak_memory_mb=max(megabytes))


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__, "proteins")
    sequences, rows = read_short(options.proteins), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder / COMPOSITION)
        for name, counts in MODELS.items():
            counts = counts[:2] if options.quick else counts
            for count in (1, *counts):
                write_proteins(folder / f"{count}.fasta", sequences, count)
            for row in measure(name, counts, folder):
                print(row, flush=True)
                rows.append(row)
    save("scale", options, rows)


if __name__ == "__main__":
    main()
