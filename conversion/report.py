"""What a parity run says: a table, a JSON file, a plot."""

import io
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import strftime
from typing import Any

import torch

from eqxesm.errors import InputError

PACKAGES = ("eqxesm", "jax", "jaxlib", "equinox", "torch", "transformers", "esm", "numpy")


def describe_machine(device: str) -> dict[str, Any]:
    """Say what a run was made with.

    Args:
        device: `cpu` or `gpu`.

    Returns:
        Name of the device, versions and date.
    """
    return {
        "device": torch.cuda.get_device_name(0) if device == "gpu" else _cpu(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "date": strftime("%Y-%m-%d"),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"CPU, {names[0] if names else platform.machine()}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def format_report(report: dict[str, Any]) -> str:
    """Lay a report out for the terminal.

    Args:
        report: what a parity run gave.

    Returns:
        Lines of text: relative L2 by rung and case, the other measures of each case's worst rung,
        and the verdict.
    """
    cases = report["cases"]
    width = max(len("pseudo-perplexity"), *(len(name) for name in cases[0]["rungs"]))
    heads = [case["name"] for case in cases]
    lines = [
        f"{report['size']} against {report['original']}, {report['dtype']} on {report['device']}",
        f"weights: {report['weights']}",
        f"dlpack: {report['bridge']['shared']} of {report['bridge']['tensors']} tensors shared",
        "",
        "relative L2".ljust(width) + "".join(f"  {head:>16}" for head in heads),
    ]
    for rung in cases[0]["rungs"]:
        cells = (f"{case['rungs'][rung]['relative_l2']:.2e}" for case in cases)
        lines.append(rung.ljust(width) + "".join(f"  {cell:>16}" for cell in cells))
    lines.append("")
    for label, key in (("99.9th percentile", "p999"), ("largest error", "maximum")):
        cells = (f"{max(r[key] for r in case['rungs'].values()):.2e}" for case in cases)
        lines.append(label.ljust(width) + "".join(f"  {cell:>16}" for cell in cells))
    cells = (f"{1 - min(r['cosine'] for r in case['rungs'].values()):.2e}" for case in cases)
    lines.append("1 - cosine".ljust(width) + "".join(f"  {cell:>16}" for cell in cells))
    cells = (f"{case['argmax_agreement']:.4f}" for case in cases)
    lines.append("same argmax".ljust(width) + "".join(f"  {cell:>16}" for cell in cells))
    if report["dtype"] != "float32":
        for label, key in (
            ("ours to truth", "ours_to_truth"),
            ("theirs to truth", "theirs_to_truth"),
        ):
            cells = (f"{case['rungs']['logits'][key]:.2e}" for case in cases)
            lines.append(label.ljust(width) + "".join(f"  {cell:>16}" for cell in cells))
    perplexity = report["pseudo_perplexity"]
    lines += [
        "",
        f"{'pseudo-perplexity'.ljust(width)}  ours {perplexity['ours']:.5f}, "
        f"theirs {perplexity['theirs']:.5f}; in one pass {perplexity['ours_one_pass']:.5f}, "
        f"{perplexity['theirs_one_pass']:.5f}",
        "",
    ]
    failures = report["failures"]
    if not failures:
        return "\n".join([*lines, f"within tolerance: {report['tolerance']:.0e} everywhere"])
    shown = [*failures[:10], *([f"and {len(failures) - 10} more"] if len(failures) > 10 else [])]
    return "\n".join([*lines, f"OVER TOLERANCE in {len(failures)} places:", *shown])


def save_report(report: dict[str, Any], folder: Path) -> None:
    """Write a report as JSON and its plot.

    Args:
        report: what a parity run gave.
        folder: where to; made if it is not there.

    Raises:
        InputError: the folder cannot be written, or matplotlib is not installed.
    """
    kind = "cpu" if report["device"].startswith("CPU") else "gpu"
    original = report["original"].split()[0]
    stem = f"{report['size']}-{report['dtype']}-{kind}-{original}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
        (folder / f"{stem}.png").write_bytes(draw_report(report))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}): choose another"
        ) from error


def draw_report(report: dict[str, Any]) -> bytes:
    """Draw the distance of every rung in every case.

    Args:
        report: what a parity run gave.

    Returns:
        A PNG file.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "the plot takes matplotlib: install eqxesm with its extra 'convert'"
        ) from error
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    names = list(report["cases"][0]["rungs"])
    blocks = len(names) - 2
    # The last two stand apart, since they are no blocks.
    places = [*range(blocks), blocks + 1, blocks + 3]
    for case in report["cases"]:
        # A rung that is equal to the bit has no place on a logarithmic axis.
        distances = [rung["relative_l2"] or float("nan") for rung in case["rungs"].values()]
        (line,) = axes.plot(places[:blocks], distances[:blocks], marker=".", label=case["name"])
        axes.plot(places[blocks:], distances[blocks:], ".", color=line.get_color())
    axes.axhline(report["tolerance"], color="black", linestyle="--", linewidth=1)
    axes.annotate(
        "tolerance", (0, report["tolerance"]), (0, 3), textcoords="offset points", fontsize=9
    )
    axes.set_yscale("log")
    ticks = range(0, blocks, 5)
    axes.set_xticks([*ticks, *places[blocks:]], [*map(str, ticks), "embedding", "logits"])
    for label in axes.get_xticklabels()[-2:]:
        label.set_rotation(90)
    axes.set_xlabel(
        "output of block (0 is the embedded sequence), then embedding after the final norm, logits"
    )
    axes.set_ylabel("relative L2 distance")
    axes.set_title(
        f"{report['size']}, {report['dtype']}: eqxesm against {report['original']}\n"
        f"{report['device']}, weights {report['weights']}",
        fontsize=10,
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
