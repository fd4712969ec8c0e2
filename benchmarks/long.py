"""Attention beside a state-space encoder of as many parameters, by the length of proteins, in turns.

    python -m benchmarks.long [--device cpu|gpu] [--quick]

Forward passes of batches of 16,384 tokens, whatever the length; each encoder has a process of its own.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.cases import draw_batch
from benchmarks.measure import Row, Worker, parse_options, save, take_turns
from benchmarks.sides import Ours

CARDS = Path(__file__).parents[1] / "model_cards"
PAIR = {"attention, 4x192": CARDS / "encoder", "state-space, 4x360": CARDS / "ssm"}
TOKENS = (256, 1024, 4096, 16_384)


class Stored(Ours):
    """An encoder of any kind in a folder of its own."""

    def __init__(self, folder: Path):
        from eqxesm.encoders import load_encoder

        self.encoder = load_encoder(folder)


def compare_kinds(lengths: Iterable[int]) -> list[Row]:
    """Attention beside a state-space encoder, in turns."""
    rows = []
    for length in lengths:
        workers = {name: Worker(Stored, folder) for name, folder in PAIR.items()}
        batch = draw_batch(TOKENS[-1] // length, length)
        started = {name: each.ask("prepare", "forward", batch) for name, each in workers.items()}
        seconds = take_turns({name: lambda each=each: each.ask("run") for name, each in workers.items()}, 5)
        for name, each in workers.items():
            took = float(np.median(seconds[name]))
            rows.append(
                Row(
                    f"{name}, {length}",
                    took,
                    residue_us=took / TOKENS[-1] * 1e6,
                    compile_s=started[name]["compile_s"],
                    peak_memory_mb=each.close(),
                )
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__)
    save("long", options, compare_kinds(TOKENS[:2] if options.quick else TOKENS))


if __name__ == "__main__":
    main()
