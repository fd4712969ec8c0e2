"""Figures of assays: against scikit-learn and scipy, and intervals against another bootstrap."""

import shutil

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from eqxesm import Target
from eqxesm.data.similarity import PROGRAM
from eqxesm.evaluation.assay import fit_composition, measure, predict_nearest

RNG = np.random.default_rng(3)
NUMBER = Target("y", "number")
THREE = Target("y", "classes", classes=("a", "b", "c"))


def correlated(count: int) -> tuple[np.ndarray, np.ndarray]:
    truth = RNG.normal(size=count) * 20 + 300
    return truth, truth + 15 * RNG.normal(size=count)


def test_figures_of_numbers_are_those_of_scipy_and_scikit_learn():
    truth, found = correlated(80)
    figures = measure(NUMBER, truth, found)
    assert figures["spearman"].value == pytest.approx(stats.spearmanr(truth, found).statistic)
    assert figures["pearson"].value == pytest.approx(stats.pearsonr(truth, found).statistic)
    assert figures["r2"].value == pytest.approx(metrics.r2_score(truth, found))
    assert figures["rmse"].value == pytest.approx(metrics.root_mean_squared_error(truth, found))


def test_a_constant_goes_with_nothing():
    truth, _ = correlated(30)
    figures = measure(NUMBER, truth, np.full(30, 301.7))
    assert figures["spearman"].value == figures["pearson"].value == 0
    assert figures["pearson"].high == 0


def test_intervals_are_those_of_a_plain_bootstrap():
    truth, found = correlated(60)
    figures = measure(NUMBER, truth, found)
    rng = np.random.default_rng(9)
    for name, plain in {
        "spearman": lambda a, b: stats.spearmanr(a, b).statistic,
        "r2": metrics.r2_score,
        "rmse": metrics.root_mean_squared_error,
    }.items():
        drawn = []
        for _ in range(2000):
            chosen = rng.integers(60, size=60)
            drawn.append(plain(truth[chosen], found[chosen]))
        low, high = np.percentile(drawn, [2.5, 97.5])
        width = high - low
        assert figures[name].low == pytest.approx(low, abs=0.15 * width)
        assert figures[name].high == pytest.approx(high, abs=0.15 * width)


def test_figures_of_classes_are_those_of_scikit_learn():
    truth = RNG.integers(3, size=90)
    scores = np.eye(3)[truth] + 0.9 * RNG.uniform(size=(90, 3))
    figures = measure(THREE, truth.astype(float), scores)
    called = scores.argmax(axis=1)
    assert figures["accuracy"].value == pytest.approx(metrics.accuracy_score(truth, called))
    assert figures["macro_f1"].value == pytest.approx(metrics.f1_score(truth, called, average="macro"))
    assert figures["mcc"].value == pytest.approx(metrics.matthews_corrcoef(truth, called))


def test_residues_are_counted_one_by_one_and_unknown_ones_not_at_all():
    target = Target("y", "residues", classes=tuple("HEC"))
    truth = [RNG.integers(3, size=length).astype(float) for length in (5, 30, 12)]
    truth[1][:4] = np.nan
    scores = [np.eye(3)[RNG.integers(3, size=len(each))] for each in truth]
    known = ~np.isnan(np.concatenate(truth))
    flat, called = np.concatenate(truth)[known], np.concatenate(scores).argmax(axis=1)[known]
    assert measure(target, truth, scores)["accuracy"].value == pytest.approx(metrics.accuracy_score(flat, called))


def test_an_order_of_classes_is_ranked_by_the_expected_one():
    target = Target("y", "ordinal", classes=("a", "b", "c"))
    truth, chances = RNG.integers(3, size=40).astype(float), RNG.dirichlet(np.ones(3), 40)
    expected = stats.spearmanr(truth, chances @ np.arange(3)).statistic
    assert measure(target, truth, chances)["spearman"].value == pytest.approx(expected)


def random_proteins(count: int) -> list[str]:
    return ["".join(RNG.choice(list("ACDEFGHIKLMNPQRSTVWY"), 80)) for _ in range(count)]


@pytest.mark.parametrize("target", [NUMBER, Target("y", "fraction")])
def test_composition_learns_a_number_that_follows_from_it(target):
    proteins = random_proteins(60)
    values = np.array([each.count("K") / 80 for each in proteins])
    found = fit_composition(target, proteins[:40], values[:40])(proteins[40:])
    assert metrics.r2_score(values[40:], found) > 0.9


def test_letters_learn_classes_that_follow_from_them():
    target = Target("y", "residues", classes=tuple("HC"))
    proteins = random_proteins(4)
    truth = [np.array([float(letter in "AEL") for letter in each]) for each in proteins]
    found = fit_composition(target, proteins[:3], truth[:3])(proteins[3:])
    np.testing.assert_array_equal(found[0].argmax(axis=1), truth[3])


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="MMseqs2 is not installed")
def test_the_most_similar_protein_lends_its_value():
    proteins = random_proteins(4)
    found = predict_nearest(NUMBER, proteins[:3], np.array([1.0, 2.0, 6.0]), [proteins[1][5:], proteins[3]])
    np.testing.assert_allclose(found, [2.0, 3.0])
    shares = predict_nearest(THREE, proteins[:3], np.array([0.0, 2.0, 2.0]), [proteins[1], proteins[3]])
    np.testing.assert_allclose(shares, [[0, 0, 1], [1 / 3, 0, 2 / 3]])
