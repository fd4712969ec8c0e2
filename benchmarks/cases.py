"""Encoders, proteins and shapes that several benchmarks measure, and how two sides are compared on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Row, Worker, compare, peak_operations, take_turns
from benchmarks.sides import Ours, Torch

ENCODERS: dict[str, dict[str, Any]] = {
    "300M": {"layers": 30, "d_model": 960, "heads": 15, "d_ffn": 2560},
    "6x512": {"layers": 6, "d_model": 512, "heads": 8, "d_ffn": 1408},
    "12x480": {"layers": 12, "d_model": 480, "heads": 8, "d_ffn": 1280},
    "12x240": {"layers": 12, "d_model": 240, "heads": 4, "d_ffn": 640},
}
SHAPES = ((8, 128), (4, 256), (1, 512))
ORDERS = ("file order", "length-sorted", "one by one")

TOLERANCE = 1e-4


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


def check_same(case: str, ours: dict[str, float], theirs: dict[str, float]) -> None:
    """Stop unless both sides computed the same."""
    if not abs(ours["value"] - theirs["value"]) <= TOLERANCE * abs(theirs["value"]):
        raise SystemExit(f"{case}: ours is {ours['value']}, torch's {theirs['value']}")


def compare_turns(case: str, ours: Worker, theirs: Worker, operations: float, rounds: int, **more: Any) -> Row:
    """Let both sides run what they have prepared, and their matrix products, in turns."""
    turns = {
        f"{name} {method}": lambda worker=worker, method=method: worker.ask(method)
        for name, worker in (("ours", ours), ("torch", theirs))
        for method in ("run", "peak")
    }
    seconds = take_turns(turns, rounds)
    peak = peak_operations() / np.median(seconds["ours peak"])
    return compare(
        case,
        seconds["ours run"],
        seconds["torch run"],
        peak_ratio=float(np.median(seconds["torch peak"] / seconds["ours peak"])),
        share_of_peak=float(operations / np.median(seconds["ours run"]) / peak),
        **more,
    )


def compare_shapes(folder: Path, size: str, work: str, device: str, rounds: int) -> list[Row]:
    """Both sides on batches of one length: "forward", or "gradient" for forward and backward."""
    rows = []
    factor = 3 if work == "gradient" else 1
    for batch, length in SHAPES:
        tokens = draw_batch(batch, length)
        case = f"{work}, {size}, {batch}x{length}"
        ours, theirs = Worker(Ours, folder), Worker(Torch, folder, device)
        started = ours.ask("prepare", work, tokens)
        check_same(case, started, theirs.ask("prepare", work, tokens))
        operations = factor * encoder_operations(ENCODERS[size], [length] * batch)
        row = compare_turns(case, ours, theirs, operations, rounds, compile_s=started["compile_s"])
        theirs.close()
        rows.append(replace(row, peak_memory_mb=ours.close()))
    return rows
