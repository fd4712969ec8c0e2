"""Pictures of an evaluation, each as PNG and SVG."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import confusion_matrix, roc_curve

from eqxesm.data.labels import Labels
from eqxesm.drawing import CHANCE, LABEL_WIDTH, MANY, metric_limits, new_figure, save_figure, style_series, to_bytes
from eqxesm.evaluation.assess import BIN_METRICS
from eqxesm.evaluation.metrics import share_interval

STYLES = {name: style_series(number) for number, name in enumerate(("model", "tag_rule", "composition"))}
"""How each predictor is drawn."""

PICTURES = ("confusion", "roc", "reliability", "by_length", "by_identity")

FEW = 5
"""With fewer proteins of a class, a metric is shown without its interval: resamples of so few are too much alike."""

HOLLOW: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white"}
"""How a point without an interval is drawn."""


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
    lengths = [
        f"{row['shortest']:,}" + (f" to {row['longest']:,}" if row["longest"] > row["shortest"] else "") for row in rows
    ]
    save_figure(_draw_bins(rows, lengths, "length (residues)"), folder, "by_length")
    if (rows := assessment["by_identity"]) is not None:
        names = [row["identity"] for row in rows]
        figure = _draw_bins(rows, names, "identity to the nearest training protein")
        save_figure(figure, folder, "by_identity")


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
    figure, axes = new_figure(4.8, 5.6)
    axes.plot([0, 1], [0, 1], **CHANCE)
    counts = np.bincount(labels, minlength=2)
    for name, probabilities in predictions.items():
        false_rate, true_rate, _ = roc_curve(labels, probabilities)
        area = metrics[name]["auroc"]
        sure = "" if counts.min() < FEW else f" ({area['low']:.3f} to {area['high']:.3f})"
        style = {**STYLES[name], "markersize": 4} if len(labels) <= MANY else {**STYLES[name], "marker": ""}
        label = f"{_name(name)}, AUROC {area['value']:.3f}{sure}"
        axes.plot(false_rate, true_rate, linewidth=1.8, label=label, clip_on=False, **style)
    axes.set(aspect="equal", xlim=metric_limits("auroc"), ylim=metric_limits("auroc"))
    axes.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (sensitivity)")
    axes.set_title(f"{counts[1]:,} soluble, {counts[0]:,} insoluble proteins", fontsize="medium")
    figure.legend(loc="outside lower center", fontsize=9, frameon=False)
    return figure


def plot_shares(
    axes: Axes, places: Sequence[float | int], rows: Sequence[Mapping[str, Any]], across: bool = False, **style: Any
) -> None:
    """Shares of soluble proteins with 95% intervals, joined by a line. That of one protein is a hollow point beside it.

    `across` has the shares to the right.
    """
    shares = np.array([row["soluble_share"] for row in rows], np.float64)
    where = np.array(places, np.float64)
    several, label = np.array([row["proteins"] > 1 for row in rows], bool), style.pop("label", None)
    ends = [share_interval(row["soluble_share"], row["proteins"]) for row in rows if row["proteins"] > 1]
    sides = np.abs(np.array(ends).reshape(-1, 2) - shares[several, None]).T
    points, lone = (where[several], shares[several]), (where[~several], shares[~several])
    bars = {"xerr" if across else "yerr": sides}
    axes.errorbar(*(points[::-1] if across else points), capsize=3, linewidth=1.5, label=label, **bars, **style)
    axes.plot(*(lone[::-1] if across else lone), **{**style, **HOLLOW})


def _plot_calibration(axes: Axes, rows: Sequence[Mapping[str, Any]], **style: Any) -> None:
    filled = [row for row in rows if row["proteins"]]
    plot_shares(axes, [row["mean_probability"] for row in filled], filled, **style)
    axes.set(ylim=(-0.02, 1.02), ylabel="observed share of soluble proteins (95% interval)")


def _explain_hollow(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    if any(row["proteins"] == 1 for row in rows):
        axes.plot([], [], "o", color="0.4", label="a single protein", **HOLLOW)


def _draw_reliability(rows: Sequence[Mapping[str, Any]]) -> Figure:
    figure, (axes, below) = new_figure(4.8, 6, 2, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], label="perfect calibration", **CHANCE)
    _plot_calibration(axes, rows, label="model", **STYLES["model"])
    _explain_hollow(axes, rows)
    counts = [row["proteins"] for row in rows]
    color = STYLES["model"]["color"]
    bars = below.bar([row["from"] for row in rows], counts, 1 / len(rows), align="edge", color=color, edgecolor="white")
    below.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=1)
    below.margins(y=0.2)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    below.set(xlim=(-0.02, 1.02), xlabel="predicted probability of being soluble", ylabel="proteins")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def draw_calibration(sets: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Observed share of soluble proteins against predicted probability, by test set, as PNG.

    `sets` are bins as `reliability` returns them, by the name of the test set.
    """
    labels = [textwrap.fill(name, LABEL_WIDTH) for name in sets]
    figure, axes = new_figure(5.6, 4.6 + 0.2 * sum(label.count("\n") + 1 for label in labels))
    axes.plot([0, 1], [0, 1], label="perfect calibration", **CHANCE)
    for number, (label, rows) in enumerate(zip(labels, sets.values(), strict=True)):
        _plot_calibration(axes, rows, label=label, **style_series(number))
    _explain_hollow(axes, [row for rows in sets.values() for row in rows])
    axes.set(xlim=(-0.02, 1.02), xlabel="predicted probability of being soluble")
    figure.legend(loc="outside lower center", frameon=False, fontsize="small")
    return to_bytes(figure, "png", 120, metadata={"Software": None})


