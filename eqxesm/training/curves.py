"""What people see of a run: a table of epochs, and learning curves."""

import textwrap
from collections.abc import Sequence
from itertools import cycle, product, zip_longest
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from eqxesm.evaluation.plots import COLOURS, LABEL_WIDTH, new_figure, save_figure
from eqxesm.training.state import Epoch, Scores

LINES = ("-", "--", "-.")
"""Line styles, the next one when all colours are used."""

COLUMN_WIDTH = 16
"""Characters of a set's two columns in the table. A longer name is wrapped."""

BEST = "best by validation"


def _scores_by_set(epoch: Epoch) -> dict[str, Scores]:
    return {"training": epoch.training, "validation": epoch.validation, **epoch.tests}


def format_head(tests: Sequence[str]) -> str:
    """Head of the table of epochs."""
    names = ["training", "validation", *tests]
    # From their last lines upward, so that a short name is next to its columns.
    wrapped = [textwrap.wrap(name, COLUMN_WIDTH)[::-1] for name in names]
    above = [
        "       " + "".join(f"  {part:^{COLUMN_WIDTH}}" for part in parts)
        for parts in zip_longest(*wrapped, fillvalue="")
    ]
    units = "epoch  " + "    loss  accuracy" * len(names) + "   seconds"
    return "\n".join(line.rstrip() for line in [*above[::-1], units])


def format_epoch(epoch: Epoch, best: bool) -> str:
    """A line of the table of epochs."""
    cells = "".join(
        # A large loss keeps to its column.
        f"{each.loss:8.{4 if each.loss < 99 else 1}f}  {each.accuracy:8.3f}"
        for each in _scores_by_set(epoch).values()
    )
    return f"{epoch.number:5}  {cells}{epoch.seconds:10.1f}{'  best so far' if best else ''}"


def format_epochs(epochs: Sequence[Epoch]) -> str:
    """The table of epochs in Markdown."""
    names = [name.replace("|", "\\|") for name in _scores_by_set(epochs[0])]
    best = best_epoch(epochs)
    lines = [
        "| epoch | " + " | ".join(f"{name} loss | accuracy" for name in names) + " | seconds |",
        "|---:|" + "---:|---:|" * len(names) + "---:|",
    ]
    for epoch in epochs:
        scores = _scores_by_set(epoch).values()
        cells = [f"{each.loss:.4f} | {each.accuracy:.3f}" for each in scores]
        number = f"**{epoch.number}**" if epoch.number == best else str(epoch.number)
        lines.append(f"| {number} | {' | '.join(cells)} | {epoch.seconds:.1f} |")
    return "\n".join(lines) + "\n"


def best_epoch(epochs: Sequence[Epoch]) -> int:
    """Number of the epoch with the smallest validation loss."""
    return min(epochs, key=lambda epoch: epoch.validation.loss).number


def draw_curves(folder: Path, epochs: Sequence[Epoch]) -> None:
    """Draw loss and accuracy of every set by epoch, as `curves.png` and `curves.svg`."""
    sets = list(_scores_by_set(epochs[0]))
    labels = [textwrap.fill(name, LABEL_WIDTH) for name in sets]
    lines = sum(label.count("\n") + 1 for label in [*labels, BEST])
    figure, panels = new_figure(8, 3.4 + 0.2 * lines, 1, 2)
    numbers = [epoch.number for epoch in epochs]
    for axes, value in zip(panels, ("loss", "accuracy"), strict=True):
        for name, label, (line, colour) in zip(sets, labels, cycle(product(LINES, COLOURS)), strict=False):
            values = [getattr(_scores_by_set(epoch)[name], value) for epoch in epochs]
            axes.plot(numbers, values, color=colour, linestyle=line, marker=".", markersize=4, label=label)
        axes.axvline(best_epoch(epochs), color="0.6", linewidth=1, linestyle=":", zorder=0, label=BEST)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        ylabel = "cross-entropy (nats)" if value == "loss" else value
        axes.set(xlim=(0.5, len(epochs) + 0.5), xlabel="epoch", ylabel=ylabel)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", frameon=False, fontsize="small")
    save_figure(figure, folder, "curves")
