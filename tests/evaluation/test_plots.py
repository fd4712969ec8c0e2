"""The pictures show what was measured: matplotlib says what it was given to draw."""

import io
import os
import re
from importlib import import_module

import numpy as np
import pytest
from matplotlib.image import imread
from paths import ROOT
from reports import assert_report_files
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from eqxesm import drawing
from eqxesm.evaluation import assess, explore_plots, plots
from eqxesm.evaluation.metrics import share_interval

PREDICTORS = ("model", "tag_rule", "composition")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    sequences = ["M" + "AKLERV" * n for n in rng.integers(3, 40, 80)]
    labels = rng.integers(2, size=80)
    predictions = {
        name: (rng.random(80) + weight * labels) / (1 + weight)
        for name, weight in zip(PREDICTORS, (1.0, 0.3, 0.1), strict=True)
    }
    return sequences, labels, predictions


@pytest.fixture(scope="module")
def assessment(data):
    with pytest.MonkeyPatch.context() as patch:
        # The name `eqxesm.evaluation.assess` is the function.
        patch.setattr(import_module("eqxesm.evaluation.assess"), "RESAMPLES", 50)
        return assess(*data, {"model": 0.6}, np.linspace(0, 0.8, 80))


def points(figure, panel=0):
    return [container.lines[0].get_xydata() for container in figure.axes[panel].containers]


def test_every_picture_is_written_as_png_and_svg(data, assessment, tmp_path):
    _, labels, predictions = data
    (tmp_path / "metrics.json").touch()
    plots.draw_evaluation(tmp_path, labels, predictions, 0.6, assessment)
    assert_report_files(tmp_path, "metrics.json", plots.PICTURES)
    for name in plots.PICTURES:
        assert min(imread(tmp_path / f"{name}.png").shape[:2]) >= 400


@pytest.mark.usefixtures("few_resamples")
def test_no_picture_by_identity_without_identities(data, tmp_path):
    _, labels, predictions = data
    plots.draw_evaluation(tmp_path, labels, predictions, 0.5, assess(*data, {}))
    assert not [name for name in os.listdir(tmp_path) if "identity" in name]


