"""What people see of a run: a table of epochs, and learning curves."""

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from eqxesm.drawing import CHANCE, LABEL_WIDTH, MANY, loss_limits, metric_limits, new_figure, save_figure, style_series
from eqxesm.training.state import Epoch, Scores

COLUMN_WIDTH = 16
"""Characters of a set's columns in the table. A longer name is wrapped."""

BEST = "best by validation"


def _scores_by_set(epoch: Epoch) -> dict[str, Scores]:
    return {"training": epoch.training, "validation": epoch.validation, **epoch.tests}


def format_head(tests: Sequence[str], *, accuracy: bool = True) -> str:
    """Head of the table of epochs, of models with an accuracy or without."""
    names = ["training", "validation", *tests]
    # From their last lines upward, so that a short name is next to its columns.
    wrapped = [textwrap.wrap(name, COLUMN_WIDTH)[::-1] for name in names]
    above = [
        "       " + "".join(f"  {part:^{COLUMN_WIDTH}}" for part in parts)
        for parts in zip_longest(*wrapped, fillvalue="")
    ]
    units = "epoch  " + ("    loss  accuracy" if accuracy else f"{'loss':>18}") * len(names) + "   seconds"
    return "\n".join(line.rstrip() for line in [*above[::-1], units])


def format_epoch(epoch: Epoch, best: bool) -> str:
    """A line of the table of epochs."""
    cells = "".join(map(_format_scores, _scores_by_set(epoch).values()))
    return f"{epoch.number:5}  {cells}{epoch.seconds:10.1f}{'  best so far' if best else ''}"


def _format_scores(scores: Scores) -> str:
    # A large loss keeps to its column.
    loss = f"{scores.loss:8.{4 if scores.loss < 99 else 1}f}"
    return f"{loss:>18}" if scores.accuracy is None else f"{loss}  {scores.accuracy:8.3f}"


def format_epochs(epochs: Sequence[Epoch]) -> str:
    """The table of epochs in Markdown."""
    names = [name.replace("|", "\\|") for name in _scores_by_set(epochs[0])]
    best, values = best_epoch(epochs), _measured(epochs)
    lines = [
        "| epoch | " + " | ".join(f"{name} {' | '.join(values)}" for name in names) + " | seconds |",
        "|---:|" + "---:|" * len(values) * len(names) + "---:|",
    ]
    for epoch in epochs:
        scores = _scores_by_set(epoch).values()
        cells = [f"{getattr(each, value):.{4 if value == 'loss' else 3}f}" for each in scores for value in values]
        number = f"**{epoch.number}**" if epoch.number == best else str(epoch.number)
        lines.append(f"| {number} | {' | '.join(cells)} | {epoch.seconds:.1f} |")
    return "\n".join(lines) + "\n"


def _measured(epochs: Sequence[Epoch]) -> tuple[str, ...]:
    return ("loss",) if epochs[0].validation.accuracy is None else ("loss", "accuracy")


def best_epoch(epochs: Sequence[Epoch]) -> int:
    """Number of the epoch with the smallest validation loss."""
    return min(epochs, key=lambda epoch: epoch.validation.loss).number


def draw_curves(folder: Path, epochs: Sequence[Epoch]) -> None:
    """Draw loss and accuracy of every set by epoch, as `curves.png` and `curves.svg`."""
    sets = list(_scores_by_set(epochs[0]))
    labels = [textwrap.fill(name, LABEL_WIDTH) for name in sets]
    lines = sum(label.count("\n") + 1 for label in [*labels, BEST])
    measured = _measured(epochs)
    figure, panels = new_figure(4 * len(measured), 3.4 + 0.2 * lines, 1, len(measured))
    numbers = [epoch.number for epoch in epochs]
    panels = np.atleast_1d(panels)
    marker = {} if len(epochs) <= MANY else {"marker": ""}
    for axes, value in zip(panels, measured, strict=True):
        for number, (name, label) in enumerate(zip(sets, labels, strict=True)):
            values = [getattr(_scores_by_set(epoch)[name], value) for epoch in epochs]
            axes.plot(numbers, values, markersize=4, label=label, **{**style_series(number), **marker})
        axes.axvline(best_epoch(epochs), label=BEST, zorder=0, **CHANCE)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.set(xlim=(0.5, len(epochs) + 0.5), xlabel="epoch")
        if value == "accuracy":
            axes.set(ylim=metric_limits("accuracy"), ylabel="accuracy")
    losses = [scores.loss for epoch in epochs for scores in _scores_by_set(epoch).values()]
    title = "cross-entropy (nats)" if len(measured) > 1 else "loss (nats, or half the\nsquared error of numbers)"
    panels[0].set(ylim=loss_limits(losses), ylabel=title)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", frameon=False, fontsize="small")
    save_figure(figure, folder, "curves")
