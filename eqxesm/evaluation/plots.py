"""Pictures of an evaluation, each as PNG and SVG."""

import io
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

from eqxesm.evaluation.assessment import IN_BINS
from eqxesm.evaluation.metrics import Labels

STYLES: dict[str, dict[str, Any]] = {
    "model": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "tag_rule": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "composition": {"color": "#009E73", "marker": "^", "linestyle": "-."},
}
"""Of each predictor, from the palette of Okabe and Ito, which the colour-blind can tell apart."""

PICTURES = ("confusion", "roc", "reliability", "by_length", "by_identity")
CHANCE: dict[str, Any] = {"color": "0.6", "linewidth": 1, "linestyle": ":"}


def draw(
    folder: Path,
    labels: Labels,
    predictions: Mapping[str, Float[np.ndarray, " proteins"]],
    threshold: float,
    assessment: Mapping[str, Any],
) -> None:
    """Draw every picture of an evaluation.

    Args:
        folder: where to put them.
        labels: 1 = soluble, 0 = insoluble, one a protein.
        predictions: probabilities of being soluble, one a protein, of `model` and of baselines.
        threshold: from which probability on the model calls a protein soluble.
        assessment: what `assess` gave for these.
    """
    save(_confusion(labels, predictions["model"], threshold), folder, "confusion")
    save(_roc(labels, predictions, assessment["all"]), folder, "roc")
    save(_reliability(assessment["reliability"]["model"]), folder, "reliability")
    lengths = [f"{row['shortest']} to {row['longest']}" for row in assessment["by_length"]]
    save(_bins(assessment["by_length"], lengths, "length (residues)"), folder, "by_length")
    if (rows := assessment["by_identity"]) is not None:
        names = [row["identity"] for row in rows]
        save(_bins(rows, names, "identity to the nearest training protein"), folder, "by_identity")


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a picture as PNG and SVG.

    Args:
        figure: the picture.
        folder: where to.
        name: of the two files, without their endings.
    """
    figure.savefig(folder / f"{name}.png", dpi=150)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def tidy(axes: Axes) -> None:
    """Take the frame off that carries no scale.

    Args:
        axes: of a picture.
    """
    axes.spines[["top", "right"]].set_visible(False)


def _name(predictor: str) -> str:
    return predictor.replace("_", " ")


def _confusion(
    labels: Labels, probabilities: Float[np.ndarray, " proteins"], threshold: float
) -> Figure:
    counts = confusion_matrix(labels, probabilities.astype(np.float64) >= threshold)
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column, row, f"{counts[row, column]:,}\n{share:.1%}", ha="center", va="center",
            fontsize=13, color="white" if float(share) > 0.6 else "black",
        )  # fmt: skip
    classes = ["insoluble", "soluble"]
    axes.set_xticks([0, 1], classes)
    axes.set_yticks([0, 1], classes, rotation=90, va="center")
    axes.set_xlabel(f"predicted (soluble from {threshold:.3g} on)")
    axes.set_ylabel("measured")
    axes.tick_params(length=0)
    bar = figure.colorbar(image, format=PercentFormatter(1), shrink=0.8)
    bar.set_label("of the measured class")
    return figure


def _roc(
    labels: Labels,
    predictions: Mapping[str, Float[np.ndarray, " proteins"]],
    metrics: Mapping[str, Any],
) -> Figure:
    figure = Figure(figsize=(4.8, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], **CHANCE)
    for name, probabilities in predictions.items():
        false_rate, true_rate, _ = roc_curve(labels, probabilities)
        area = metrics[name]["auroc"]
        interval = f"{area['low']:.3f} to {area['high']:.3f}"
        axes.plot(
            false_rate, true_rate, color=STYLES[name]["color"], linewidth=1.8,
            linestyle=STYLES[name]["linestyle"],
            label=f"{_name(name)}, AUROC {area['value']:.3f} ({interval})",
        )  # fmt: skip
    axes.set_aspect("equal")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel("false positive rate (1 - specificity)")
    axes.set_ylabel("true positive rate (sensitivity)")
    axes.legend(loc="lower right", fontsize=9, frameon=False)
    tidy(axes)
    return figure


def _reliability(rows: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(4.8, 5.6), layout="constrained")
    axes, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    filled = [row for row in rows if row["proteins"]]
    promised = [row["mean_probability"] for row in filled]
    seen = np.array([row["soluble_share"] for row in filled])
    error = np.sqrt(seen * (1 - seen) / [row["proteins"] for row in filled])
    axes.plot([0, 1], [0, 1], **CHANCE)
    axes.errorbar(promised, seen, yerr=error, capsize=3, linewidth=1.5, **STYLES["model"])
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("soluble (± standard error)")
    tidy(axes)
    width = 1 / len(rows)
    bars = below.bar(
        [row["from"] for row in rows], [row["proteins"] for row in rows], width,
        align="edge", color=STYLES["model"]["color"], edgecolor="white",
    )  # fmt: skip
    below.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=1)
    below.set_xlim(-0.02, 1.02)
    below.margins(y=0.2)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    below.set_xlabel("predicted probability of being soluble")
    below.set_ylabel("proteins")
    tidy(below)
    return figure


def draw_calibration(sets: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Draw what a model promises against what came of it, for a card.

    Args:
        sets: bins as `reliability` gives them, by the name of the test set.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label="as promised", **CHANCE)
    for (name, rows), style in zip(sets.items(), cycle(STYLES.values()), strict=False):
        filled = [row for row in rows if row["proteins"]]
        seen = np.array([row["soluble_share"] for row in filled])
        error = np.sqrt(seen * (1 - seen) / [row["proteins"] for row in filled])
        promised = [row["mean_probability"] for row in filled]
        axes.errorbar(promised, seen, yerr=error, capsize=3, label=name, linewidth=1.5, **style)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("predicted probability of being soluble")
    axes.set_ylabel("share that is soluble (± standard error)")
    axes.legend(frameon=False, loc="upper left")
    tidy(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _bins(rows: Sequence[Mapping[str, Any]], names: Sequence[str], axis: str) -> Figure:
    figure = Figure(figsize=(8, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    ticks = [f"{name}\nn = {row['proteins']:,}" for name, row in zip(names, rows, strict=True)]
    predictors = [name for name in STYLES if name in rows[0]]
    for axes, metric, title in zip(panels, IN_BINS, ("AUROC", "accuracy"), strict=True):
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
        axes.set_xlim(-0.5, len(rows) - 0.5)
        axes.set_ylabel(f"{title} (95% interval)")
        tidy(axes)
    figure.supxlabel(axis, fontsize=10)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, frameon=False)
    return figure
