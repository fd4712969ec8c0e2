"""The report of a parity check: a table, a JSON file, a plot."""

import json
import platform
import re
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import strftime
from typing import Any

import torch

from eqxesm.errors import missing_extra
from eqxesm.files import make_folder, write_file
from eqxesm.tables import format_table

PACKAGES = ("eqxesm", "jax", "jaxlib", "equinox", "torch", "transformers", "esm", "numpy")


def describe_machine(device: str) -> dict[str, Any]:
    """Device, versions and date of a run."""
    return {
        "device": torch.cuda.get_device_name(0) if device == "gpu" else _cpu(),
        "versions": {name: version(name) for name in PACKAGES if find_spec(name)},
        "python": platform.python_version(),
        "date": strftime("%Y-%m-%d"),
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return f"CPU, {found[1] if found else platform.machine()}"


def format_report(report: dict[str, Any]) -> str:
    """A report as text for the terminal."""
    cases = report["cases"]
    rungs = {case["name"]: case["rungs"] for case in cases}

    def row(label: str, cells: dict[str, float], form: str = ".2e") -> dict[str, str]:
        return {"relative L2": label, **{name: f"{cell:{form}}" for name, cell in cells.items()}}

    def extreme(key: str, choose: Callable) -> dict[str, float]:
        return {name: choose(rung[key] for rung in case.values()) for name, case in rungs.items()}

    rows = [row(rung, {name: case[rung]["relative_l2"] for name, case in rungs.items()}) for rung in cases[0]["rungs"]]
    rows += [
        row("99.9th percentile", extreme("p999", max)),
        row("largest error", extreme("maximum", max)),
        row("1 - cosine", {name: 1 - cosine for name, cosine in extreme("cosine", min).items()}),
        row("same argmax", {case["name"]: case["argmax_agreement"] for case in cases}, ".4f"),
    ]
    if report["dtype"] != "float32":
        for label, key in (("ours to truth", "ours_to_truth"), ("theirs to truth", "theirs_to_truth")):
            rows.append(row(label, {name: case["logits"][key] for name, case in rungs.items()}))
    perplexity = report["pseudo_perplexity"]
    failures = report["failures"]
    verdict = [f"within tolerance: {report['tolerance']:.0e} everywhere"]
    if failures:
        more = [f"and {len(failures) - 10} more"] if len(failures) > 10 else []
        verdict = [f"OVER TOLERANCE in {len(failures)} places:", *failures[:10], *more]
    lines = [
        f"{report['size']} against {report['original']}, {report['dtype']} on {report['device']}",
        f"weights: {report['weights']}",
        f"dlpack: {report['bridge']['shared']} of {report['bridge']['tensors']} tensors shared",
        "",
        format_table(rows),
        "",
        f"pseudo-perplexity: ours {perplexity['ours']:.5f}, theirs {perplexity['theirs']:.5f}; in one pass "
        f"{perplexity['ours_one_pass']:.5f}, {perplexity['theirs_one_pass']:.5f}",
        *verdict,
    ]
    return "\n".join(lines)


def save_report(report: dict[str, Any], folder: Path) -> None:
    """Write a report as JSON, and its plot."""
    kind = "cpu" if report["device"].startswith("CPU") else "gpu"
    stem = f"{report['size']}-{report['dtype']}-{kind}-{report['original'].split()[0]}"
    make_folder(folder)
    write_file(folder / f"{stem}.json", json.dumps(report, indent=1) + "\n")
    write_file(folder / f"{stem}.png", draw_report(report))


def draw_report(report: dict[str, Any]) -> bytes:
    """Plot the distance of every rung in every case, as PNG."""
    try:
        from eqxesm.drawing import new_figure, style_series, to_bytes
    except ImportError as error:
        raise missing_extra("matplotlib", "convert") from error
    figure, axes = new_figure(9, 5.2)
    names = list(report["cases"][0]["rungs"])
    blocks = len(names) - 2
    # The last two are not blocks, so they are set apart.
    places = [*range(blocks), blocks + 1, blocks + 3]
    tolerance = report["tolerance"]
    lowest = tolerance / 100
    for number, case in enumerate(report["cases"]):
        # A rung that is equal to the bit cannot be drawn on a logarithmic axis.
        distances = [rung["relative_l2"] or float("nan") for rung in case["rungs"].values()]
        lowest = min(lowest, *(each for each in distances if each > 0))
        style = {**style_series(number), "markersize": 4}
        axes.plot(places[:blocks], distances[:blocks], label=case["name"], **style)
        axes.plot(places[blocks:], distances[blocks:], **{**style, "linestyle": "none"})
    axes.axhline(tolerance, color="black", linestyle="--", linewidth=1)
    axes.annotate("tolerance", (0, tolerance), (0, 3), textcoords="offset points", fontsize=9)
    axes.set_yscale("log")
    _, highest = axes.get_ylim()
    axes.set_ylim(lowest / 1.2, max(highest, 2 * tolerance))
    ticks = range(0, blocks, 5)
    axes.set_xticks([*ticks, *places[blocks:]], [*map(str, ticks), "embedding", "logits"])
    for label in axes.get_xticklabels()[-2:]:
        label.set_rotation(90)
    axes.set_xlabel("output of block (0 is the embedded sequence), then embedding after the final norm, logits")
    axes.set_ylabel("relative L2 distance")
    axes.set_title(
        f"{report['size']}, {report['dtype']}: eqxesm against {report['original']}\n"
        f"{report['device']}, weights {report['weights']}",
        fontsize=10,
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(report["cases"]), fontsize=9, frameon=False)
    return to_bytes(figure, "png", 130)
