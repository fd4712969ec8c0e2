"""What came of a comparison of encoders: scores with intervals, a table, pictures, JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.ticker import MaxNLocator

from eqxesm.drawing import CHANCE, COLOURS, metric_limits, new_figure, save_figure, style_series
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


def _task_panels(tasks: Sequence[str], height: float, **options: Any) -> tuple[Any, list[Any]]:
    """A figure with a panel for each task, three in a row."""
    columns = min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    figure, panels = new_figure(1 + 3.2 * columns, height * lines + 0.9, lines, columns, **options)
    panels = list(np.ravel(panels))
    for axes, task in zip(panels, tasks, strict=False):
        axes.set_title(task, fontsize="medium")
    for axes in panels[len(tasks) :]:
        axes.set_visible(False)
    return figure, panels[: len(tasks)]


def _draw_scores(result: Mapping[str, Any]) -> Any:
    names = [row["encoder"] for row in result["overall"]][::-1]
    found = {(row["encoder"], row["task"]): row for row in result["rows"]}
    figure, panels = _task_panels(result["tasks"], 0.9 + 0.28 * len(names), sharey=True)
    for axes, task in zip(panels, result["tasks"], strict=True):
        for place, name in enumerate(names):
            row = found[name, task]
            value, (low, high) = row["scores"][row["metric"]], row["interval"]
            sides = np.clip([[value - low], [high - value]], 0, None)
            axes.errorbar(value, place, xerr=sides, fmt="o", color=COLOURS[0], markersize=4)
        metric = found[names[0], task]["metric"]
        axes.set(xlim=metric_limits(metric), xlabel=f"{metric} (95% interval)")
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="x", color="0.9")
    return figure


def _draw_costs(result: Mapping[str, Any]) -> Any:
    figure, panels = new_figure(9, 4.2, 1, 2, sharey=True)
    costs = {"parameters": "parameters", "seconds_per_protein": "seconds per protein, compilation included"}
    for axes, (key, label) in zip(panels, costs.items(), strict=True):
        for number, row in enumerate(result["overall"]):
            sides = np.abs(np.subtract(row["interval"], row["mean_difference"]))[:, None]
            style = {**style_series(number), "linestyle": "none"}
            axes.errorbar(row[key], row["mean_difference"], yerr=sides, capsize=2, label=row["encoder"], **style)
        axes.axhline(0, **CHANCE)
        known = [row[key] for row in result["overall"]]
        axes.set_xscale("log")
        if not all(known):
            # What costs nothing is at 0, which a logarithm does not have.
            linear = 10 ** np.floor(np.log10(min(filter(None, known), default=1)) - 1)
            axes.set_xscale("symlog", linthresh=linear)
            axes.set_xlim(-0.5 * linear, 2 * max(known))
        axes.set_xlabel(label)
    panels[0].set_ylabel(f"mean difference to {result['reference']}\n(95% interval)")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize="small"
    )
    return figure


def _draw_layers(result: Mapping[str, Any]) -> Any:
    shown = [row for row in result["rows"] if row["layers"]]
    names = list(dict.fromkeys(row["encoder"] for row in shown))
    tasks = list(dict.fromkeys(row["task"] for row in shown))
    figure, panels = _task_panels(tasks, 2.6)
    for axes, task in zip(panels, tasks, strict=True):
        for row in (row for row in shown if row["task"] == task):
            style = {**style_series(names.index(row["encoder"])), "markersize": 4}
            axes.plot(range(len(row["layers"])), row["layers"], label=row["encoder"], **style)
            axes.set(ylim=metric_limits(row["metric"]), ylabel=row["metric"])
        axes.set_xlabel("layer (0 is the embedding)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure
