"""Pictures of a labelled set, each as PNG and SVG."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from eqxesm.evaluation.plots import COLOURS, new_figure, save_figure

SOLUBLE, INSOLUBLE = COLOURS[0], COLOURS[-1]
BASE_LINE: dict[str, Any] = {"color": "0.5", "linewidth": 1, "linestyle": ":"}
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
    edges = np.geomspace(lengths.min(), lengths.max() + 1, 41)
    for label, name, color, line in ((1, "soluble", SOLUBLE, "-"), (0, "insoluble", INSOLUBLE, "--")):
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
    axes.set(xlabel="length (residues)", ylabel="share of the class")
    axes.legend(frameon=False)
    return figure


def _draw_constructs(report: Mapping[str, Any]) -> Figure:
    rows = report["constructs"][::-1]
    figure, axes = new_figure(6.5, 1.2 + 0.4 * len(rows))
    axes.axvline(report["all"]["soluble_share"], **BASE_LINE)
    axes.errorbar(
        [row["soluble_share"] for row in rows], range(len(rows)),
        xerr=[row["standard_error"] for row in rows],
        fmt="o", capsize=3, color=SOLUBLE,
    )  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{row['construct']} (n = {row['proteins']:,})" for row in rows])
    axes.set(ylim=(-0.6, len(rows) - 0.4), xlim=(-0.02, 1.02))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("soluble (± standard error); dotted: all proteins")
    return figure


def _draw_residues(report: Mapping[str, Any]) -> Figure:
    figure, panels = new_figure(10, 8, 4, 5, sharey=True)
    for axes, (residue, rows) in zip(panels.flat, report["residues"].items(), strict=True):
        axes.axhline(report["all"]["soluble_share"], **BASE_LINE)
        axes.errorbar(
            [100 * row["frequency"] for row in rows], [row["soluble_share"] for row in rows],
            yerr=[row["standard_error"] for row in rows],
            marker="o", markersize=4, linewidth=1.2, capsize=2, color=SOLUBLE,
        )  # fmt: skip
        axes.set_title(residue, loc="left", fontweight="bold", fontsize=11)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.supxlabel("frequency of the residue, in bins of about equal numbers of proteins", fontsize=11)
    figure.supylabel("soluble (± standard error); dotted: all proteins", fontsize=11)
    return figure
