import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, matthews_corrcoef, roc_auc_score

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.errors import InputError
from eqxesm.evaluation import CompositionRegression, TagRule, is_untagged_met

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


@given(st.text(STANDARD_RESIDUES + "X", min_size=1, max_size=60), st.randoms())
def test_composition_reads_no_order(sequence, random):
    model = _small_composition()
    shuffled = "".join(random.sample(sequence, len(sequence)))
    first, second = model.predict([sequence, shuffled])
    assert first == pytest.approx(second, rel=1e-12)
    assert 0 <= first <= 1


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
