"""Pictures of a labelled set, each as PNG and SVG."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from eqxesm.evaluation.plots import save, tidy

SOLUBLE, INSOLUBLE = "#0072B2", "#E69F00"
BASE: dict[str, Any] = {"color": "0.5", "linewidth": 1, "linestyle": ":"}
PICTURES = ("classes", "lengths", "constructs", "residues")


def draw(
    folder: Path,
    lengths: Int[np.ndarray, " proteins"],
    labels: Int[np.ndarray, " proteins"],
    exploration: Mapping[str, Any],
) -> None:
    """Draw every picture of a labelled set.

    Args:
        folder: where to put them.
        lengths: residues of each protein.
        labels: 1 = soluble, 0 = insoluble, one a protein.
        exploration: what `explore_file` counted.
    """
    save(_classes(exploration["all"]), folder, "classes")
    save(_lengths(lengths, labels), folder, "lengths")
    save(_constructs(exploration), folder, "constructs")
    save(_residues(exploration), folder, "residues")


def _classes(counts: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(4.5, 1.8), layout="constrained")
    axes = figure.subplots()
    total, soluble = counts["proteins"], counts["soluble"]
    numbers = [total - soluble, soluble]
    bars = axes.barh(["insoluble", "soluble"], numbers, color=[INSOLUBLE, SOLUBLE])
    axes.bar_label(bars, [f"{n:,} ({n / total:.1%})" for n in numbers], padding=4)
    axes.margins(x=0.35)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("proteins")
    tidy(axes)
    return figure


def _lengths(lengths: Int[np.ndarray, " proteins"], labels: Int[np.ndarray, " proteins"]) -> Figure:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    edges = np.geomspace(lengths.min(), lengths.max() + 1, 41)
    for label, name, color, line in (
        (1, "soluble", SOLUBLE, "-"),
        (0, "insoluble", INSOLUBLE, "--"),
    ):
        chosen = lengths[labels == label]
        heights, _ = np.histogram(chosen, edges)
        axes.stairs(
            heights / len(chosen), edges, color=color, linestyle=line, linewidth=1.8,
            label=f"{name}, median {np.median(chosen):.0f}",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("length (residues)")
    axes.set_ylabel("of the proteins of the class")
    axes.legend(frameon=False)
    tidy(axes)
    return figure


def _constructs(exploration: Mapping[str, Any]) -> Figure:
    rows = exploration["constructs"][::-1]
    figure = Figure(figsize=(6.5, 1.2 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(exploration["all"]["soluble_share"], **BASE)
    axes.errorbar(
        [row["soluble_share"] for row in rows], range(len(rows)),
        xerr=[row["standard_error"] for row in rows],
        fmt="o", capsize=3, color=SOLUBLE,
    )  # fmt: skip
    axes.set_yticks(
        range(len(rows)), [f"{row['construct']} (n = {row['proteins']:,})" for row in rows]
    )
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("soluble (± standard error); dotted: of all proteins")
    tidy(axes)
    return figure


def _residues(exploration: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(10, 8), layout="constrained")
    panels = figure.subplots(4, 5, sharey=True)
    for axes, (residue, rows) in zip(panels.flat, exploration["residues"].items(), strict=True):
        axes.axhline(exploration["all"]["soluble_share"], **BASE)
        axes.errorbar(
            [100 * row["frequency"] for row in rows], [row["soluble_share"] for row in rows],
            yerr=[row["standard_error"] for row in rows],
            marker="o", markersize=4, linewidth=1.2, capsize=2, color=SOLUBLE,
        )  # fmt: skip
        axes.set_title(residue, loc="left", fontweight="bold", fontsize=11)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        tidy(axes)
    figure.supxlabel("frequency of the residue, in bins of like numbers of proteins", fontsize=11)
    figure.supylabel("soluble (± standard error); dotted: of all proteins", fontsize=11)
    return figure
