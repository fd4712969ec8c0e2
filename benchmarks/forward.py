"""The forward pass against the torch original: equal shapes, real lengths, and growth with the length.

    python -m benchmarks.forward [--device cpu|gpu] [--quick]

All sides have the same random weights, in float32 on a CPU and bfloat16 on a GPU, and their results are compared first.
Torch is transformers with `attn_implementation="sdpa"`, plain and under `torch.compile`, and PyPI's `esm` where
`make test-esm` has made its environment. Growth is measured on our side alone.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import (
    ENCODERS,
    ORDERS,
    check_same,
    compare_shapes,
    compare_sides,
    draw_batch,
    draw_proteins,
    encoder_operations,
)
from benchmarks.measure import Row, Worker, parse_options, save
from benchmarks.sides import Esm, Ours, Torch, find_esm, write_models

PROTEINS = {"12x480": 160, "300M": 24}
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 34352)
"""Tokens of one protein; the last is titin's."""


def compare_lengths(
    folder: Path, size: str, count: int, device: str, rounds: int, sides: dict[str, list[Any]]
) -> list[Row]:
    """All sides on proteins of many lengths, torch in each of its three ways."""
    proteins = draw_proteins(count)
    case = f"forward, {size}, {count} proteins"
    ours = Worker(Ours, folder, device)
    started = ours.ask("prepare_proteins", proteins)
    others = {}
    for name, (side, *more) in sides.items():
        for order in ORDERS:
            worker = others[f"{name}, {order}"] = Worker(side, folder, device, *more)
            check_same(f"{case}, {name}, {order}", device, started, worker.ask("prepare_proteins", proteins, order))
    operations = encoder_operations(ENCODERS[size], [len(each) for each in proteins])
    return compare_sides(case, ours, started, others, operations, rounds)


def measure_growth(folder: Path, size: str, device: str, lengths: tuple[int, ...]) -> list[Row]:
    """Our seconds and peak memory for one protein, by its length."""
    rows = []
    for length in lengths:
        ours = Worker(Ours, folder, device)
        started = ours.ask("prepare", "forward", draw_batch(1, length))
        seconds = float(np.median([ours.ask("run") for _ in range(1 if length > 8192 else 3)]))
        rows.append(
            Row(f"growth, {size}, {length}", seconds, compile_s=started["compile_s"], peak_memory_mb=ours.close())
        )
    return rows


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__)
    device, quick = options.device, options.quick
    size = "12x240" if quick else "300M"
    proteins = {size: 3} if quick else PROTEINS
    plain, compiled = {"sdpa": [Torch]}, {"torch.compile": [Torch, True]}
    esm = {"esm": [Esm]} if find_esm() else {}
    with tempfile.TemporaryDirectory() as name:
        folders = {each: Path(name) / each for each in {size, "12x240", *proteins}}
        for each, folder in folders.items():
            write_models(folder, ENCODERS[each])
        rows = compare_shapes(folders[size], size, "forward", options, plain | compiled | esm)
        for each, count in proteins.items():
            # At full size, only the plain ones: the others would take hours.
            rest = {} if each == "300M" else compiled | esm
            rows += compare_lengths(folders[each], each, count, device, 3, plain | rest)
        rows += measure_growth(folders["12x240"], "12x240", device, LENGTHS[:2] if quick else LENGTHS)
    save("forward", options, rows)


if __name__ == "__main__":
    main()
