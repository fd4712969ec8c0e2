"""What people see of a run: a table of epochs, and learning curves."""

import textwrap
from collections.abc import Sequence
from itertools import cycle, product, zip_longest
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eqxesm.evaluation.plots import save, tidy
from eqxesm.training.store import Epoch, Scores

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Told apart by the colour-blind (Wong 2011, doi:10.1038/nmeth.1618)."""

LINES = ("-", "--", "-.")
"""Of the first sets, of those after as many as there are colours, and so on."""

WIDTH = 16
"""Characters of a set's two columns in the table; a longer name goes on in the line below."""

LABEL, ACROSS = 45, 120
"""Characters of a line of a legend's entry, and of the whole figure's width."""

BEST = "best by validation"


def _sets(epoch: Epoch) -> dict[str, Scores]:
    return {"training": epoch.training, "validation": epoch.validation, **epoch.tests}


def format_head(tests: Sequence[str]) -> str:
    """Write the head of the table of epochs.

    Args:
        tests: names of the test sets.

    Returns:
        Lines of text, two at least; nothing of a name is cut off.
    """
    names = ["training", "validation", *tests]
    wrapped = [textwrap.wrap(name, WIDTH) or [""] for name in names]
    above = [
        "       " + "".join(f"  {part:^{WIDTH}}" for part in parts)
        for parts in zip_longest(*wrapped, fillvalue="")
    ]
    units = "epoch  " + "    loss  accuracy" * len(names) + "   seconds"
    return "\n".join(line.rstrip() for line in [*above, units])


def format_epoch(epoch: Epoch, best: bool) -> str:
    """Write an epoch as a line of the table.

    Args:
        epoch: what came of it.
        best: whether it is the best by validation so far; it is marked.

    Returns:
        A line of text.
    """
    cells = "".join(
        # A loss that has gone astray keeps to its column.
        f"{each.loss:8.{4 if each.loss < 99 else 1}f}  {each.accuracy:8.3f}"
        for each in _sets(epoch).values()
    )
    return f"{epoch.number:5}  {cells}{epoch.seconds:10.1f}{'  best so far' if best else ''}"


def format_table(epochs: Sequence[Epoch]) -> str:
    """Write the table of epochs in Markdown.

    Args:
        epochs: all of them.

    Returns:
        The table; the best epoch by validation loss is bold.
    """
    names = [name.replace("|", "\\|") for name in _sets(epochs[0])]
    best = min(epochs, key=lambda epoch: epoch.validation.loss).number
    lines = [
        "| epoch | " + " | ".join(f"{name} loss | accuracy" for name in names) + " | seconds |",
        "|---:|" + "---:|---:|" * len(names) + "---:|",
    ]
    for epoch in epochs:
        cells = [f"{each.loss:.4f} | {each.accuracy:.3f}" for each in _sets(epoch).values()]
        number = f"**{epoch.number}**" if epoch.number == best else str(epoch.number)
        lines.append(f"| {number} | {' | '.join(cells)} | {epoch.seconds:.1f} |")
    return "\n".join(lines) + "\n"


def draw_curves(folder: Path, epochs: Sequence[Epoch]) -> None:
    """Draw loss and accuracy of every set by epoch, as `curves.png` and `curves.svg`.

    Args:
        folder: where to.
        epochs: all of them.
    """
    labels = [textwrap.fill(name, LABEL) for name in _sets(epochs[0])]
    widest = max(len(line) for label in labels for line in [*label.split("\n"), BEST])
    columns = max(1, ACROSS // (widest + 6))
    rows = -(-(len(labels) + 1) // columns) * max(label.count("\n") + 1 for label in labels)
    figure = Figure(figsize=(8, 3.4 + 0.2 * rows), layout="constrained")
    panels = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in epochs]
    best = min(epochs, key=lambda epoch: epoch.validation.loss).number
    for axes, value in zip(panels, ("loss", "accuracy"), strict=True):
        styles = cycle(product(LINES, COLOURS))
        for name, label, (line, colour) in zip(_sets(epochs[0]), labels, styles, strict=False):
            values = [getattr(_sets(epoch)[name], value) for epoch in epochs]
            axes.plot(
                numbers, values, color=colour, linestyle=line, marker=".", markersize=4, label=label
            )
        axes.axvline(best, color="0.6", linewidth=1, linestyle=":", zorder=0, label=BEST)
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
        axes.set_ylabel("cross-entropy (nats)" if value == "loss" else value)
        tidy(axes)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize="small",
    )
    save(figure, folder, "curves")
