"""Pictures of an evaluation, each as PNG and SVG."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import confusion_matrix, roc_curve

from eqxesm.data.labels import Labels
from eqxesm.evaluation.assess import BIN_METRICS

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Safe for the colour-blind (Wong 2011, doi:10.1038/nmeth.1618)."""

SERIES: list[dict[str, Any]] = [
    {"color": colour, "marker": marker, "linestyle": line}
    for colour, marker, line in zip(COLOURS, "os^DPv", ("-", "--", "-.", ":", "--", "-"), strict=True)
]
"""How the first, second, ... of several series is drawn."""

STYLES = dict(zip(("model", "tag_rule", "composition"), SERIES, strict=False))
"""How each predictor is drawn."""

LABEL_WIDTH = 45
"""Characters of a line of a legend. A longer name is wrapped."""

PICTURES = ("confusion", "roc", "reliability", "by_length", "by_identity")
CHANCE: dict[str, Any] = {"color": "0.6", "linewidth": 1, "linestyle": ":"}


def draw_evaluation(
    folder: Path,
    labels: Labels,
    predictions: Mapping[str, Float[np.ndarray, " proteins"]],
    threshold: float,
    assessment: Mapping[str, Any],
) -> None:
    """Draw every picture of an evaluation, from what `assess` returned."""
    save_figure(_draw_confusion(labels, predictions["model"], threshold), folder, "confusion")
    save_figure(_draw_roc(labels, predictions, assessment["all"]), folder, "roc")
    save_figure(_draw_reliability(assessment["reliability"]["model"]), folder, "reliability")
    rows = assessment["by_length"]
    lengths = [f"{row['shortest']} to {row['longest']}" for row in rows]
    save_figure(_draw_bins(rows, lengths, "length (residues)"), folder, "by_length")
    if (rows := assessment["by_identity"]) is not None:
        names = [row["identity"] for row in rows]
        figure = _draw_bins(rows, names, "identity to the nearest training protein")
        save_figure(figure, folder, "by_identity")


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG and SVG."""
    figure.savefig(folder / f"{name}.png", dpi=150)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def new_figure(width: float | int, height: float | int, *grid: int, **options: Any) -> tuple[Figure, Any]:
    """A figure and its axes, without the frame that carries no scale."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(*grid, **options)
    for each in np.ravel(axes):
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _name(predictor: str) -> str:
    return predictor.replace("_", " ")


def _draw_confusion(labels: Labels, probabilities: Float[np.ndarray, " proteins"], threshold: float) -> Figure:
    counts = confusion_matrix(labels, probabilities.astype(np.float64) >= threshold)
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure, axes = new_figure(4.6, 4)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if float(share) > 0.6 else "black"
        text = f"{counts[row, column]:,}\n{share:.1%}"
        axes.text(column, row, text, ha="center", va="center", fontsize=13, color=color)
    classes = ["insoluble", "soluble"]
    axes.set_xticks([0, 1], classes)
    axes.set_yticks([0, 1], classes, rotation=90, va="center")
    axes.set(xlabel=f"predicted (soluble if ≥ {threshold:.3g})", ylabel="measured")
    axes.tick_params(length=0)
    bar = figure.colorbar(image, format=PercentFormatter(1), shrink=0.8)
    bar.set_label("of the measured class")
    return figure


def _draw_roc(
    labels: Labels, predictions: Mapping[str, Float[np.ndarray, " proteins"]], metrics: Mapping[str, Any]
) -> Figure:
    figure, axes = new_figure(4.8, 4.8)
    axes.plot([0, 1], [0, 1], **CHANCE)
    for name, probabilities in predictions.items():
        false_rate, true_rate, _ = roc_curve(labels, probabilities)
        area = metrics[name]["auroc"]
        label = f"{_name(name)}, AUROC {area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
        style = {**STYLES[name], "marker": ""}
        axes.plot(false_rate, true_rate, linewidth=1.8, label=label, **style)
    axes.set(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (sensitivity)")
    axes.legend(loc="lower right", fontsize=9, frameon=False)
    return figure


def _plot_calibration(axes: Axes, rows: Sequence[Mapping[str, Any]], **style: Any) -> None:
    filled = [row for row in rows if row["proteins"]]
    predicted = [row["mean_probability"] for row in filled]
    seen = np.array([row["soluble_share"] for row in filled])
    error = np.sqrt(seen * (1 - seen) / [row["proteins"] for row in filled])
    axes.errorbar(predicted, seen, yerr=error, capsize=3, linewidth=1.5, **style)
    axes.set(ylim=(-0.02, 1.02), ylabel="observed share (± standard error)")


def _draw_reliability(rows: Sequence[Mapping[str, Any]]) -> Figure:
    figure, (axes, below) = new_figure(4.8, 5.6, 2, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], **CHANCE)
    _plot_calibration(axes, rows, **STYLES["model"])
    counts = [row["proteins"] for row in rows]
    color = STYLES["model"]["color"]
    bars = below.bar([row["from"] for row in rows], counts, 1 / len(rows), align="edge", color=color, edgecolor="white")
    below.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=1)
    below.margins(y=0.2)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    below.set(xlim=(-0.02, 1.02), xlabel="predicted probability of being soluble", ylabel="proteins")
    return figure


def draw_calibration(sets: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Observed share of soluble proteins against predicted probability, by test set, as PNG.

    `sets` are bins as `reliability` returns them, by the name of the test set.
    """
    labels = [textwrap.fill(name, LABEL_WIDTH) for name in sets]
    figure, axes = new_figure(5.6, 4.4 + 0.2 * sum(label.count("\n") + 1 for label in labels))
    axes.plot([0, 1], [0, 1], label="perfect calibration", **CHANCE)
    for label, rows, style in zip(labels, sets.values(), cycle(SERIES), strict=False):
        _plot_calibration(axes, rows, label=label, **style)
    axes.set(xlim=(-0.02, 1.02), xlabel="predicted probability of being soluble")
    figure.legend(loc="outside lower center", frameon=False, fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _draw_bins(rows: Sequence[Mapping[str, Any]], names: Sequence[str], axis: str) -> Figure:
    figure, panels = new_figure(8, 4, 1, 2)
    ticks = [f"{name}\nn = {row['proteins']:,}" for name, row in zip(names, rows, strict=True)]
    predictors = [name for name in STYLES if name in rows[0]]
    for axes, metric, title in zip(panels, BIN_METRICS, ("AUROC", "accuracy"), strict=True):
        axes.axhline(0.5, **CHANCE)
        for number, name in enumerate(predictors):
            found = [(place, row[name][metric]) for place, row in enumerate(rows) if row[name]]
            aside = 0.18 * (number - (len(predictors) - 1) / 2)
            values = np.array([x["value"] for _, x in found])
            ends = np.array([[x["low"], x["high"]] for _, x in found]).reshape(-1, 2)
            axes.errorbar(
                [place + aside for place, _ in found],
                values,
                yerr=np.array([values - ends[:, 0], ends[:, 1] - values]).clip(0),
                capsize=3,
                label=_name(name),
                **{**STYLES[name], "linestyle": "none"},
            )
        axes.set_xticks(range(len(rows)), ticks, fontsize=9)
        axes.set(xlim=(-0.5, len(rows) - 0.5), ylabel=f"{title} (95% interval)")
    figure.supxlabel(axis, fontsize=10)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, frameon=False)
    return figure
