from importlib import import_module

import numpy as np
import pytest
from labelled_proteins import LABELS, PROTEINS
from reference_metrics import assert_measured, reference_metrics

from eqxesm.errors import InputError
from eqxesm.evaluation import assess

PREDICTORS = ("model", "tag_rule", "composition")
# The name `eqxesm.evaluation.assess` is the function.
quantile_bins = import_module("eqxesm.evaluation.assess").quantile_bins

pytestmark = pytest.mark.usefixtures("few_resamples")


def with_predictions(sequences, labels):
    """Add predictions of all predictors, that agree with the labels more or less."""
    noise = np.random.default_rng(0).random((3, len(labels)))
    predictions = {name: (noise[i] + labels) / 2 for i, name in enumerate(PREDICTORS)}
    return sequences, np.array(labels), predictions


@pytest.mark.parametrize(
    ("starts", "proteins", "soluble", "note"),
    [
        (("G", "G"), 0, 0, "no protein starts with Met and has no His tag"),
        (("M", "G"), 10, 10, "all untagged proteins that start with Met are soluble"),
        (("G", "M"), 10, 0, "all untagged proteins that start with Met are insoluble"),
    ],
)
def test_the_untagged_of_one_class_have_a_note_and_no_metrics(starts, proteins, soluble, note):
    sequences = [starts[i % 2] + "AKLERV" * (i + 2) for i in range(20)]
    labels = [1 - i % 2 for i in range(20)]
    found = assess(*with_predictions(sequences, labels), {})["untagged"]
    assert found == {"proteins": proteins, "soluble": soluble, **dict.fromkeys(PREDICTORS), "note": note}


def test_identities_are_binned_from_their_lower_edge():
    identities = np.array([0, 0.29, 0.3, 0.49, 0.5, 0.899, 0.9, 1.0] * 5)
    sequences = [f"M{'AKLERV' * (i + 3)}" for i in range(40)]
    data = with_predictions(sequences, [i // 8 % 2 for i in range(40)])
    rows = assess(*data, {}, identities)["by_identity"]
    assert [row["identity"] for row in rows] == ["<30%", "30-50%", "50-90%", ">=90%"]
    _, labels, predictions = data
    for number, row in enumerate(rows):
        inside = np.arange(40) % 8 // 2 == number
        assert row["proteins"] == inside.sum() == 10
        assert row["soluble_share"] == labels[inside].mean() == 0.4
        for name in PREDICTORS:
            expected = reference_metrics(labels[inside], predictions[name][inside])
            for metric in ("auroc", "accuracy"):
                assert row[name][metric]["value"] == pytest.approx(expected[metric])


def test_an_empty_identity_bin_has_no_metrics():
    data = with_predictions([f"M{'AKLERV' * (i + 3)}" for i in range(8)], [0, 1] * 4)
    rows = assess(*data, {}, np.full(8, 0.4))["by_identity"]
    assert [row["proteins"] for row in rows] == [0, 8, 0, 0]
    assert rows[0] == {"identity": "<30%", "proteins": 0, "soluble_share": None, **dict.fromkeys(PREDICTORS)}


def test_each_predictor_has_its_threshold():
    sequences, labels, predictions = with_predictions(PROTEINS, LABELS)
    found = assess(sequences, labels, predictions, {"model": 0.3, "composition": 0.7})["all"]
    for name, threshold in (("model", 0.3), ("tag_rule", 0.5), ("composition", 0.7)):
        assert_measured(found[name], labels, predictions[name], threshold)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.ones(60, int)}, "all 60 labels are 1"),
        ({"labels": np.arange(60) % 3}, "label 3 is 2"),
        ({"sequences": PROTEINS[1:]}, r"labels have shape \[60\], expected \[59\]"),
        ({"identities": np.zeros(61)}, "61 identities but 60 sequences"),
        ({"predictions": {"model": np.zeros(61)}}, "61 predictions of model but 60 sequences"),
        ({"predictions": {"model": np.zeros(59)}}, "59 predictions of model but 60 sequences"),
        ({"predictions": {"model": np.full(60, 2.0)}}, "probability 1 is 2.0"),
        ({"predictions": {"model": np.full(60, np.nan)}}, "probability 1 is nan"),
    ],
)
def test_refuses_what_cannot_be_assessed(changes, message):
    sequences, labels, predictions = with_predictions(PROTEINS, LABELS)
    whole = {"sequences": sequences, "labels": labels, "predictions": predictions}
    with pytest.raises(InputError, match=message):
        assess(**{**whole, "thresholds": {}, **changes})


@pytest.mark.parametrize(
    ("values", "bins", "expected"),
    [
        ([4, 1, 3, 2], 2, [[1, 3], [0, 2]]),
        ([5, 5, 5], 4, [[0, 1, 2]]),
        ([1, 1, 1, 1, 1, 9], 3, [[0, 1, 2, 3, 4, 5]]),
        ([1, 1, 2, 2, 3, 3], 3, [[0, 1], [2, 3], [4, 5]]),
        ([7], 4, [[0]]),
    ],
)
def test_quantile_bins_keep_equal_values_together(values, bins, expected):
    assert [found.tolist() for found in quantile_bins(np.array(values), bins)] == expected
