import csv
import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, matthews_corrcoef, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.data.cleaning import Cleaning
from eqxesm.errors import InputError
from eqxesm.evaluation import (
    Baselines,
    CompositionRegression,
    TagRule,
    fit_baselines,
    is_untagged_met,
)
from eqxesm.solubility import locate

DATA = Path(__file__).parents[2] / "shared" / "data"
BODY = "ADKLERTGIVQNWFYCPSADKLERTGIVQNWFYCPSADKLERTGIVQNWFYCPS"
N_TAGGED, C_TAGGED = "MGSSHHHHHHSSG" + BODY, "M" + BODY + "LEHHHHHH"
BASELINES = (TagRule, CompositionRegression)


def read(name):
    """Read one labelled set, by nothing but the standard library."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs the labelled set {name}")
    if path.suffix == ".csv":
        with path.open() as file:
            rows = [(row["sequences"], row["labels"]) for row in csv.DictReader(file)]
    else:
        entries = [entry.split("\n", 1) for entry in path.read_text().split(">")[1:]]
        rows = [(body.replace("\n", ""), header.strip()[-1]) for header, body in entries]
    sequences, labels = zip(*rows, strict=True)
    return list(sequences), np.array(labels, int)


def test_untagged_met():
    assert is_untagged_met("M" + BODY)
    assert not is_untagged_met(BODY)
    assert not is_untagged_met(N_TAGGED)
    assert not is_untagged_met(C_TAGGED)


def test_tag_rule_counts_by_hand():
    sequences = ["M" + BODY] * 3 + [N_TAGGED] * 4 + [C_TAGGED] + [BODY, BODY]
    labels = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1, 0])
    rule = TagRule.fit(sequences, labels)
    unseen = N_TAGGED[1:]
    found = rule.predict([unseen, BODY, C_TAGGED, N_TAGGED, "M" + BODY])
    assert found == pytest.approx([1 / 2, 2 / 4, 2 / 3, 2 / 6, 3 / 5])
    assert found.dtype == np.float64


def test_tag_rule_reads_nothing_else():
    rule = TagRule.fit(["M" + BODY, N_TAGGED, C_TAGGED, BODY], np.array([1, 0, 1, 0]))
    first, *others = rule.predict([f"M{residue * 60}" for residue in "ACDEFGIKLNPQRSTVWY"])
    assert others == [first] * len(others)


def test_composition_learns_a_frequency():
    rng = np.random.default_rng(0)
    plain = ["".join(rng.choice(list("ADKLERTG"), 80)) for _ in range(40)]
    labels = np.arange(40) % 2
    sequences = [s + "E" * 30 if label else s for s, label in zip(plain, labels, strict=True)]
    model = CompositionRegression.fit(sequences, labels)
    found = model.predict(sequences)
    assert found.dtype == np.float64
    assert np.array_equal(found > 0.5, labels == 1)


def test_composition_learns_the_length():
    labels = np.arange(40) % 2
    sequences = [STANDARD_RESIDUES * (1 + i % 5 + 5 * label) for i, label in enumerate(labels)]
    found = CompositionRegression.fit(sequences, labels).predict(sequences)
    assert roc_auc_score(labels, found) == 1


def test_composition_is_centred_whatever_the_classes_number():
    rng = np.random.default_rng(1)
    sequences = ["".join(rng.choice(list(STANDARD_RESIDUES), 60)) for _ in range(400)]
    labels = (np.arange(400) % 10 == 0).astype(int)
    found = CompositionRegression.fit(sequences, labels).predict(sequences)
    assert found.mean() == pytest.approx(0.5, abs=0.05)


@settings(deadline=None)
@given(st.text(STANDARD_RESIDUES + "X", min_size=1, max_size=60), st.randoms())
def test_composition_reads_no_order(sequence, random):
    model = _small_composition()
    shuffled = "".join(random.sample(sequence, len(sequence)))
    first, second = model.predict([sequence, shuffled])
    assert first == pytest.approx(second, rel=1e-12)
    assert 0 <= first <= 1


def test_composition_is_scikit_learns():
    sequences, labels = fitted()[1], np.arange(60) % 5 % 2
    features = [
        [*(s.count(residue) / len(s) for residue in STANDARD_RESIDUES), math.log(len(s))]
        for s in sequences
    ]
    pipeline = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    expected = pipeline.fit(features[:40], labels[:40]).predict_proba(features[40:])[:, 1]
    found = CompositionRegression.fit(sequences[:40], labels[:40]).predict(sequences[40:])
    assert found == pytest.approx(expected, abs=1e-12)


@functools.cache
def _small_composition():
    sequences = ["M" + BODY, N_TAGGED, C_TAGGED, BODY]
    return CompositionRegression.fit(sequences, np.array([True, False, True, False]))


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize(
    ("sequences", "labels", "message"),
    [
        ([], [], "no labels|no sequences"),
        (["MA", ""], [0, 1], "empty sequence at position 2"),
        (["MA", "MG"], [0], "2 sequences but 1 labels"),
        (["MA", "MG"], [0, 3], "label 3 at position 2"),
    ],
)
def test_what_cannot_be_fitted_is_refused(baseline, sequences, labels, message):
    with pytest.raises(InputError, match=message):
        baseline.fit(sequences, np.array(labels, int))


def test_composition_needs_both_classes():
    with pytest.raises(InputError, match="all 2 labels are 0"):
        CompositionRegression.fit(["MA", "MG"], np.array([0, 0]))


@pytest.mark.parametrize("baseline", BASELINES)
def test_what_cannot_be_predicted_is_refused(baseline):
    fitted = baseline.fit(["M" + BODY, N_TAGGED], np.array([1, 0]))
    with pytest.raises(InputError, match="no sequences"):
        fitted.predict([])
    with pytest.raises(InputError, match="empty sequence at position 1"):
        fitted.predict(["", "MA"])


@pytest.mark.parametrize(
    ("baseline", "training", "test", "expected"),
    [
        # Accuracy, MCC and AUC that were published beside the sets, each fitted on the
        # validation split of its own set.
        (
            TagRule,
            "proteinea_solubility/solubility_validation.csv",
            "proteinea_solubility/solubility_testing.csv",
            (0.679, 0.370, 0.721),
        ),
        (
            TagRule,
            "plm_sol/validation_dataset.fasta",
            "plm_sol/test_dataset.fasta",
            (0.706, 0.421, None),
        ),
        (
            CompositionRegression,
            "proteinea_solubility/solubility_validation.csv",
            "proteinea_solubility/solubility_testing.csv",
            (0.576, 0.152, 0.610),
        ),
        (
            CompositionRegression,
            "plm_sol/validation_dataset.fasta",
            "plm_sol/test_dataset.fasta",
            (0.602, 0.209, 0.654),
        ),
    ],
)
def test_measured_figures(baseline, training, test, expected):
    fitted = baseline.fit(*read(training))
    sequences, labels = read(test)
    found = fitted.predict(sequences)
    called = found >= 0.5
    figures = (
        accuracy_score(labels, called),
        matthews_corrcoef(labels, called),
        roc_auc_score(labels, found),
    )
    for figure, wanted in zip(figures, expected, strict=True):
        assert wanted is None or figure == pytest.approx(wanted, abs=1e-3)


def test_tag_rule_knows_nothing_of_the_untagged():
    rule = TagRule.fit(*read("proteinea_solubility/solubility_validation.csv"))
    sequences, labels = read("proteinea_solubility/solubility_testing.csv")
    chosen = [is_untagged_met(s) for s in sequences]
    found = rule.predict([s for s, keep in zip(sequences, chosen, strict=True) if keep])
    assert sum(chosen) > 500
    assert roc_auc_score(labels[chosen], found) == 0.5


# As what JSON holds


def fitted(seed=2):
    rng = np.random.default_rng(seed)
    bodies = ["".join(rng.choice(list(STANDARD_RESIDUES), n)) for n in rng.integers(20, 90, 60)]
    starts, ends = ("M", "", "MGSSHHHHHHSSG"), ("", "LEHHHHHH")
    sequences = [starts[i % 3] + body + ends[i % 2] for i, body in enumerate(bodies)]
    return fit_baselines(sequences, np.arange(60) % 5 % 2), sequences


def test_plain_values_come_back_the_same():
    baselines, sequences = fitted()
    plain = json.loads(json.dumps(baselines.to_plain(), allow_nan=False))
    again = Baselines.from_plain(plain, "here")
    assert again.to_plain() == plain
    for name, expected in baselines.predict(sequences).items():
        assert np.array_equal(again.predict(sequences)[name], expected)
        assert len(set(expected)) > 2


def test_both_are_those_that_are_fitted_alone():
    baselines, sequences = fitted(3)
    labels = np.arange(60) % 5 % 2
    found = baselines.predict(sequences)
    assert list(found) == ["tag_rule", "composition"]
    for name, baseline in zip(found, BASELINES, strict=True):
        assert np.array_equal(found[name], baseline.fit(sequences, labels).predict(sequences))


def test_plain_values_by_hand():
    rule = TagRule.from_plain([0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1], "here")
    assert rule.predict([BODY, BODY + "LEHHHHHH"]).tolist() == [0, 0.125]
    assert rule.predict(["M" + BODY, C_TAGGED, N_TAGGED]).tolist() == [0.5, 0.625, 0.75]
    # Of 10 residues one is an A, and the logarithm of the length is read last.
    first = STANDARD_RESIDUES.index("A")
    values = {
        "means": [0.0] * 21,
        "scales": [0.5 if i == first else 1.0 for i in range(21)],
        "coefficients": [4.0 if i == first else 2.0 if i == 20 else 0.0 for i in range(21)],
        "intercept": -1,
    }
    regression = CompositionRegression.from_plain(values, "here")
    logit = 4 * (0.1 / 0.5) + 2 * math.log(10) - 1
    assert regression.predict(["AGGGGGGGGG"]) == pytest.approx([1 / (1 + math.exp(-logit))])


NOT_NUMBERS = [math.nan, math.inf, -math.inf, None, "0.5", True, [0.5], {}]


@pytest.mark.parametrize(
    "values",
    [
        *([0.5] * 7 + [wrong] for wrong in [*NOT_NUMBERS, -0.01, 1.01]),
        [],
        [0.5] * 7,
        [0.5] * 9,
        [[0.5] * 4] * 2,
        0.5,
        None,
        {str(i): 0.5 for i in range(8)},
    ],
)
def test_what_is_no_tag_rule_is_refused(values):
    with pytest.raises(InputError, match=r"^here: does not hold 8 numbers from 0 to 1: "):
        TagRule.from_plain(values, "here")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        *((key, [1.0] * 20 + [w]) for key in ("means", "scales") for w in [*NOT_NUMBERS, 1e10]),
        *(("coefficients", [1.0] * 20 + [wrong]) for wrong in [*NOT_NUMBERS, -1e10, 10**400]),
        *(("intercept", wrong) for wrong in [*NOT_NUMBERS, 1e10]),
        *(("scales", [1.0] * 20 + [wrong]) for wrong in (0, -1.0, 1e-10)),
        *((key, [1.0] * size) for key in ("means", "scales", "coefficients") for size in (20, 22)),
        ("means", None),
        ("means", 1.0),
    ],
)
def test_what_is_no_regression_is_refused(key, values):
    plain = fitted()[0].composition.to_plain()
    with pytest.raises(InputError, match=f"^here: {key}: does not hold (21 numbers|1 number) "):
        CompositionRegression.from_plain({**plain, key: values}, "here")


@pytest.mark.parametrize("values", [None, [], "text", 1.0, True])
def test_what_is_no_object_is_refused(values):
    for reader in (Baselines, CompositionRegression):
        with pytest.raises(InputError, match=r"^here: is no JSON object"):
            reader.from_plain(values, "here")
    plain = fitted()[0].to_plain()
    with pytest.raises(InputError, match=r"^here: composition: is no JSON object"):
        Baselines.from_plain({**plain, "composition": values}, "here")
    with pytest.raises(InputError, match=r"^here: tag_rule: does not hold 8 numbers"):
        Baselines.from_plain({**plain, "tag_rule": values}, "here")


def test_missing_and_unknown_keys_are_refused():
    plain = fitted()[0].to_plain()
    regression = plain["composition"]
    for key in plain:
        with pytest.raises(InputError, match=f"^here: missing key '{key}'$"):
            Baselines.from_plain({k: v for k, v in plain.items() if k != key}, "here")
    for key in regression:
        rest = {k: v for k, v in regression.items() if k != key}
        with pytest.raises(InputError, match=f"^here: composition: missing key '{key}'$"):
            Baselines.from_plain({**plain, "composition": rest}, "here")
    with pytest.raises(InputError, match=r"^here: unknown key 'more'$"):
        Baselines.from_plain({**plain, "more": 1}, "here")
    with pytest.raises(InputError, match=r"^here: composition: unknown key 'more'$"):
        Baselines.from_plain({**plain, "composition": {**regression, "more": 1}}, "here")


def test_no_number_that_is_read_overflows():
    extreme = {
        "means": [-1e9] * 21, "scales": [1e-9] * 21, "coefficients": [1e9, -1e9] * 10 + [1e9],
        "intercept": -1e9,
    }  # fmt: skip
    read = CompositionRegression.from_plain(extreme, "here").predict([STANDARD_RESIDUES])
    assert 0 <= read[0] <= 1


def test_the_default_model_records_its_baselines(shared):
    """Fitted on the pool's MIT rows outside the held-out fold, as they were published."""
    with (shared / "train_pool" / "pool.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["license"] == "MIT" and r["fold"] != "0"]
    rows = [row for row in rows if set(row["sequences"]) - set("ACGTUN")]
    sequences = [Cleaning().clean(row["sequences"]).sequence for row in rows]
    fitted = fit_baselines(sequences, np.array([int(row["labels"]) for row in rows]))
    record = json.loads((locate("default") / "metrics.json").read_text())
    recorded = Baselines.from_plain(record["baselines"], "metrics.json")
    for name, probabilities in fitted.predict(sequences).items():
        assert recorded.predict(sequences)[name] == pytest.approx(probabilities, abs=1e-6)
