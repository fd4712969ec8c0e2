import csv
import functools
import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT, SHARED
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, matthews_corrcoef, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.config import describe, parse
from eqxesm.data.cleaning import Cleaning
from eqxesm.errors import InputError
from eqxesm.evaluation import Baselines, CompositionRegression, fit_baselines, is_untagged_met
from eqxesm.protein_model import locate_model

BODY = "ADKLERTGIVQNWFYCPSADKLERTGIVQNWFYCPSADKLERTGIVQNWFYCPS"
N_TAGGED, C_TAGGED = "MGSSHHHHHHSSG" + BODY, "M" + BODY + "LEHHHHHH"


@functools.cache
def read(name):
    """Read a labelled set with nothing but the standard library."""
    path = SHARED / name
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


@functools.cache
def fitted_on(name):
    return fit_baselines(*read(name))


def predict(baseline, training, labels, proteins):
    return fit_baselines(training, np.array(labels)).predict(proteins)[baseline]


tag_rule = functools.partial(predict, "tag_rule")
composition = functools.partial(predict, "composition")


def test_untagged_starts_with_met_and_has_no_tag():
    assert is_untagged_met("M" + BODY)
    assert not is_untagged_met(BODY)
    assert not is_untagged_met(N_TAGGED)
    assert not is_untagged_met(C_TAGGED)


# The tag rule


def test_tag_rule_counts_by_hand():
    sequences = ["M" + BODY] * 3 + [N_TAGGED] * 4 + [C_TAGGED] + [BODY, BODY]
    labels = [1, 1, 0, 0, 0, 0, 1, 1, 1, 0]
    unseen = N_TAGGED[1:]
    found = tag_rule(sequences, labels, [unseen, BODY, C_TAGGED, N_TAGGED, "M" + BODY])
    assert found == pytest.approx([1 / 2, 2 / 4, 2 / 3, 2 / 6, 3 / 5])
    assert found.dtype == np.float64


def test_tag_rule_reads_tags_and_initial_met_alone():
    proteins = [f"M{residue * 60}" for residue in "ACDEFGIKLNPQRSTVWY"]
    first, *others = tag_rule(["M" + BODY, N_TAGGED, C_TAGGED, BODY], [1, 0, 1, 0], proteins)
    assert others == [first] * len(others)


# The composition


def test_composition_learns_a_frequency():
    rng = np.random.default_rng(0)
    plain = ["".join(rng.choice(list("ADKLERTG"), 80)) for _ in range(40)]
    labels = np.arange(40) % 2
    sequences = [s + "E" * 30 if label else s for s, label in zip(plain, labels, strict=True)]
    found = composition(sequences, labels, sequences)
    assert found.dtype == np.float64
    assert np.array_equal(found > 0.5, labels == 1)


def test_composition_learns_the_length():
    labels = np.arange(40) % 2
    sequences = [STANDARD_RESIDUES * (1 + i % 5 + 5 * label) for i, label in enumerate(labels)]
    found = composition(sequences, labels, sequences)
    assert roc_auc_score(labels, found) == 1


def test_composition_weighs_both_classes_the_same():
    rng = np.random.default_rng(1)
    sequences = ["".join(rng.choice(list(STANDARD_RESIDUES), 60)) for _ in range(400)]
    labels = (np.arange(400) % 10 == 0).astype(int)
    found = composition(sequences, labels, sequences)
    assert found.mean() == pytest.approx(0.5, abs=0.05)


@functools.cache
def _small_composition():
    sequences = ["M" + BODY, N_TAGGED, C_TAGGED, BODY]
    return fit_baselines(sequences, np.array([True, False, True, False])).composition


@settings(deadline=None)
@given(st.text(STANDARD_RESIDUES + "X", min_size=1, max_size=60), st.randoms())
def test_composition_reads_no_order(sequence, random):
    shuffled = "".join(random.sample(sequence, len(sequence)))
    first, second = _small_composition().predict([sequence, shuffled])
    assert first == pytest.approx(second, rel=1e-12)
    assert 0 <= first <= 1


def test_composition_is_that_of_scikit_learn():
    sequences, labels = make_baselines()[1], np.arange(60) % 5 % 2
    features = [[*(s.count(residue) / len(s) for residue in STANDARD_RESIDUES), math.log(len(s))] for s in sequences]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    expected = pipeline.fit(features[:40], labels[:40]).predict_proba(features[40:])[:, 1]
    found = composition(sequences[:40], labels[:40], sequences[40:])
    assert found == pytest.approx(expected, abs=1e-12)


# Refusals


@pytest.mark.parametrize(
    ("sequences", "labels", "message"),
    [
        ([], [], "no proteins"),
        (["MA", ""], [0, 1], "sequence 2 is empty"),
        (["MA", "MG"], [0], r"labels have shape \[1\], expected \[2\]"),
        (["MA", "MG"], [0, 3], "label 2 is 3"),
        (["MA", "MG"], [0, 0], "all 2 labels are 0"),
    ],
)
def test_refuses_what_cannot_be_fitted(sequences, labels, message):
    with pytest.raises(InputError, match=message):
        fit_baselines(sequences, np.array(labels, int))


