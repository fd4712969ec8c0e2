"""The interval around a probability."""

import numpy as np
import pytest
from scipy.special import expit, logit

from eqxesm import Calibration, InputError
from eqxesm.evaluation import fit_margin, group_errors
from eqxesm.forms import COVERED, GROUP


def draw(sources: int, seed: int, spread: float = 0.5, each: int = 500):
    """Proteins whose sources differ from the logits by amounts of a normal distribution."""
    rng = np.random.default_rng(seed)
    names = np.repeat(np.arange(sources), each)
    logits = rng.normal(size=len(names)).astype(np.float32)
    labels = rng.random(len(names)) < expit(logits + rng.normal(size=sources)[names] * spread)
    return logits, labels.astype(int), names


def test_an_error_is_that_of_a_group_of_like_proteins_of_one_source():
    rng = np.random.default_rng(0)
    logits = np.repeat([-1.0, 1.0], GROUP).astype(np.float32)
    labels = np.concatenate([np.arange(GROUP) < 10, np.arange(GROUP) < 30]).astype(int)
    order = rng.permutation(2 * GROUP)
    errors = group_errors(logits[order], labels[order], np.full(2 * GROUP, "a"))
    np.testing.assert_allclose(errors, [abs(logit(10.5 / 51) + 1), abs(logit(30.5 / 51) - 1)], rtol=1e-6)


def test_new_sources_lie_within_the_margin_as_often_as_it_says():
    margin = fit_margin(*draw(600, 0, each=100))
    shares = [(group_errors(*draw(600, seed, each=100)) <= margin).mean() for seed in (1, 2)]
    assert np.mean(shares) == pytest.approx(COVERED, abs=0.03)


def test_a_margin_counts_the_next_group():
    errors = group_errors(*draw(3, 5))
    level = COVERED * (len(errors) + 1) / len(errors)
    assert fit_margin(*draw(3, 5)) == np.quantile(errors, level, method="inverted_cdf")


def test_refuses_a_margin_of_too_few_groups():
    with pytest.raises(InputError, match="8 groups of 50 held-out proteins of one source are too few"):
        fit_margin(*draw(1, 0, each=8 * GROUP))


def test_no_protein_of_a_source_is_left_out_of_its_groups():
    logits, labels, _ = draw(1, 0, each=GROUP + 30)
    (error,) = group_errors(logits, labels, np.zeros(GROUP + 30))
    share = (labels.sum() + 0.5) / (GROUP + 31)
    np.testing.assert_allclose(error, abs(logit(share) - logits.mean()), rtol=1e-5)


@pytest.mark.parametrize(("probability", "inside"), [(0.0, (0, 1e-5)), (1.0, (1 - 1e-5, 1))])
def test_a_probability_that_is_rounded_to_certainty_has_an_interval(probability, inside):
    low, high = Calibration(margin=2.0).interval(probability)
    assert inside[0] <= low < high <= inside[1]
