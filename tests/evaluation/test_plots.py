"""The pictures show what was measured: matplotlib says what it was given to draw."""

import io
import os
from importlib import import_module

import numpy as np
import pytest
from matplotlib.image import imread
from reports import assert_report_files
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from eqxesm.evaluation import assess, plots

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
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
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
    half = np.sqrt(observed * (1 - observed) / number)
    assert [end[1, 1] - end[0, 1] for end in errors] == pytest.approx(2 * half)


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
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert ticks[0] == f"a\nn = {rows[0]['proteins']}"


def test_bins_without_metrics_are_left_empty(assessment):
    first, *rest = assessment["by_length"]
    figure = plots._draw_bins([{**first, **dict.fromkeys(PREDICTORS)}, *rest], list("abcd"), "length")
    assert [found[:, 0].round().tolist() for found in points(figure)] == [[1, 2, 3]] * 3
    assert len(figure.axes[0].get_xticks()) == 4


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
