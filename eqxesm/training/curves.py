"""What people see of a run: a table of epochs, and learning curves."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from eqxesm.evaluation.plots import save, tidy
from eqxesm.training.store import Epoch, Scores

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Told apart by the colour-blind (Wong 2011, doi:10.1038/nmeth.1618)."""


def _sets(epoch: Epoch) -> dict[str, Scores]:
    return {"training": epoch.training, "validation": epoch.validation, **epoch.tests}


def format_head(tests: Sequence[str]) -> str:
    """Write the head of the table of epochs.

    Args:
        tests: names of the test sets.

    Returns:
        Two lines of text.
    """
    names = ["training", "validation", *tests]
    above = "       " + "".join(f"{name[:16]:^18}" for name in names)
    return f"{above.rstrip()}\nepoch  " + "    loss  accuracy" * len(names) + "   seconds"


def format_epoch(epoch: Epoch, best: bool) -> str:
    """Write an epoch as a line of the table.

    Args:
        epoch: what came of it.
        best: whether it is the best by validation so far; it is marked.

    Returns:
        A line of text.
    """
    cells = "".join(f"  {each.loss:6.4f}  {each.accuracy:8.3f}" for each in _sets(epoch).values())
    return f"{epoch.number:5}  {cells}{epoch.seconds:10.1f}{'  best so far' if best else ''}"


def format_table(epochs: Sequence[Epoch]) -> str:
    """Write the table of epochs in Markdown.

    Args:
        epochs: all of them.

    Returns:
        The table; the best epoch by validation loss is bold.
    """
    names = list(_sets(epochs[0]))
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
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in epochs]
    best = min(epochs, key=lambda epoch: epoch.validation.loss).number
    for axes, value in zip(panels, ("loss", "accuracy"), strict=True):
        for name, colour in zip(_sets(epochs[0]), COLOURS * len(epochs[0].tests), strict=False):
            values = [getattr(_sets(epoch)[name], value) for epoch in epochs]
            axes.plot(numbers, values, color=colour, marker=".", markersize=4, label=name)
        axes.axvline(
            best, color="0.6", linewidth=1, linestyle=":", zorder=0, label="best by validation"
        )
        axes.set_xlabel("epoch")
        axes.set_ylabel("cross-entropy (nats)" if value == "loss" else value)
        axes.xaxis.get_major_locator().set_params(integer=True)
        tidy(axes)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize="small",
    )
    save(figure, folder, "curves")
