"""Table and plot of the results for `docs/speed.md`: `python -m benchmarks.document`."""

import json
import re
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.measure import RESULTS, Row, make_table

DOCS = RESULTS.parents[1] / "docs"
PROGRAMS = ("forward", "train", "load", "predict", "scale", "long", "large")

mpl.use("Agg")


def draw(results: dict[str, dict[str, Any]], device: str) -> None:
    """Plot the ratios to torch, and growth with the length."""
    rows = [row for result in results.values() for row in result["rows"] if row["ratio"] is not None][::-1]
    growth = [row for result in results.values() for row in result["rows"] if row["case"].startswith("growth")]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 0.26 * len(rows) + 1.4), width_ratios=[1.2, 1], layout="constrained"
    )
    for number, row in enumerate(rows):
        left.plot([row["ratio_low"], row["ratio_high"]], [number, number], color="tab:blue", linewidth=2)
        left.plot(row["ratio"], number, "o", color="tab:blue", markersize=5)
    left.axvline(1, color="0.5", linewidth=1)
    left.set(xscale="log", xlabel="seconds of torch / ours (more is faster)", ylim=(-0.7, len(rows) - 0.3))
    left.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    left.minorticks_off()
    left.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=8)
    lengths = [int(row["case"].rpartition(" ")[2]) for row in growth]
    right.plot(lengths, [row["ours_s"] for row in growth], "o-", color="tab:blue")
    right.set(xscale="log", yscale="log", xlabel="residues of one protein (12x240)", ylabel="seconds of a forward pass")
    memory = right.twinx()
    memory.plot(lengths, [row["peak_memory_mb"] for row in growth], "s--", color="tab:orange")
    memory.set_ylim(0)
    memory.set_ylabel("peak memory of the process, MB", color="tab:orange")
    right.yaxis.label.set_color("tab:blue")
    figure.savefig(DOCS / f"speed-{device}.png", dpi=110)


def draw_scale(result: dict[str, Any], device: str) -> None:
    """Plot rate and memory against the number of proteins."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    memory = axes.twinx()
    for color, (name, rows) in zip(mpl.color_sequences["tab10"], split(result["rows"]).items(), strict=False):
        points = [(number, row) for number, row in rows if row["rate"] is not None]
        numbers = [number for number, _ in points]
        axes.plot(numbers, [row["rate"] for _, row in points], "o-", color=color, label=name)
        memory.plot(numbers, [row["peak_memory_mb"] for _, row in points], "s--", color=color, alpha=0.6)
    axes.set(xscale="log", yscale="log", xlabel="proteins", ylabel="proteins per second (circles)")
    memory.set_ylim(0)
    memory.set_ylabel("peak memory of the process, MB (squares)")
    axes.legend(fontsize=8)
    figure.savefig(DOCS / f"scale-{device}.png", dpi=110)


def draw_lengths(result: dict[str, Any], device: str) -> None:
    """Plot time per residue against the length."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, rows in split(result["rows"]).items():
        axes.plot([number for number, _ in rows], [row["residue_us"] for _, row in rows], "o-", label=name)
    axes.set(xscale="log", yscale="log", xlabel="tokens of each protein", ylabel="microseconds per token")
    axes.legend(fontsize=8)
    figure.savefig(DOCS / f"lengths-{device}.png", dpi=110)


def split(rows: list[dict[str, Any]]) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """Rows whose cases end with a number, by what comes before it."""
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for row in rows:
        name, _, number = row["case"].rpartition(", ")
        found.setdefault(name, []).append((int(number.replace(",", "")), row))
    return found


def main() -> None:
    """Read the results, and write the page's tables and plots."""
    page = DOCS / "speed.md"
    text = page.read_text()
    for device in ("cpu", "gpu"):
        files = {name: RESULTS / f"{name}-{device}.json" for name in PROGRAMS}
        results = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
        if not results:
            continue
        tables = []
        for result in results.values():
            rows = [Row(**row) for row in result["rows"]]
            tables.append(f"`{result['command']}`, {result['machine']}, {result['date']}\n\n{make_table(rows)}")
        if all(name in results for name in ("forward", "train")):
            draw(results, device)
            tables.insert(0, f"![Ratios to PyTorch, and growth with the length](speed-{device}.png)")
        if "scale" in results:
            draw_scale(results["scale"], device)
            tables.append(f"![Rate and memory by the number of proteins](scale-{device}.png)")
        if "long" in results:
            draw_lengths(results["long"], device)
            tables.append(f"![Time per token by the length, attention and state-space](lengths-{device}.png)")
        marks = (f"<!-- {device} -->", f"<!-- end of {device} -->")
        pattern = re.compile("(?<=" + re.escape(marks[0]) + "\n).*(?=" + re.escape(marks[1]) + ")", re.DOTALL)
        text = pattern.sub(lambda _, tables=tables: "\n" + "\n\n".join(tables) + "\n\n", text)
    page.write_text(text)


if __name__ == "__main__":
    main()
