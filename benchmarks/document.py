"""Table and plot of the results for `docs/speed.md`: `python -m benchmarks.document`."""

import json
import re
from typing import Any

from matplotlib.figure import Figure

from benchmarks.measure import RESULTS, Row, make_table
from eqxesm.drawing import COLOURS, new_figure, style_series

DOCS = RESULTS.parents[1] / "docs"
PROGRAMS = ("forward", "train", "load", "predict", "scale", "cluster", "long", "large")


def draw(results: dict[str, dict[str, Any]], device: str) -> None:
    """Plot the ratios to torch, and growth with the length."""
    rows = [row for result in results.values() for row in result["rows"] if row["ratio"] is not None][::-1]
    growth = [row for result in results.values() for row in result["rows"] if row["case"].startswith("growth")]
    figure = Figure(figsize=(11, 0.26 * len(rows) + 1.4), layout="constrained")
    panels = figure.subplot_mosaic([["ratios", "time"], ["ratios", "memory"]], width_ratios=[1.2, 1])
    for axes in panels.values():
        axes.spines[["top", "right"]].set_visible(False)
    left, time, memory = (panels[name] for name in ("ratios", "time", "memory"))
    for number, row in enumerate(rows):
        left.plot([row["ratio_low"], row["ratio_high"]], [number, number], color=COLOURS[0], linewidth=2)
        left.plot(row["ratio"], number, "o", color=COLOURS[0], markersize=5)
    left.axvline(1, color="0.5", linewidth=1)
    left.set(xscale="log", xlabel="seconds of torch / ours (more is faster)", ylim=(-0.7, len(rows) - 0.3))
    left.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    left.minorticks_off()
    left.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=8)
    lengths = [int(row["case"].rpartition(" ")[2]) for row in growth]
    for axes, key in ((time, "ours_s"), (memory, "peak_memory_mb")):
        axes.plot(lengths, [row[key] for row in growth], "o-", color=COLOURS[0])
        axes.set(xscale="log", xlabel="residues of one protein (12x240)")
    time.set(yscale="log", ylabel="forward pass (seconds)")
    memory.set(ylim=(0, None), ylabel="peak memory of the process (MB)")
    figure.savefig(DOCS / f"speed-{device}.png", dpi=110)


def draw_scale(result: dict[str, Any], device: str) -> None:
    """Plot rate and memory against the number of proteins."""
    figure, (rate, memory) = new_figure(9, 4, 1, 2)
    for number, (name, rows) in enumerate(split(result["rows"]).items()):
        points = [(proteins, row) for proteins, row in rows if row["rate"] is not None]
        for axes, key in ((rate, "rate"), (memory, "peak_memory_mb")):
            axes.plot(*zip(*((x, row[key]) for x, row in points), strict=True), label=name, **style_series(number))
    rate.set(xscale="log", yscale="log", xlabel="proteins", ylabel="proteins per second")
    memory.set(xscale="log", ylim=(0, None), xlabel="proteins", ylabel="peak memory of the process (MB)")
    handles = rate.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    figure.savefig(DOCS / f"scale-{device}.png", dpi=110)


def draw_lengths(result: dict[str, Any], device: str) -> None:
    """Plot time per token against the length."""
    figure, axes = new_figure(6, 4)
    for number, (name, rows) in enumerate(split(result["rows"]).items()):
        points = ((length, row["residue_us"]) for length, row in rows)
        axes.plot(*zip(*points, strict=True), label=name, **style_series(number))
    axes.set(xscale="log", yscale="log", xlabel="length of each protein (tokens)", ylabel="microseconds per token")
    axes.legend(fontsize=8, frameon=False)
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
