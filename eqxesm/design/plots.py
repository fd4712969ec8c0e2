"""Pictures of attributions and substitutions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eqxesm.design.constraints import find_changes
from eqxesm.design.search import Design, Search
from eqxesm.drawing import COLOURS, DIVERGING, new_figure, to_bytes
from eqxesm.files import expand_user, write_file

ACROSS = 60
"""Residues in a row."""

NARROW = 24
"""Residues that there is room for at least, so that titles and scales fit."""

LETTERS = "AVILMFWYCGPSTNQHKRDE"
"""Residues by kind: hydrophobic, special, polar, charged."""

MISSING = "0.85"

CONTRIBUTES = "what each residue contributes to the logit of being soluble"

Row = Mapping[str, Any]


def draw_attribution(path: str, rows: Sequence[Row], weights: bool = False) -> None:
    """The protein in rows of 60, each residue coloured by its contribution or weight. What is stripped is grey."""
    values = np.array([np.nan if row["attribution"] is None else row["attribution"] for row in rows])
    lines, across = -(-len(rows) // ACROSS), _across(len(rows))
    figure, axes = new_figure(0.8 + 0.22 * across, 1.6 + 0.34 * lines)
    grid = np.full(lines * across, np.nan)
    grid[: len(values)] = values
    image = axes.imshow(grid.reshape(lines, across), cmap=DIVERGING, norm=_norm(values), aspect="auto")
    for number, row in enumerate(rows):
        place = number % ACROSS, number // ACROSS
        if row["attribution"] is None:
            axes.axvspan(place[0] - 0.5, place[0] + 0.5, *_share(place[1], lines), color=MISSING)
        dark = row["attribution"] is not None and np.mean(image.to_rgba(values[number])[:3]) < 0.55
        axes.text(*place, row["residue"], ha="center", va="center", size=9, color="white" if dark else "black")
    _number(axes, lines, min(across, len(rows)))
    title = "how much each residue counts in the head" if weights else CONTRIBUTES
    axes.set_title(f"{rows[0]['id']}: {title}", loc="left", size=11, parse_math=False)
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", fraction=0.05, aspect=40, pad=0.02)
    scale = "weight" if weights else "less soluble  ←  contribution to the logit  →  more soluble"
    bar.set_label(scale + "\ngrey: stripped" * bool(np.isnan(values).any()), size=9)
    bar.ax.tick_params(labelsize=8)
    save(figure, path)


def draw_scan(path: str, rows: Sequence[Row]) -> None:
    """A map of all substitutions: a column for each position, a row for each residue, in blocks of 60 positions."""
    kinds = [name for name in ("delta_logit", "llr") if rows[0][name] is not None]
    titles = {
        "delta_logit": ("change of the logit of being soluble", "less  ←  logit  →  more soluble"),
        "llr": ("log-likelihood ratio to the wild type", "less  ←  nats  →  more natural"),
    }
    first, last = (side(row["position"] for row in rows) for side in (min, max))
    letters = {row["position"]: row["wild_type"] for row in rows}
    blocks = range(first, last + 1, ACROSS)
    across = _across(last + 1 - first)
    figure = Figure(figsize=(2 + 0.2 * across, 3.4 * len(blocks) * len(kinds) + 0.6), layout="constrained")
    axes = figure.subplots(len(blocks) * len(kinds), 1, squeeze=False)[:, 0]
    for number, kind in enumerate(kinds):
        table = np.full((len(LETTERS), last + 1), np.nan)
        for row in rows:
            table[LETTERS.index(row["mutant"]), row["position"]] = row[kind]
        own = axes[number * len(blocks) : (number + 1) * len(blocks)]
        for start, axis in zip(blocks, own, strict=True):
            stop = min(start + ACROSS, last + 1)
            image = axis.imshow(
                table[:, start:stop], cmap=DIVERGING, norm=_norm(table), aspect="auto",
                extent=(start - 0.5, stop - 0.5, len(LETTERS) - 0.5, -0.5),
            )  # fmt: skip
            _dress(axis, start, stop, letters, across)
        title, unit = titles[kind]
        own[0].set_title(f"{rows[0]['id']}: {title}", loc="left", size=11, parse_math=False)
        bar = figure.colorbar(image, ax=list(own), shrink=min(1, 1.2 / len(blocks)), aspect=25, pad=0.01)
        bar.set_label(unit)
    save(figure, path)


def draw_designs(path: str, search: Search, proposals: Sequence[Design]) -> None:
    """All designs that were scored, by what is lost for what is gained, and the proposals among them."""
    natural = search.objective.language_model is not None

    def place(design: Design) -> tuple[float, float]:
        changed = find_changes(search.wild_type, design.sequence)
        return (design.likelihood if natural else len(changed)), design.left_out

    figure, axes = new_figure(7, 4.8)
    for designs, size, colour, marker, name in (
        (list(search.known.values()), 10, "0.7", "o", f"scored ({len(search.known):,})"),
        (proposals, 30, COLOURS[1], "o", f"proposed ({len(proposals):,})"),
        ([search.before], 60, COLOURS[0], "D", "as it is"),
    ):
        x, y = zip(*map(place, designs), strict=True)
        axes.scatter(x, y, s=size, color=colour, marker=marker, label=name, linewidths=0)
    axes.set_xlabel("change of the log-likelihood, nats (right: more natural)" if natural else "mutations")
    axes.set_ylabel("logit by members left out (up: more soluble)")
    if not natural:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    save(figure, path)


def _across(residues: int) -> int:
    """Residues in a row of a protein."""
    return min(ACROSS, max(NARROW, residues))


def _dress(axis: Axes, start: int, stop: int, letters: Mapping[int, str], across: int) -> None:
    """Residues at the left, positions below, and the wild type above, whose own cells have a dot."""
    axis.set_xlim(start - 0.5, start + across - 0.5)
    axis.set_facecolor("white")
    axis.set_yticks(range(len(LETTERS)), list(LETTERS), size=7)
    # The first one, too, unless it runs into the next.
    shown = [each for each in range(start, stop) if each % 10 == 0 or (each == start and each % 10 < 8)]
    axis.set_xticks(shown, [str(position) for position in shown], size=8)
    above = axis.secondary_xaxis("top")
    known = [position for position in range(start, stop) if position in letters]
    above.set_xticks(known, [letters[position] for position in known], size=7)
    above.tick_params(length=0)
    for position in known:
        if letters[position] in LETTERS:
            axis.plot(position, LETTERS.index(letters[position]), ".", color="0.4", markersize=2)


def _norm(values: Float[np.ndarray, "..."]) -> TwoSlopeNorm:
    """Zero in the middle, and as far to both sides."""
    largest = float(np.nanmax(np.abs(values), initial=1e-6))
    return TwoSlopeNorm(0, -largest, largest)


def _share(line: int, lines: int) -> tuple[float, float]:
    """From where to where a line reaches, from the bottom of the axes."""
    return 1 - (line + 1) / lines, 1 - line / lines


def _number(axes: Axes, lines: int, length: int) -> None:
    axes.set_xticks([*range(9, length, 10)], [str(number) for number in range(10, length + 1, 10)], size=8)
    axes.set_yticks(range(lines), [str(line * ACROSS + 1) for line in range(lines)], size=8)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def save(figure: Figure, path: str) -> None:
    """Write a figure whole or not at all, as its ending says."""
    out = Path(expand_user(path))
    write_file(out, to_bytes(figure, out.suffix[1:].lower(), 130))