def test_refuses_what_cannot_be_predicted():
    both = fit_baselines(["M" + BODY, N_TAGGED], np.array([1, 0]))
    for baselines in (both, both.composition):
        with pytest.raises(InputError, match="no sequences"):
            baselines.predict([])
        with pytest.raises(InputError, match="sequence 1 is empty"):
            baselines.predict(["", "MA"])


# Published figures


@pytest.mark.parametrize(
    ("baseline", "training", "test", "expected"),
    [
        # Accuracy, MCC and AUC that were published beside the sets, each fitted on the
        # validation split of its own set.
        (
            "tag_rule",
            "proteinea_solubility/solubility_validation.csv",
            "proteinea_solubility/solubility_testing.csv",
            (0.679, 0.370, 0.721),
        ),
        ("tag_rule", "plm_sol/validation_dataset.fasta", "plm_sol/test_dataset.fasta", (0.706, 0.421, None)),
        (
            "composition",
            "proteinea_solubility/solubility_validation.csv",
            "proteinea_solubility/solubility_testing.csv",
            (0.576, 0.152, 0.610),
        ),
        ("composition", "plm_sol/validation_dataset.fasta", "plm_sol/test_dataset.fasta", (0.602, 0.209, 0.654)),
    ],
)
def test_published_figures_are_reached(baseline, training, test, expected):
    sequences, labels = read(test)
    found = fitted_on(training).predict(sequences)[baseline]
    called = found >= 0.5
    figures = (accuracy_score(labels, called), matthews_corrcoef(labels, called), roc_auc_score(labels, found))
    for figure, wanted in zip(figures, expected, strict=True):
        assert wanted is None or figure == pytest.approx(wanted, abs=1e-3)


def test_tag_rule_cannot_rank_the_untagged():
    baselines = fitted_on("proteinea_solubility/solubility_validation.csv")
    sequences, labels = read("proteinea_solubility/solubility_testing.csv")
    chosen = [is_untagged_met(s) for s in sequences]
    found = baselines.predict([s for s, keep in zip(sequences, chosen, strict=True) if keep])["tag_rule"]
    assert sum(chosen) > 500
    assert roc_auc_score(labels[chosen], found) == 0.5


# As JSON


def make_baselines(seed=2):
    rng = np.random.default_rng(seed)
    bodies = ["".join(rng.choice(list(STANDARD_RESIDUES), n)) for n in rng.integers(20, 90, 60)]
    starts, ends = ("M", "", "MGSSHHHHHHSSG"), ("", "LEHHHHHH")
    sequences = [starts[i % 3] + body + ends[i % 2] for i, body in enumerate(bodies)]
    return fit_baselines(sequences, np.arange(60) % 5 % 2), sequences


def test_baselines_come_back_from_json_the_same():
    baselines, sequences = make_baselines()
    written = json.loads(json.dumps(describe(baselines), allow_nan=False))
    again = parse(Baselines, written, "here")
    assert describe(again) == written
    predicted = baselines.predict(sequences)
    assert list(predicted) == ["tag_rule", "composition"]
    for name, expected in predicted.items():
        assert np.array_equal(again.predict(sequences)[name], expected)
        assert len(set(expected)) > 2
    assert np.array_equal(again.composition.predict(sequences), predicted["composition"])


def test_values_from_json_by_hand():
    # Of 10 residues one is an A, and the last feature is the logarithm of the length.
    first = STANDARD_RESIDUES.index("A")
    values = {
        "means": [0.0] * 21,
        "scales": [0.5 if i == first else 1.0 for i in range(21)],
        "coefficients": [4.0 if i == first else 2.0 if i == 20 else 0.0 for i in range(21)],
        "intercept": -1,
    }
    shares = [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1]
    baselines = parse(Baselines, {"tag_rule": shares, "composition": values}, "here")
    rule = lambda *proteins: baselines.predict(proteins)["tag_rule"].tolist()  # noqa: E731
    assert rule(BODY, BODY + "LEHHHHHH") == [0, 0.125]
    assert rule("M" + BODY, C_TAGGED, N_TAGGED) == [0.5, 0.625, 0.75]
    logit = 4 * (0.1 / 0.5) + 2 * math.log(10) - 1
    assert baselines.composition.predict(["AGGGGGGGGG"]) == pytest.approx([1 / (1 + math.exp(-logit))])


NOT_NUMBERS = [math.nan, math.inf, -math.inf, None, "0.5", True, [0.5], {}]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        *(([0.5] * 7 + [wrong], "tag_rule.7 is .*: expected") for wrong in [*NOT_NUMBERS, -0.01, 1.01]),
        ([], "expected at least 8 items, got 0"),
        ([0.5] * 7, "expected at least 8 items, got 7"),
        ([0.5] * 9, "expected at most 8 items, got 9"),
        ([[0.5] * 4] * 2, "tag_rule.0 is .*: expected a number"),
        *((wrong, "tag_rule is .*: expected a list") for wrong in (0.5, None, "text", True, {"0": 0.5})),
    ],
)
def test_refuses_a_wrong_tag_rule(shares, message):
    written = describe(make_baselines()[0])
    with pytest.raises(InputError, match=f"^here: .*{message}"):
        parse(Baselines, {**written, "tag_rule": shares}, "here")


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        *((key, [1.0] * 20 + [w], f"{key}.20 is") for key in ("means", "scales") for w in [*NOT_NUMBERS, 1e10]),
        *(("coefficients", [1.0] * 20 + [w], "coefficients.20 is") for w in [*NOT_NUMBERS, -1e10, 10**400]),
        *(("intercept", wrong, "intercept is") for wrong in [*NOT_NUMBERS, 1e10]),
        *(("scales", [1.0] * 20 + [wrong], "scales.20 is") for wrong in (0, -1.0, 1e-10)),
        *((key, [1.0] * 20, f"{key} is .* 21 items, got 20") for key in ("means", "scales", "coefficients")),
        *((key, [1.0] * 22, f"{key} is .* 21 items, got 22") for key in ("means", "scales", "coefficients")),
        ("means", None, "means is None: expected a list"),
        ("means", 1.0, "means is 1.0: expected a list"),
    ],
)
def test_refuses_a_wrong_regression(key, values, message):
    written = describe(make_baselines()[0].composition)
    with pytest.raises(InputError, match=f"^here: {message}"):
        parse(CompositionRegression, {**written, key: values}, "here")


def test_every_wrong_value_is_named():
    with pytest.raises(InputError) as caught:
        Baselines([0.5] * 6 + [2.0, None], make_baselines()[0].composition)
    assert "tag_rule.6 is 2.0: expected at most 1; tag_rule.7 is None: expected a number" in str(caught.value)
    assert "items" not in str(caught.value)


@pytest.mark.parametrize("values", [None, [], "text", 1.0, True])
def test_refuses_baselines_that_are_not_a_table(values):
    for kind in (Baselines, CompositionRegression):
        with pytest.raises(InputError, match=r"^here: got .*: expected a table"):
            parse(kind, values, "here")
    written = describe(make_baselines()[0])
    with pytest.raises(InputError, match=r"^here: composition is .*: expected a table"):
        parse(Baselines, {**written, "composition": values}, "here")


def test_refuses_missing_and_unknown_keys():
    written = describe(make_baselines()[0])
    regression = written["composition"]
    for key in written:
        with pytest.raises(InputError, match=f"^here: missing key '{key}'$"):
            parse(Baselines, {k: v for k, v in written.items() if k != key}, "here")
    for key in regression:
        rest = {k: v for k, v in regression.items() if k != key}
        with pytest.raises(InputError, match=f"^here: missing key 'composition.{key}'$"):
            parse(Baselines, {**written, "composition": rest}, "here")
    with pytest.raises(InputError, match=r"^here: unknown key 'more'$"):
        parse(Baselines, {**written, "more": 1}, "here")
    with pytest.raises(InputError, match=r"^here: unknown key 'composition.more'$"):
        parse(Baselines, {**written, "composition": {**regression, "more": 1}}, "here")


def test_no_accepted_value_overflows():
    extreme = {"means": [-1e9] * 21, "scales": [1e-9] * 21, "coefficients": [1e9, -1e9] * 10 + [1e9], "intercept": -1e9}
    found = parse(CompositionRegression, extreme, "here").predict([STANDARD_RESIDUES])
    assert 0 <= found[0] <= 1


def test_the_default_model_records_its_baselines(shared):
    """Fitted on the rows of the pool that weights may be published of, as they were published."""
    with (shared / "train_pool" / "pool2.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["publish"] == "yes" and r["near_esol_test"] == "no"]
    like_tests = (ROOT / "model_cards" / "default" / "like_tests.txt").read_text().split()
    rows = [
        row
        for row in rows
        if set(row["sequences"]) - set("ACGTUN")
        and hashlib.sha256(row["sequences"].encode()).hexdigest()[:16] not in like_tests
    ]
    sequences = [Cleaning().clean(row["sequences"]).sequence for row in rows]
    fitted = fit_baselines(sequences, np.array([int(row["labels"]) for row in rows]))
    record = json.loads((locate_model("default") / "metrics.json").read_text())
    recorded = parse(Baselines, record["baselines"], "metrics.json")
    for name, probabilities in fitted.predict(sequences).items():
        assert recorded.predict(sequences)[name] == pytest.approx(probabilities, abs=1e-6)
