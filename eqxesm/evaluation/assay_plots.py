"""Pictures of what a model predicts beside what was measured."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from eqxesm.drawing import CHANCE, COLOURS, new_figure, save_figure
from eqxesm.evaluation.assay import confusion
from eqxesm.targets import COVERED, Target


def draw_assay(folder: Path, name: str, target: Target, truth: Any, predicted: Any) -> None:
    """Draw numbers as points, classes as a table, as PNG and SVG."""
    figure = _draw_numbers(target, truth, predicted) if target.is_number else _draw_classes(target, truth, predicted)
    save_figure(figure, folder, name)


def _draw_numbers(target: Target, truth: Any, predicted: Any) -> Figure:
    figure, axes = new_figure(4.8, 5.2)
    both = np.concatenate([truth, predicted])
    ends = (0.0, 1.0) if target.kind == "fraction" else (float(both.min()), float(both.max()))
    pad = 0.03 * (ends[1] - ends[0] or 1)
    axes.plot(ends, ends, label="predicted as measured", **CHANCE)
    if target.margin is not None:
        within = f"within {target.margin:.3g}: {COVERED:.0%} of the validation proteins"
        for side, label in ((-target.margin, within), (target.margin, None)):
            axes.plot(ends, [e + side for e in ends], color=COLOURS[1], linewidth=0.8, linestyle="--", label=label)
    # So that thousands of points still show where most of them are.
    opacity, size = float(np.clip(600 / len(truth), 0.04, 0.7)), float(np.clip(100 / np.sqrt(len(truth)), 2, 4.5))
    axes.plot(truth, predicted, "o", color=COLOURS[0], markersize=size, alpha=opacity, markeredgewidth=0)
    axes.set(xlim=(ends[0] - pad, ends[1] + pad), ylim=(ends[0] - pad, ends[1] + pad), aspect="equal")
    axes.set(xlabel=f"measured {target.title}", ylabel=f"predicted {target.title}", title=f"n = {len(truth):,}")
    figure.legend(loc="outside lower center", frameon=False, fontsize="small")
    return figure


def _draw_classes(target: Target, truth: Any, predicted: Any) -> Figure:
    if target.kind == "binary":
        predicted = np.stack([1 - predicted, predicted], axis=1)
    counts = confusion(target, truth, predicted).sum(axis=0)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
    number = len(target.classes)
    side = max(4.0, 0.55 * number + 2)
    figure, axes = new_figure(side + 1, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if number <= 15:
        for (row, column), share in np.ndenumerate(shares):
            if counts[row].sum():
                colour = "white" if float(share) > 0.6 else "black"
                text = f"{counts[row, column]:,.0f}\n{share:.0%}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    upright = max(map(len, target.classes)) > 3
    axes.set_xticks(range(number), target.classes, rotation=90 if upright else 0, fontsize=8)
    axes.set_yticks(range(number), target.classes, fontsize=8)
    axes.set(xlabel=f"predicted {target.name}", ylabel=f"measured {target.name}", title=f"n = {int(counts.sum()):,}")
    axes.tick_params(length=0)
    figure.colorbar(image, format=PercentFormatter(1), shrink=0.8).set_label("of the measured class")
    return figure
