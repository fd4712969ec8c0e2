"""Pictures of attributions and substitutions."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from eqxesm.design.constraints import find_changes
from eqxesm.design.search import Design, Search
from eqxesm.files import expand_user, write_file

COLOURS = "PuOr"
"""Diverging, and safe for the colour-blind."""

ACROSS = 60
"""Residues in a row."""

LETTERS = "AVILMFWYCGPSTNQHKRDE"
"""Residues by kind: hydrophobic, special, polar, charged."""

MISSING = "0.85"

CONTRIBUTES = "what each residue contributes to the logit of being soluble"

Row = Mapping[str, Any]


def draw_attribution(path: str, rows: Sequence[Row], weights: bool = False) -> None:
    """The protein in rows of 60, each residue coloured by its contribution or weight. What is stripped is grey."""
    values = np.array([np.nan if row["attribution"] is None else row["attribution"] for row in rows])
    lines = -(-len(rows) // ACROSS)
    figure = Figure(figsize=(14, 1.6 + 0.34 * lines), layout="constrained")
    axes = figure.subplots()
    grid = np.full(lines * ACROSS, np.nan)
    grid[: len(values)] = values
    image = axes.imshow(grid.reshape(lines, ACROSS), cmap=COLOURS, norm=_norm(values), aspect="auto")
    for number, row in enumerate(rows):
        place = number % ACROSS, number // ACROSS
        if row["attribution"] is None:
            axes.axvspan(place[0] - 0.5, place[0] + 0.5, *_share(place[1], lines), color=MISSING)
        dark = abs(values[number]) > 0.6 * np.nanmax(np.abs(values))
        axes.text(*place, row["residue"], ha="center", va="center", size=9, color="white" if dark else "black")
    _number(axes, lines)
    title = "how much each residue counts in the head" if weights else CONTRIBUTES
    axes.set_title(f"{rows[0]['id']}: {title}", loc="left", size=11, parse_math=False)
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.4, aspect=40, pad=0.02)
    scale = "weight" if weights else "less soluble  ←  contribution  →  more soluble"
    bar.set_label(scale + "      grey: stripped" * bool(np.isnan(values).any()))
    save(figure, path)


def draw_scan(path: str, rows: Sequence[Row]) -> None:
    """A map of all substitutions: a column for each position, a row for each residue, in blocks of 60 positions."""
    kinds = [name for name in ("delta_logit", "llr") if rows[0][name] is not None]
    titles = {"delta_logit": "change of the logit of being soluble", "llr": "log-likelihood ratio to the wild type"}
    first, last = (side(row["position"] for row in rows) for side in (min, max))
    letters = {row["position"]: row["wild_type"] for row in rows}
    blocks = range(first, last + 1, ACROSS)
    height = 3.4 * len(blocks) * len(kinds)
    figure = Figure(figsize=(14, height + 0.6), layout="constrained")
    axes = figure.subplots(len(blocks) * len(kinds), 1, squeeze=False)[:, 0]
    for number, kind in enumerate(kinds):
        table = np.full((len(LETTERS), last + 1), np.nan)
        for row in rows:
            table[LETTERS.index(row["mutant"]), row["position"]] = row[kind]
        own = axes[number * len(blocks) : (number + 1) * len(blocks)]
        for start, axis in zip(blocks, own, strict=True):
            stop = min(start + ACROSS, last + 1)
            image = axis.imshow(
                table[:, start:stop], cmap=COLOURS, norm=_norm(table), aspect="auto",
                extent=(start - 0.5, stop - 0.5, len(LETTERS) - 0.5, -0.5),
            )  # fmt: skip
            _dress(axis, start, stop, letters)
        own[0].set_title(f"{rows[0]['id']}: {titles[kind]}", loc="left", size=11, parse_math=False)
        figure.colorbar(image, ax=list(own), shrink=min(1, 1.2 / len(blocks)), aspect=25, pad=0.01)
    save(figure, path)


def draw_designs(path: str, search: Search, proposals: Sequence[Design]) -> None:
    """All designs that were scored, by what is lost for what is gained, and the proposals among them."""
    natural = search.objective.language_model is not None

    def place(design: Design) -> tuple[float, float]:
        changed = find_changes(search.wild_type, design.sequence)
        return (design.likelihood if natural else len(changed)), design.left_out

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for designs, size, colour, marker, name in (
        (list(search.known.values()), 10, "0.7", "o", "scored"),
        (proposals, 30, "#E66100", "o", "proposed"),
        ([search.before], 60, "#5D3A9B", "D", "as it is"),
    ):
        x, y = zip(*map(place, designs), strict=True)
        axes.scatter(x, y, s=size, color=colour, marker=marker, label=name, linewidths=0)
    axes.set_xlabel("change of the log-likelihood, nats (right: more natural)" if natural else "mutations")
    axes.set_ylabel("logit by members left out (up: more soluble)")
    axes.legend(frameon=False)
    save(figure, path)


def _dress(axis: Axes, start: int, stop: int, letters: Mapping[int, str]) -> None:
    """Residues at the left, positions below, and the wild type above, whose own cells have a dot."""
    axis.set_xlim(start - 0.5, start + ACROSS - 0.5)
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


def _number(axes: Axes, lines: int) -> None:
    axes.set_xticks([*range(9, ACROSS, 10)], [str(number) for number in range(10, ACROSS + 1, 10)], size=8)
    axes.set_yticks(range(lines), [str(line * ACROSS + 1) for line in range(lines)], size=8)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def save(figure: Figure, path: str) -> None:
    """Write a figure whole or not at all, as its ending says."""
    out = Path(expand_user(path))
    stream = io.BytesIO()
    figure.savefig(stream, format=out.suffix[1:].lower(), dpi=130)
    write_file(out, stream.getvalue())