def _draw_bins(rows: Sequence[Mapping[str, Any]], names: Sequence[str], axis: str) -> Figure:
    figure, panels = new_figure(9, 4.2, 1, 2)
    ticks = [f"{name}\nn = {row['proteins']:,}" for name, row in zip(names, rows, strict=True)]
    predictors = [name for name in STYLES if name in rows[0]]
    for axes, metric, title in zip(panels, BIN_METRICS, ("AUROC", "accuracy"), strict=True):
        axes.axhline(0.5, **CHANCE)
        for number, name in enumerate(predictors):
            aside = 0.18 * (number - (len(predictors) - 1) / 2)
            _plot_bins(axes, metric, name, rows, aside)
        if not any(row[name] for row in rows for name in predictors):
            axes.text(0.5, 0.75, "no bin has both classes", transform=axes.transAxes, ha="center", color="0.3")
        axes.set_xticks(range(len(rows)), ticks, fontsize=9)
        axes.set(xlim=(-0.5, len(rows) - 0.5), ylim=metric_limits(metric), ylabel=f"{title} (95% interval)")
    if any(row[name] and _smaller_class(row) < FEW for row in rows for name in predictors):
        panels[0].plot([], [], "o", color="0.4", label=f"fewer than {FEW} of a class, no interval", **HOLLOW)
    figure.supxlabel(axis, fontsize=10)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _plot_bins(axes: Axes, metric: str, name: str, rows: Sequence[Mapping[str, Any]], aside: float) -> None:
    """A predictor's metric in each bin, its interval only where there are enough proteins for one."""
    style: dict[str, Any] = {**STYLES[name], "linestyle": "none"}
    found = [(place + aside, row[name][metric], _smaller_class(row)) for place, row in enumerate(rows) if row[name]]
    several = [(place, metric) for place, metric, smaller in found if smaller >= FEW]
    few = [(place, metric["value"]) for place, metric, smaller in found if smaller < FEW]
    values = np.array([x["value"] for _, x in several])
    ends = np.array([[x["low"], x["high"]] for _, x in several]).reshape(-1, 2)
    sides = np.array([values - ends[:, 0], ends[:, 1] - values]).clip(0)
    axes.errorbar([place for place, _ in several], values, yerr=sides, capsize=3, label=_name(name), **style)
    axes.plot(*np.array(few).reshape(-1, 2).T, **{**style, **HOLLOW})


def _smaller_class(row: Mapping[str, Any]) -> int:
    soluble = round(row["soluble_share"] * row["proteins"])
    return min(soluble, row["proteins"] - soluble)
