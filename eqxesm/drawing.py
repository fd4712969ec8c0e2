"""What pictures share: colours, the look of a series, and axes by which two pictures can be compared."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Safe for the colour-blind (Wong 2011, doi:10.1038/nmeth.1618)."""

DIVERGING = "PuOr"
"""Colour map of values around zero, safe for the colour-blind as well."""

MARKERS = "os^DPv"
LINES = ("-", "--", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1, 1, 1)))

CHANCE: dict[str, Any] = {"color": "0.6", "linewidth": 1, "linestyle": ":"}
"""How the line of a guess is drawn."""

LABEL_WIDTH = 45
"""Characters of a line of a legend. A longer name is wrapped."""

MANY = 20
"""A line of more points has no markers, which would hide it."""

RANGES = {"auroc": (0.0, 1.0), "accuracy": (0.0, 1.0), "mcc": (-1.0, 1.0), "spearman": (-1.0, 1.0)}
"""From where to where a metric can reach: the axis of every picture of it."""


def style_series(number: int) -> dict[str, Any]:
    """How the series of a number is drawn: by colour, marker and line. The first 36 all differ."""
    turn = number + number // len(COLOURS)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[turn % len(MARKERS)],
        "linestyle": LINES[turn % len(LINES)],
    }


def metric_limits(metric: str) -> tuple[float, float]:
    """The axis of a metric, with room for a marker at either end."""
    low, high = RANGES[metric.lower()]
    pad = 0.02 * (high - low)
    return low - pad, high + pad


def loss_limits(losses: Iterable[float]) -> tuple[float, float]:
    """The axis of losses: from 0 to 1, or else to the next of 2, 3, 5, 10, 20, 30 and so on."""
    top = max((loss for loss in losses if np.isfinite(loss)), default=1.0)
    power = 1.0
    while True:
        for step in (power, 2 * power, 3 * power, 5 * power):
            if top <= step:
                return 0.0, step
        power *= 10


def new_figure(width: float | int, height: float | int, *grid: int, **options: Any) -> tuple[Figure, Any]:
    """A figure and its axes, without the frame that carries no scale."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(*grid, **options)
    for each in np.ravel(axes):
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG and SVG."""
    figure.savefig(folder / f"{name}.png", dpi=150)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def to_bytes(figure: Figure, kind: str, dpi: int, **options: Any) -> bytes:
    """A figure as the content of a file of a kind."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=dpi, **options)
    return stream.getvalue()
