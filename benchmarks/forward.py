"""The forward pass against the torch original: equal shapes, real lengths, and growth with the length.

    python -m benchmarks.forward [--device cpu|gpu] [--quick]

Both sides have the same random weights in float32, and their results are compared first. Torch runs
`attn_implementation="sdpa"`. Growth is measured on our side alone.
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.cases import (
    ENCODERS,
    ORDERS,
    check_same,
    compare_shapes,
    compare_turns,
    draw_batch,
    draw_proteins,
    encoder_operations,
)
from benchmarks.measure import Row, Worker, parse_options, save
from benchmarks.sides import Ours, Torch, write_models

PROTEINS = {"12x480": 160, "300M": 24}
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 34352)
"""Tokens of one protein; the last is titin's."""


def compare_lengths(folder: Path, size: str, count: int, device: str, rounds: int) -> list[Row]:
    """Both sides on proteins of many lengths, torch in each of its three ways."""
    proteins = draw_proteins(count)
    operations = encoder_operations(ENCODERS[size], [len(each) for each in proteins])
    ours = Worker(Ours, folder)
    started = ours.ask("prepare_proteins", proteins)
    known = {name: started[name] for name in ("compile_s", "padding")}
    rows = []
    for order in ORDERS:
        theirs = Worker(Torch, folder, device)
        case = f"forward, {size}, {count} proteins, {order}"
        check_same(case, started, theirs.ask("prepare_proteins", proteins, order))
        rows.append(compare_turns(case, ours, theirs, operations, rounds, **known))
        theirs.close()
    ours.close()
    return rows


def measure_growth(folder: Path, size: str, lengths: tuple[int, ...]) -> list[Row]:
    """Our seconds and peak memory for one protein, by its length."""
    rows = []
    for length in lengths:
        ours = Worker(Ours, folder)
        started = ours.ask("prepare", "forward", draw_batch(1, length))
        seconds = float(np.median([ours.ask("run") for _ in range(1 if length > 8192 else 3)]))
        rows.append(
            Row(f"growth, {size}, {length}", seconds, compile_s=started["compile_s"], peak_memory_mb=ours.close())
        )
    return rows


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__)
    size = "12x240" if options.quick else "300M"
    proteins = {size: 16} if options.quick else PROTEINS
    with tempfile.TemporaryDirectory() as name:
        folders = {each: Path(name) / each for each in {size, "12x240", *proteins}}
        for each, folder in folders.items():
            write_models(folder, ENCODERS[each])
        rows = compare_shapes(folders[size], size, "forward", options.device, 3 if options.quick else 9)
        for each, count in proteins.items():
            rows += compare_lengths(folders[each], each, count, options.device, 3)
        rows += measure_growth(folders["12x240"], "12x240", LENGTHS[:5] if options.quick else LENGTHS)
    save("forward", options, rows)


if __name__ == "__main__":
    main()