def test_the_same_data_give_the_same_pictures(data, assessment, tmp_path):
    _, labels, predictions = data
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        plots.draw_evaluation(tmp_path / name, labels, predictions, 0.6, assessment)
    for name in plots.PICTURES:
        first, second = (tmp_path / folder / f"{name}.png" for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_confusion_shows_counts_and_shares(data, threshold):
    _, labels, predictions = data
    figure = plots._draw_confusion(labels, predictions["model"], threshold)
    counts = confusion_matrix(labels, predictions["model"] >= threshold)
    shares = confusion_matrix(labels, predictions["model"] >= threshold, normalize="true")
    texts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert texts == {
        (column, row): f"{counts[row, column]}\n{shares[row, column]:.1%}" for row, column in np.ndindex(2, 2)
    }
    assert f"{threshold}" in figure.axes[0].get_xlabel()
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [
        "insoluble", "soluble",
    ]  # fmt: skip


def test_roc_curves_are_those_of_scikit_learn(data, assessment):
    _, labels, predictions = data
    figure = plots._draw_roc(labels, predictions, assessment["all"])
    _, *lines = figure.axes[0].lines
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    for line, words, name in zip(lines, legend, PREDICTORS, strict=True):
        false_rate, true_rate, _ = roc_curve(labels, predictions[name])
        np.testing.assert_array_equal(line.get_xydata(), np.array([false_rate, true_rate]).T)
        area = roc_auc_score(labels, predictions[name])
        assert words.startswith(f"{name.replace('_', ' ')}, AUROC {area:.3f} (")
        assert line.get_color() == plots.STYLES[name]["color"]


def test_reliability_is_that_of_scikit_learn(data, assessment):
    _, labels, predictions = data
    figure = plots._draw_reliability(assessment["reliability"]["model"])
    observed, predicted = calibration_curve(labels, predictions["model"], n_bins=10)
    (found,) = points(figure)
    np.testing.assert_allclose(found, np.array([predicted, observed]).T)
    counts, edges = np.histogram(predictions["model"], np.linspace(0, 1, 11))
    bars = figure.axes[1].patches
    assert [bar.get_height() for bar in bars] == counts.tolist()
    assert [bar.get_x() for bar in bars] == pytest.approx(edges[:-1])
    errors = figure.axes[0].containers[0].lines[2][0].get_segments()
    number = counts[counts > 0]
    assert min(number) > 1
    wilson = [
        binomtest(round(share * n), n).proportion_ci(method="wilson") for share, n in zip(observed, number, strict=True)
    ]
    np.testing.assert_allclose([end[:, 1] for end in errors], np.array(wilson), atol=1e-6)


@pytest.mark.parametrize(("soluble", "proteins"), [(0, 1), (1, 1), (0, 5), (3, 5), (17, 40), (2999, 3000)])
def test_intervals_of_shares_are_those_of_scipy(soluble, proteins):
    expected = binomtest(soluble, proteins).proportion_ci(method="wilson")
    assert share_interval(soluble / proteins, proteins) == pytest.approx(tuple(expected), abs=1e-6)


def bins_of(counts: list[int], shares: list[float]) -> list[dict]:
    return [
        {
            "from": place / len(counts),
            "proteins": n,
            "mean_probability": (place + 0.5) / len(counts) if n else None,
            "soluble_share": share if n else None,
        }
        for place, (n, share) in enumerate(zip(counts, shares, strict=True))
    ]


def test_bins_of_one_protein_are_neither_joined_nor_given_an_interval():
    rows = bins_of([1, 4, 1, 0, 9, 2, 1, 1, 30, 1], [0, 0.25, 1, 0, 1 / 3, 0.5, 1, 0, 0.9, 1])
    figure = plots._draw_reliability(rows)
    axes = figure.axes[0]
    several, lone = ([row for row in rows if row["proteins"] in wanted] for wanted in ((4, 9, 2, 30), (1,)))
    (joined,) = points(figure)
    assert joined.tolist() == [[row["mean_probability"], row["soluble_share"]] for row in several]
    assert len(axes.containers[0].lines[2][0].get_segments()) == len(several)
    # The guess, the line with its two rows of caps, the single ones, and their entry in the legend.
    singles = [line for line in axes.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    (single,) = singles
    assert single.get_xydata().tolist() == [[row["mean_probability"], row["soluble_share"]] for row in lone]
    assert single.get_linestyle() == "None"
    assert "a single protein" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_bins_of_residues_and_constructs_of_one_protein_are_not_joined_either():
    counted = [{"soluble_share": 1.0, "proteins": 1}, {"soluble_share": 0.5, "proteins": 2}]
    report = {
        "all": {"soluble_share": 0.6},
        "constructs": [{"construct": "Met, no tag", **counted[0]}, {"construct": "no Met, no tag", **counted[1]}],
        "residues": {
            residue: [{"frequency": 0.1 * place, **row} for place, row in enumerate(counted)]
            for residue in "ACDEFGHIKLMNPQRSTVWY"
        },
    }
    for figure in (explore_plots._draw_constructs(report), explore_plots._draw_residues(report)):
        for axes in figure.axes:
            (container,) = axes.containers
            assert len(container.lines[0].get_xdata()) == 1
            assert len(container.lines[2][0].get_segments()) == 1
    assert figure.axes[0].get_ylim() == (-0.02, 1.02)


def test_few_proteins_have_their_lengths_shown_one_by_one():
    rng = np.random.default_rng(0)
    for number, pieces in ((3, 0), (30, 0), (3000, 2)):
        lengths, labels = rng.integers(30, 900, number), np.arange(number) % 2
        axes = explore_plots._draw_lengths(lengths, labels).axes[0]
        assert len(axes.patches) == pieces
        if not pieces:
            drawn = sorted(tuple(point) for line in axes.lines for point in line.get_xydata())
            assert drawn == sorted(zip(lengths, labels, strict=True))


def test_bins_show_metrics_with_their_intervals(assessment):
    rows = assessment["by_length"]
    figure = plots._draw_bins(rows, ["a", "b", "c", "d"], "length")
    for panel, metric in enumerate(("auroc", "accuracy")):
        for number, name in enumerate(PREDICTORS):
            found = points(figure, panel)[number]
            assert found[:, 1] == pytest.approx([row[name][metric]["value"] for row in rows])
            assert found[:, 0].round().tolist() == [0, 1, 2, 3]
            container = figure.axes[panel].containers[number]
            assert container.lines[0].get_color() == plots.STYLES[name]["color"]
            ends = [segment[:, 1] for segment in container.lines[2][0].get_segments()]
            expected = [[row[name][metric][end] for end in ("low", "high")] for row in rows]
            np.testing.assert_allclose(ends, expected)
        # Two runs are compared by eye only where their axes are equal.
        assert figure.axes[panel].get_ylim() == pytest.approx((-0.02, 1.02))
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert ticks[0] == f"a\nn = {rows[0]['proteins']}"


def test_bins_without_metrics_are_left_empty(assessment):
    first, *rest = assessment["by_length"]
    figure = plots._draw_bins([{**first, **dict.fromkeys(PREDICTORS)}, *rest], list("abcd"), "length")
    assert [found[:, 0].round().tolist() for found in points(figure)] == [[1, 2, 3]] * 3
    assert len(figure.axes[0].get_xticks()) == 4


def test_bins_of_few_proteins_of_a_class_have_no_interval(assessment):
    rows = [{**row, "soluble_share": 1 / row["proteins"]} for row in assessment["by_length"][:2]]
    figure = plots._draw_bins([*rows, *assessment["by_length"][2:]], list("abcd"), "length")
    for axes in figure.axes:
        assert [len(container.lines[2][0].get_segments()) for container in axes.containers] == [2, 2, 2]
        hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
        assert [len(line.get_xdata()) for line in hollow] == [2, 2, 2]


def test_bins_of_one_class_are_said_to_be_so(assessment):
    rows = [{**row, **dict.fromkeys(PREDICTORS)} for row in assessment["by_length"]]
    figure = plots._draw_bins(rows, list("abcd"), "length")
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [["no bin has both classes"]] * 2


def test_a_roc_curve_of_few_proteins_has_no_interval():
    labels, predictions = np.array([0, 1, 0]), {"model": np.array([0.1, 0.9, 0.4])}
    figure = plots._draw_roc(labels, predictions, {"model": {"auroc": {"value": 1.0, "low": 1.0, "high": 1.0}}})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["model, AUROC 1.000"]
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim() == (-0.02, 1.02)
    assert figure.axes[0].get_title() == "1 soluble, 2 insoluble proteins"


def test_series_differ_and_their_colours_are_told_apart_by_the_colour_blind():
    styles = [drawing.style_series(number) for number in range(36)]
    assert len({(style["color"], style["marker"]) for style in styles}) == 36
    assert len({(style["color"], str(style["linestyle"])) for style in styles}) == 36
    # What people without long-wave cones see, by Vienot, Brettel and Mollon 1999.
    rgb = np.array([[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)] for colour in drawing.COLOURS])
    seen = (rgb**2.2) @ np.array([[0.11238, 0.11238, 0.00401], [0.88762, 0.88762, -0.00401], [0, 0, 1]])
    seen = seen.clip(0, 1) ** (1 / 2.2)
    for number, colour in enumerate(seen):
        others = np.delete(seen, number, axis=0)
        assert np.abs(others - colour).max(axis=1).min() > 0.09


@pytest.mark.parametrize("package", ["eqxesm", "conversion", "benchmarks"])
def test_colours_come_from_one_palette(package):
    own = re.compile(r"#[0-9A-Fa-f]{6}\b|tab:|tab10|color_sequences")
    files = [path for path in (ROOT / package).rglob("*.py") if path.name != "drawing.py"]
    assert files
    assert not [path.name for path in files if own.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    ("losses", "top"),
    [([0.69, 0.7], 1), ([], 1), ([0.2, float("nan"), float("inf")], 1), ([1.2, 0.1], 2), ([2.2], 3), ([17.0], 20),
     ([301.0], 500)],
)  # fmt: skip
def test_axes_of_losses_start_at_zero_and_end_at_round_numbers(losses, top):
    assert drawing.loss_limits(losses) == (0, top)


def test_axes_of_metrics_hold_their_whole_range():
    for metric, low in (("AUROC", 0), ("accuracy", 0), ("MCC", -1), ("Spearman", -1)):
        bottom, upper = drawing.metric_limits(metric)
        assert bottom < low
        assert bottom == pytest.approx(low, abs=0.05)
        assert upper == pytest.approx(1, abs=0.05)


def test_predictors_differ_in_colour_marker_and_line():
    for key in ("color", "marker", "linestyle"):
        assert len({style[key] for style in plots.STYLES.values()}) == 3


def test_long_names_leave_room_for_the_calibration(assessment, monkeypatch):
    figures, new_figure = [], plots.new_figure

    def keep(*sizes):
        made = new_figure(*sizes)
        figures.append(made[0])
        return made

    monkeypatch.setattr(plots, "new_figure", keep)
    rows = assessment["reliability"]["model"]
    plots.draw_calibration({"A set whose name goes on and on, from 2019, " * 3: rows, "x" * 80: rows})
    (figure,) = figures
    (axes,), (legend,) = figure.axes, figure.legends
    whole, inside, panel = figure.bbox, legend.get_window_extent(), axes.get_window_extent()
    assert whole.x0 <= inside.x0 < inside.x1 <= whole.x1
    assert whole.y0 <= inside.y0 < inside.y1 < panel.y0
    assert panel.width > 0.8 * whole.width
    assert panel.height > 0.6 * 4.6 * figure.dpi


def test_calibration_is_drawn_for_every_test_set(assessment):
    rows = assessment["reliability"]["model"]
    one, two = plots.draw_calibration({"a": rows}), plots.draw_calibration({"a": rows, "b": rows[3:]})
    assert plots.draw_calibration({"a": rows}) == one
    for picture in (one, two):
        pixels = imread(io.BytesIO(picture))
        assert min(pixels.shape[:2]) >= 400
        assert pixels[..., :3].std() > 0.05
    assert one != two
