"""One protein through encoders of the sizes of the 300M and the 6B with random weights: time and memory.

    python -m benchmarks.large [--device cpu|gpu] [--quick]

By `eqxesm embed`: up to the length of titin, and in bfloat16 from a mapped file of 12.7 GB.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Row, parse_options, run_alone, save, with_cache

LARGE = {
    "300M, float32": ("esmc_300m", "float32", (512, 2048, 8192, 34_350)),
    "6B, bfloat16": ("esmc_6b", "bfloat16", (128, 512)),
}
"""Size, precision, and residues of one protein; the last of the 300M's are titin's."""


def write_encoder(folder: Path, size: str, dtype: str) -> None:
    """Write an encoder of a size with random weights, layer by layer: a large one does not fit into memory."""
    from eqxesm.checkpoint.folder import write_checkpoint
    from eqxesm.checkpoint.tensors import TensorSpec
    from eqxesm.config import describe
    from eqxesm.encoders import PRESETS
    from eqxesm.encoders.language_model import EncoderSections
    from eqxesm.encoders.published.layouts import leaf_shapes

    rng = np.random.default_rng(0)
    specs = {name: TensorSpec(shape, jnp.dtype(dtype)) for name, shape in leaf_shapes(PRESETS[size]).items()}

    def parts(name: str) -> Iterator[np.ndarray]:
        shape = specs[name].shape
        scale = shape[-1] ** -0.5
        for _ in range(shape[0]):
            # Gains and biases too: what they are changes no time.
            yield (scale * rng.standard_normal((1, *shape[1:]), np.float32)).astype(specs[name].dtype)

    write_checkpoint(folder, specs, parts, describe(EncoderSections(PRESETS[size], None)))


def embed(folder: Path, residues: int) -> tuple[float, float]:
    """Seconds and memory of `eqxesm embed` of one random protein."""
    letters = np.random.default_rng(0).choice(list("ACDEFGHIKLMNPQRSTVWY"), residues)
    fasta = folder / "protein.fasta"
    fasta.write_text(f">protein\n{''.join(letters)}\n")
    words = ["embed", fasta, "--model", folder / "model", "-o", folder / "out.h5"]
    return run_alone(with_cache(folder / "cache", *words))


def measure_large(case: str, size: str, dtype: str, lengths: Iterable[int]) -> Iterator[Row]:
    """One protein through a large encoder, from an empty cache of compiled programs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoder(folder / "model", size, dtype)
        for residues in lengths:
            seconds, megabytes = embed(folder, residues)
            yield Row(f"embed, {case}, {residues:,}", seconds, peak_memory_mb=megabytes)


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__)
    rows = []
    for case, (size, dtype, lengths) in LARGE.items():
        if not (options.quick and size == "esmc_6b"):
            for row in measure_large(case, size, dtype, lengths[:1] if options.quick else lengths):
                print(row, flush=True)
                rows.append(row)
    save("large", options, rows)


if __name__ == "__main__":
    main()
