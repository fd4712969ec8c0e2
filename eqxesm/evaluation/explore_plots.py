"""Pictures of a labelled set, each as PNG and SVG."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from eqxesm.drawing import CHANCE, COLOURS, new_figure, save_figure
from eqxesm.evaluation.plots import plot_shares

SOLUBLE, INSOLUBLE = COLOURS[0], COLOURS[-1]
SHARES = "soluble (95% interval; hollow: a single protein; dotted: all proteins)"
FEW = 50
"""Fewer proteins are drawn one by one, not counted in bins of length."""

PICTURES = ("classes", "lengths", "constructs", "residues")


def draw_exploration(
    folder: Path, lengths: Int[np.ndarray, " proteins"], labels: Int[np.ndarray, " proteins"], report: Mapping[str, Any]
) -> None:
    """Draw every picture of a labelled set."""
    save_figure(_draw_classes(report["all"]), folder, "classes")
    save_figure(_draw_lengths(lengths, labels), folder, "lengths")
    save_figure(_draw_constructs(report), folder, "constructs")
    save_figure(_draw_residues(report), folder, "residues")


def _draw_classes(counts: Mapping[str, Any]) -> Figure:
    figure, axes = new_figure(4.5, 1.8)
    total, soluble = counts["proteins"], counts["soluble"]
    numbers = [total - soluble, soluble]
    bars = axes.barh(["insoluble", "soluble"], numbers, color=[INSOLUBLE, SOLUBLE])
    axes.bar_label(bars, [f"{n:,} ({n / total:.1%})" for n in numbers], padding=4)
    axes.margins(x=0.35)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("proteins")
    return figure


def _draw_lengths(lengths: Int[np.ndarray, " proteins"], labels: Int[np.ndarray, " proteins"]) -> Figure:
    figure, axes = new_figure(6, 3.6)
    edges = np.geomspace(lengths.min(), lengths.max() + 1, int(np.clip(len(lengths) ** 0.5, 10, 40)) + 1)
    for label, name, color, line in ((1, "soluble", SOLUBLE, "-"), (0, "insoluble", INSOLUBLE, "--")):
        chosen = lengths[labels == label]
        title = f"{name}, n = {len(chosen):,}, median {np.median(chosen):,.0f}"
        if len(lengths) < FEW:
            axes.plot(chosen, np.full(len(chosen), label), "o", color=color, alpha=0.7, label=title)
            continue
        heights, _ = np.histogram(chosen, edges)
        axes.stairs(heights / len(chosen), edges, color=color, linestyle=line, linewidth=1.8, label=title)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("length (residues)")
    if len(lengths) < FEW:
        axes.set_yticks([0, 1], ["insoluble", "soluble"])
        axes.set_ylim(-0.7, 1.7)
    else:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("share of the class")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def _draw_constructs(report: Mapping[str, Any]) -> Figure:
    rows = report["constructs"][::-1]
    figure, axes = new_figure(7, 1.2 + 0.4 * len(rows))
    axes.axvline(report["all"]["soluble_share"], **CHANCE)
    plot_shares(axes, range(len(rows)), rows, across=True, color=SOLUBLE, marker="o", linestyle="none")
    axes.set_yticks(range(len(rows)), [f"{row['construct']} (n = {row['proteins']:,})" for row in rows])
    axes.set(ylim=(-0.6, len(rows) - 0.4), xlim=(-0.02, 1.02))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    figure.supxlabel(SHARES, fontsize=10)
    return figure


def _draw_residues(report: Mapping[str, Any]) -> Figure:
    figure, panels = new_figure(10, 8, 4, 5, sharey=True)
    for axes, (residue, rows) in zip(panels.flat, report["residues"].items(), strict=True):
        axes.axhline(report["all"]["soluble_share"], **CHANCE)
        places = [row["frequency"] for row in rows]
        plot_shares(axes, places, rows, color=SOLUBLE, marker="o", markersize=4)
        axes.set_title(residue, loc="left", fontweight="bold", fontsize=11)
        axes.set(xlim=(0, max(0.01, 1.1 * max(places))), ylim=(-0.02, 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.supxlabel("frequency of the residue, in bins of about equal numbers of proteins", fontsize=11)
    figure.supylabel(SHARES, fontsize=11)
    return figure
