"""The table of epochs and the learning curves, as a reader sees them."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from eqxesm.training import Epoch, Scores, curves
from eqxesm.training.curves import draw_curves, format_epoch, format_epochs, format_head

LONG = "A set whose name goes on and on, from 2019"
MANY = [f"set {number} of a series of published sets" for number in range(12)]


def make(number: int, loss: float, tests: list[str]) -> Epoch:
    scores = {name: Scores(0.9 + place, 0.25) for place, name in enumerate(tests)}
    training, validation = Scores(loss / 2, 0.875), Scores(loss, 0.5)
    return Epoch(number, 3 * number, training, validation, scores, 1e-3, 2.0, 61.25 * number)


def make_epochs(losses: list[float], tests: list[str]) -> list[Epoch]:
    return [make(number, loss, tests) for number, loss in enumerate(losses, 1)]


def test_line_of_the_table_shows_every_score():
    line = format_epoch(make(7, 0.5, ["test"]), best=True)
    assert line.split() == [
        "7", "0.2500", "0.875", "0.5000", "0.500", "0.9000", "0.250", "428.8", "best", "so", "far"
    ]  # fmt: skip
    assert "best" not in format_epoch(make(7, 0.5, []), best=False)


@pytest.mark.parametrize("tests", [[], ["test"], ["PLM_Sol test", LONG, "x" * 40], MANY])
@pytest.mark.parametrize("number", [1, 12345])
def test_values_end_below_their_column_heads(tests, number):
    *_, head = format_head(tests).splitlines()
    line = format_epoch(make(number, 100.5, tests), best=False)
    ends = [[match.end() for match in re.finditer(r"\S+", text)] for text in (head, line)]
    assert ends[0] == ends[1]
    assert len(ends[0]) == 2 + 2 * (2 + len(tests))


@pytest.mark.parametrize("tests", [["DeepSol test", LONG, "x" * 40], MANY])
def test_wrapped_names_are_complete_and_above_their_columns(tests):
    *above, head = format_head(tests).splitlines()
    names = ["training", "validation", *tests]
    places = [match.span() for match in re.finditer(r"loss  accuracy", head)]
    for name, (start, end) in zip(names, places, strict=True):
        parts = [line.ljust(end)[start - 2 : end].strip() for line in above]
        assert "".join(parts).replace(" ", "") == name.replace(" ", "")
    # Nothing is written between the columns.
    for line in above:
        between = [line.ljust(places[-1][1])[start - 4 : start - 2] for start, _ in places]
        assert set("".join(between)) <= {" "}


def test_markdown_table_marks_the_best_epoch_and_escapes_names():
    head, rule, *rows = format_epochs(make_epochs([0.7, 0.5, 0.6], ["a|b"])).splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in (head, *rows)]
    assert cells[0] == [
        "epoch", "training loss", "accuracy", "validation loss", "accuracy", "a\\|b loss",
        "accuracy", "seconds",
    ]  # fmt: skip
    assert rule == "|" + "---:|" * len(cells[0])
    assert [row[0] for row in cells[1:]] == ["1", "**2**", "3"]
    assert cells[2][1:] == ["0.2500", "0.875", "0.5000", "0.500", "0.9000", "0.250", "122.5"]


def drawn(monkeypatch, folder: Path, epochs: list[Epoch]) -> Figure:
    """Draw the curves, and keep the figure that was saved."""
    figures: list[Figure] = []
    save = curves.save_figure
    monkeypatch.setattr(curves, "save_figure", lambda figure, *rest: (figures.append(figure), save(figure, *rest)))
    draw_curves(folder, epochs)
    return figures[0]


@pytest.mark.parametrize(
    ("count", "tests"), [(1, ["test"]), (3, []), (40, ["DeepSol test", LONG, "x" * 40]), (12, MANY)]
)
def test_curves_show_every_set_and_leave_room_for_the_legend(count, tests, tmp_path, monkeypatch):
    losses = np.linspace(0.9, 0.4, count).round(3).tolist()
    epochs = make_epochs(losses, tests)
    figure = drawn(monkeypatch, tmp_path, epochs)
    for axes, value in zip(figure.axes, ("loss", "accuracy"), strict=True):
        *lines, best = axes.get_lines()
        sets = [{"training": e.training, "validation": e.validation, **e.tests} for e in epochs]
        for line, name in zip(lines, ["training", "validation", *tests], strict=True):
            assert str(line.get_label()).replace("\n", " ") == name
            np.testing.assert_array_equal(line.get_xdata(), range(1, count + 1))
            np.testing.assert_array_equal(line.get_ydata(), [getattr(each[name], value) for each in sets])
        assert best.get_xdata() == [count, count]
        # No two sets look the same, and no tick is between two epochs.
        assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}) == len(lines)
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks == [round(tick) for tick in ticks]
        assert ticks
    (legend,) = figure.legends
    assert len(legend.get_texts()) == len(tests) + 3
    whole, inside = figure.bbox, legend.get_window_extent()
    assert whole.x0 <= inside.x0 < inside.x1 <= whole.x1
    panels = [axes.get_window_extent() for axes in figure.axes]
    assert min(panel.height for panel in panels) > 0.4 * 3.4 * figure.dpi
    assert imread(tmp_path / "curves.png").shape[1] == 1200
    assert (tmp_path / "curves.svg").read_text().startswith("<?xml")


def test_curves_of_two_runs_have_the_same_axes(tmp_path, monkeypatch):
    for name, losses in (("a", [0.69, 0.4, 0.5]), ("b", [0.93, 0.9])):
        (tmp_path / name).mkdir()
        loss, accuracy = drawn(monkeypatch, tmp_path / name, make_epochs(losses, [])).axes
        assert loss.get_ylim() == (0, 1)
        assert accuracy.get_ylim() == pytest.approx((-0.02, 1.02))
        monkeypatch.undo()


def test_long_runs_are_lines_without_markers(tmp_path, monkeypatch):
    for count, marked in ((3, True), (300, False)):
        (tmp_path / str(count)).mkdir()
        figure = drawn(monkeypatch, tmp_path / str(count), make_epochs([0.5] * count, []))
        lines = figure.axes[0].get_lines()[:2]
        assert [line.get_marker() not in ("", "None") for line in lines] == [marked] * 2
        monkeypatch.undo()
