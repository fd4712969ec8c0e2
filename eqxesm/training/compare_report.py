"""What came of a comparison of encoders: scores with intervals, a table, pictures, JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.ticker import MaxNLocator

from eqxesm.evaluation.plots import SERIES, new_figure, save_figure
from eqxesm.files import make_folder, write_file
from eqxesm.training.compare import METRICS, Comparison

RESAMPLES = 200
"""Bootstrap samples of the test proteins."""

Scores = Mapping[str, Mapping[str, Any]]
"""What was stored of each task, by its name."""


def write_report(comparison: Comparison, found: Mapping[str, Scores], folder: Path) -> dict[str, Any]:
    """Measure what was predicted, and write table, pictures and JSON."""
    report = folder / "report"
    make_folder(report)
    result = describe(comparison, found)
    write_file(report / "comparison.json", json.dumps(result, indent=1) + "\n")
    write_file(report / "table.md", format_table(result))
    save_figure(_draw_scores(result), report, "scores")
    save_figure(_draw_costs(result), report, "costs")
    if any(row["layers"] for row in result["rows"]):
        save_figure(_draw_layers(result), report, "layers")
    return result


def describe(comparison: Comparison, found: Mapping[str, Scores]) -> dict[str, Any]:
    """Scores of every encoder on every task, with differences to the reference."""
    draws: dict[str, dict[str, Float[np.ndarray, " resamples"]]] = {name: {} for name in found}
    rows: list[dict[str, Any]] = []
    for task in comparison.tasks:
        for name in found:
            stored = found[name][task.name]
            metrics = METRICS[task.kind]
            main = next(iter(metrics.values()))
            layers = [_mean_score(main, stored["truth"], layer) for layer in stored["predicted"]]
            last = stored["predicted"][-1]
            draws[name][task.name] = _bootstrap(main, stored["truth"], stored["groups"], last)
            rows.append(
                {
                    "encoder": name,
                    "task": task.name,
                    "metric": next(iter(metrics)),
                    "scores": {key: _mean_score(metric, stored["truth"], last) for key, metric in metrics.items()},
                    "spread_over_seeds": float(np.std([main(stored["truth"], each) for each in last])),
                    "interval": _interval(draws[name][task.name]),
                    "layers": layers if len(layers) > 1 else [],
                    "parameters": int(stored["parameters"]),
                    "seconds_per_protein": float(stored["seconds"]),
                }
            )
    reference = draws[comparison.reference]
    main_score = {(row["encoder"], row["task"]): row["scores"][row["metric"]] for row in rows}
    for row in rows:
        name, task = row["encoder"], row["task"]
        row["difference"] = main_score[name, task] - main_score[comparison.reference, task]
        row["difference_interval"] = _interval(draws[name][task] - reference[task])
    titles = [task.name for task in comparison.tasks]
    overall = [
        {
            "encoder": name,
            "mean_difference": float(
                np.mean([main_score[name, t] - main_score[comparison.reference, t] for t in titles])
            ),
            "interval": _interval(np.mean([draws[name][t] - reference[t] for t in titles], axis=0)),
            "parameters": int(next(iter(found[name].values()))["parameters"]),
            "seconds_per_protein": float(np.mean([found[name][t]["seconds"] for t in titles])),
        }
        for name in found
    ]
    return {
        "name": comparison.name,
        "reference": comparison.reference,
        "tasks": titles,
        "rows": rows,
        "overall": overall,
    }


def _mean_score(metric: Callable[..., float], truth: np.ndarray, by_seed: Shaped[np.ndarray, "seeds rows"]) -> float:
    return float(np.mean([metric(truth, each) for each in by_seed]))


def _bootstrap(
    metric: Callable[..., float],
    truth: np.ndarray,
    groups: Int[np.ndarray, " rows"],
    by_seed: Shaped[np.ndarray, "seeds rows"],
) -> Float[np.ndarray, " resamples"]:
    """Score of resampled test proteins, a mean over seeds. The same draws for every encoder."""
    rng = np.random.default_rng(0)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    parts = np.split(order, starts[1:])
    scores = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([parts[i] for i in rng.integers(len(parts), size=len(parts))])
        scores.append(_mean_score(metric, truth[rows], by_seed[:, rows]))
    return np.array(scores)


def _interval(draws: Float[np.ndarray, " resamples"]) -> list[float]:
    return np.percentile(draws, [2.5, 97.5]).tolist()


def format_table(result: Mapping[str, Any]) -> str:
    """Scores and mean differences in Markdown."""
    cells = {(row["encoder"], row["task"]): row for row in result["rows"]}
    metrics = {row["task"]: row["metric"] for row in result["rows"]}
    tasks = result["tasks"]
    head = " | ".join(f"{task}, {metrics[task]}" for task in tasks)
    lines = [
        f"| encoder | {head} | mean difference to {result['reference']} | parameters | ms per protein |",
        "|---|" + "---:|" * (len(tasks) + 3),
    ]
    for row in result["overall"]:
        name = row["encoder"]
        scores = [
            f"{cells[name, task]['scores'][metrics[task]]:.3f} ({_between(cells[name, task]['interval'])})"
            for task in tasks
        ]
        difference = f"{row['mean_difference']:+.3f} ({_between(row['interval'])})"
        own = "" if name == result["reference"] else difference
        cost = f"{row['parameters']:,} | {1000 * row['seconds_per_protein']:.1f}"
        lines.append(f"| {name} | {' | '.join(scores)} | {own} | {cost} |")
    return "\n".join(lines) + "\n"


def _between(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _draw_scores(result: Mapping[str, Any]) -> Any:
    names = [row["encoder"] for row in result["overall"]]
    figure, panels = new_figure(
        10, 0.9 + 0.28 * len(names) * -(-len(result["tasks"]) // 3) + 1, -(-len(result["tasks"]) // 3), 3, sharey=True
    )
    panels = np.ravel(panels)
    for axes, task in zip(panels, result["tasks"], strict=False):
        for place, name in enumerate(reversed(names)):
            row = next(each for each in result["rows"] if (each["encoder"], each["task"]) == (name, task))
            value = row["scores"][row["metric"]]
            low, high = row["interval"]
            axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color="#0072B2", markersize=4)
        axes.set(title=task, xlabel=row["metric"], yticks=range(len(names)), yticklabels=names[::-1])
        axes.title.set_fontsize("medium")
    for axes in panels[len(result["tasks"]) :]:
        axes.set_visible(False)
    return figure


def _draw_costs(result: Mapping[str, Any]) -> Any:
    figure, panels = new_figure(9, 3.8, 1, 2, sharey=True)
    for axes, key, label in zip(
        panels,
        ("parameters", "seconds_per_protein"),
        ("parameters", "seconds per protein, compilation included"),
        strict=True,
    ):
        for number, row in enumerate(result["overall"]):
            style = {**SERIES[number % len(SERIES)], "linestyle": ""}
            axes.plot(
                max(row[key], 1 if key == "parameters" else 1e-6), row["mean_difference"], label=row["encoder"], **style
            )
        axes.axhline(0, color="0.6", linewidth=1, linestyle=":")
        axes.set(xscale="log", xlabel=label)
    panels[0].set_ylabel(f"mean difference to {result['reference']}")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize="small"
    )
    return figure


def _draw_layers(result: Mapping[str, Any]) -> Any:
    figure, axes = new_figure(6.5, 4.2)
    shown = [row for row in result["rows"] if row["layers"]]
    for number, row in enumerate(shown):
        label = f"{row['encoder']}, {row['task']} ({row['metric']})"
        axes.plot(range(len(row["layers"])), row["layers"], label=label, **SERIES[number % len(SERIES)])
    axes.set(xlabel="layer (0 is the embedding)", ylabel="score")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure
