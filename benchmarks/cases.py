"""Encoders, proteins and shapes that several benchmarks measure, and how sides are compared on them."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import PEAK_SIZE, Row, Worker, compare, take_turns
from benchmarks.sides import Ours

ENCODERS: dict[str, dict[str, Any]] = {
    "300M": {"layers": 30, "d_model": 960, "heads": 15, "d_ffn": 2560},
    "6x512": {"layers": 6, "d_model": 512, "heads": 8, "d_ffn": 1536},
    "12x480": {"layers": 12, "d_model": 480, "heads": 8, "d_ffn": 1280},
    "12x240": {"layers": 12, "d_model": 240, "heads": 4, "d_ffn": 768},
}
SHAPES = ((8, 128), (4, 256), (1, 512))
ORDERS = ("file order", "length-sorted", "one by one")

TOLERANCE = {"cpu": 1e-4, "gpu": 3e-2}
"""How far results of two sides may be apart: in float32, and in bfloat16."""


def draw_proteins(count: int) -> list[np.ndarray]:
    """Random proteins whose lengths are distributed as those of the labelled sets."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.49, 0.62, count), 20, 1700).astype(int)
    return [np.concatenate([[0], rng.integers(4, 24, n), [2]]).astype(np.int32) for n in lengths]


def draw_batch(batch: int, length: int) -> np.ndarray:
    """A batch without padding."""
    return np.random.default_rng(0).integers(4, 24, (batch, length)).astype(np.int32)


def encoder_operations(config: dict[str, Any], lengths: Sequence[int]) -> float:
    """Floating-point operations of the products in a forward pass, without padding."""
    d_model, tokens = config["d_model"], float(np.sum(lengths))
    linear = 2 * tokens * (4 * d_model**2 + 3 * d_model * config["d_ffn"])
    attention = 4 * float(np.square(np.asarray(lengths, np.float64)).sum()) * d_model
    return config["layers"] * (linear + attention)


def check_same(case: str, device: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Stop unless both sides computed the same."""
    if not abs(ours["value"] - theirs["value"]) <= TOLERANCE[device] * abs(theirs["value"]):
        raise SystemExit(f"{case}: ours is {ours['value']}, torch's {theirs['value']}")


def compare_sides(
    case: str, ours: Worker, started: Mapping[str, Any], others: Mapping[str, Worker], operations: float, rounds: int
) -> list[Row]:
    """Let all sides run what they have prepared, and their matrix products, in turns; a row per other side.

    `started` is what preparing ours returned. All workers are closed.
    """
    workers = {"ours": ours, **others}
    turns = {
        (name, method): lambda worker=worker, method=method: worker.ask(method)
        for name, worker in workers.items()
        for method in ("run", "peak")
    }
    seconds = take_turns(turns, rounds)
    ours_run, ours_peak = seconds["ours", "run"], seconds["ours", "peak"]
    ours_memory = ours.close()
    rows = []
    for name, worker in others.items():
        row = compare(f"{case}, {name}", ours_run, seconds[name, "run"])
        more = replace(
            row,
            peak_ratio=float(np.median(seconds[name, "peak"] / ours_peak)),
            share_of_peak=float(operations / np.median(ours_run) * np.median(ours_peak) / (2 * PEAK_SIZE**3)),
            padding=started.get("padding", 0.0),
            compile_s=started["compile_s"],
            peak_memory_mb=ours_memory,
            torch_peak_memory_mb=worker.close(),
        )
        rows.append(more)
    return rows


def compare_shapes(
    folder: Path, size: str, work: str, options: Namespace, sides: Mapping[str, Sequence[Any]]
) -> list[Row]:
    """All sides on batches of one length: "forward", or "gradient" for forward and backward.

    `sides` are what makes each: a class, and its arguments beside the folder and the device.
    """
    rows = []
    device, rounds = options.device, 3 if options.quick else 5
    factor = 3 if work == "gradient" else 1
    for batch, length in SHAPES[: 1 if options.quick else None]:
        tokens = draw_batch(batch, length)
        case = f"{work}, {size}, {batch}x{length}"
        ours = Worker(Ours, folder, device)
        others = {name: Worker(side, folder, device, *more) for name, (side, *more) in sides.items()}
        started = ours.ask("prepare", work, tokens)
        for name, worker in others.items():
            check_same(f"{case}, {name}", device, started, worker.ask("prepare", work, tokens))
        operations = factor * encoder_operations(ENCODERS[size], [length] * batch)
        rows += compare_sides(case, ours, started, others, operations, rounds)
    return rows
