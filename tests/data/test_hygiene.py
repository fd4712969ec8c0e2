"""Splits that do not leak: what is left out by which rule, what is refused, and what the report says."""

import json
import re
from collections import defaultdict
from dataclasses import asdict, replace
from functools import lru_cache

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqxesm.config import parse
from eqxesm.data import hygiene
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene import Policy, Split, cross_validation_folds, prepare_splits
from eqxesm.data.protein import Protein
from eqxesm.data.sources import Source, open_source
from eqxesm.errors import InputError

STRIPPING = Cleaning(strip_tags=True, strip_initial_met=True)


def protein(id_: str, sequence: str, label: int, **other) -> Protein:
    return Protein(id_, sequence, label, **{"source": "A", **other})


def split(*pairs: tuple[str, int], prefix: str = "") -> list[Protein]:
    return [protein(f"{prefix}{i}", *pair) for i, pair in enumerate(pairs)]


def ids(split: Split) -> list[str]:
    return [protein.id for protein in split.proteins]


def refusal(*arguments) -> str:
    with pytest.raises(InputError) as caught:
        prepare_splits(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


TRAINING = split(("MA", 0), ("MC", 1), prefix="t")
VALIDATION = split(("MD", 0), ("ME", 1), prefix="v")

proteins = st.lists(
    st.builds(
        lambda sequence, label, cluster, source: protein("", sequence, label, cluster=cluster, source=source),
        st.sampled_from(["MA", "ma", " MA*", "MCC", "MCCC", "MD", "ME", "MF", "M1", "", "X" * 9]),
        st.integers(0, 1),
        st.sampled_from([None, "a", "b", "c", "d"]),
        st.sampled_from("AB"),
    ),
    max_size=9,
).map(lambda found: [replace(protein, id=str(i)) for i, protein in enumerate(found)])


def cleaned(protein: Protein) -> str:
    sequence = protein.sequence.strip(" *").upper()
    return sequence if sequence.isalpha() else ""


def without_repeats(split, longest):
    labels = defaultdict(set)
    for each in split:
        labels[cleaned(each)].add(each.label)
    seen, kept = {""}, []
    for each in split:
        sequence = cleaned(each)
        if len(labels[sequence]) == 1 and sequence not in seen and len(sequence) <= longest:
            kept.append(each)
        seen.add(sequence)
    return kept


@settings(max_examples=300, deadline=None)
@given(proteins, proteins, proteins, proteins, st.sampled_from([3, 9]))
def test_what_is_kept_follows_the_definition(training, validation, first, second, longest):
    tests = {name: [each for each in found if cleaned(each)] for name, found in (("one", first), ("two", second))}
    held_out = without_repeats(validation, longest)
    in_tests = {cleaned(each) for found in tests.values() for each in found}
    clusters = {each.cluster for each in held_out} - {None}
    kept = [
        each
        for each in without_repeats(training, longest)
        if cleaned(each) not in in_tests | {cleaned(other) for other in held_out} and each.cluster not in clusters
    ]
    held_out = [each for each in held_out if cleaned(each) not in in_tests]
    arguments = (
        training,
        validation,
        {"one": first, "two": second},
        Cleaning(),
        Policy(leakage="remove", max_residues=longest),
    )
    whole = all(len({each.label for each in found}) == 2 for found in (kept, held_out))
    if not whole or not all(tests.values()):
        refusal(*arguments)
        return
    splits = prepare_splits(*arguments)
    expected = {"training": kept, "validation": held_out, **tests}
    made = {"training": splits.training, "validation": splits.validation, **splits.tests}
    assert {name: list(each.proteins) for name, each in made.items()} == expected
    for name, each in made.items():
        assert each.lengths.tolist() == [len(cleaned(one)) for one in expected[name]]
        assert each.labels.tolist() == [one.label for one in expected[name]]
    for portion in splits.report.portions:
        assert portion.kept + sum(portion.left_out.values()) == portion.read
        own = [one for one in expected[portion.split] if one.source == portion.source]
        assert portion.kept == len(own)
    assert sum(portion.read for portion in splits.report.portions) == sum(
        map(len, (training, validation, first, second))
    )


def test_the_report_counts_by_source_and_rule():
    training = [
        protein("1", "MA", 0, source="A", license="MIT"),
        protein("2", "MC", 1, source="A", license="MIT"),
        protein("3", "M-", 1, source="A", license="MIT"),
        protein("4", "mc", 1, source="B"),
        protein("5", "ME", 1, source="B"),
        protein("6", "ME", 0, source="B"),
        protein("7", "M" * 7, 0, source="B"),
        protein("8", "MK", 0, source="B"),
        protein("9", "MR", 0, source="B|C", cluster="f"),
        protein("10", "M" * 7, 0, source="B"),
    ]
    validation = [protein("v1", "MV", 0, cluster="f"), protein("v2", "MW", 1), *split(("MY", 1))]
    tests = {"T": split(("MK", 1), ("MK", 1), ("MY", 0), ("MY", 1), ("MD", 1), ("M" * 9, 0))}
    policy = Policy(leakage="remove", max_residues=6)
    report = prepare_splits(training, validation, tests, Cleaning(), policy).report
    told = {(p.split, p.source): p for p in report.portions}
    assert {key: (p.read, p.soluble, p.kept) for key, p in told.items()} == {
        ("training", "A"): (3, 2, 2),
        ("training", "B"): (6, 2, 0),
        ("training", "B|C"): (1, 0, 0),
        ("validation", "A"): (3, 2, 2),
        ("T", "A"): (6, 4, 6),
    }
    assert told["training", "A"].left_out == {"not readable": 1}
    assert told["training", "B"].left_out == {
        "conflicting labels": 2,
        "duplicate": 2,
        "too long": 1,
        "leaks exactly": 1,
    }
    assert told["training", "B|C"].left_out == {"leaks by cluster": 1}
    assert told["validation", "A"].left_out == {"leaks exactly": 1}
    assert told["T", "A"].repeats == {"conflicting labels": 2, "duplicate": 1}
    assert report.leakage == {"exact": 2, "cluster": 1, "identity": "not checked: max_identity is not set"}
    assert (report.limit, report.limit_rule) == (6, "max_residues")
    written = json.loads(json.dumps(asdict(report)))
    assert written["portions"][0]["license"] == "MIT"
    lines = report.to_markdown().splitlines()
    assert "| training | A | MIT | 3 | 66.7% | 1 not readable | 2 |" in lines
    assert "| training | B/C | unknown | 1 | 0.0% | 1 leaks by cluster | 0 |" in lines
    assert "- Longest training protein: 6 residues (max_residues)." in lines
    assert "- Test set T, A: 2 conflicting labels, 1 duplicate. Kept, as published." in lines
    assert len(lines) == 2 + 5 + 1 + 4


def test_the_report_tells_what_test_sets_share():
    tests = {
        "one": split(("MK", 1), ("MK", 0), ("MR", 1), ("MS", 0), ("MT", 0)),
        "two": split(("mk", 1), ("MR", 0), ("MS", 1), ("MS", 1), ("MT", 0)),
        "three": split(("MY", 1)),
    }
    report = prepare_splits(TRAINING, VALIDATION, tests, Cleaning(), Policy()).report
    (overlap,) = report.overlaps
    assert (overlap.first, overlap.second, overlap.shared, overlap.opposite) == ("one", "two", 4, 3)
    said = "- Test sets one and two share 4 sequences, 3 with opposite labels."
    assert said in report.to_markdown().splitlines()


@pytest.mark.parametrize(
    ("training", "validation", "tests", "said"),
    [
        (
            [*TRAINING, protein("x", "md", 1), protein("y", "ME", 1)],
            VALIDATION,
            {},
            "2 training proteins leak into validation: the sequence of 'x' is that of 'v0'. ",
        ),
        (
            [*TRAINING, protein("x", "MK", 1)],
            VALIDATION,
            {"S": split(("MW", 1)), "T": split(("MY", 1), ("MK", 0), prefix="t")},
            "1 training protein leaks into test set 'T': the sequence of 'x' is that of 't1'. ",
        ),
        (
            TRAINING,
            [*VALIDATION, protein("x", "MK", 1)],
            {"T": split(("MK", 0))},
            "1 validation protein leaks into test set 'T': the sequence of 'x' is that of '0'. ",
        ),
        (
            [*TRAINING, protein("x", "MK", 1, cluster="f")],
            [*VALIDATION, protein("y", "MR", 1, cluster="g"), protein("z", "MS", 1, cluster="f")],
            {},
            "1 training protein leaks into validation: the cluster of 'x' is that of 'z'. ",
        ),
    ],
)
def test_refuses_leaks(training, validation, tests, said):
    message = refusal(training, validation, tests, Cleaning(), Policy())
    assert message.startswith(said)
    assert message.endswith('Leave out what leaks, or set data.leakage = "remove".')


def test_stripping_makes_proteins_equal():
    body = "AEVKLLGDERTWYACDEFGHIKLNPQRST"
    training = [*TRAINING, protein("x", "MGSSHHHHHHSSGLVPRGSH" + "M" + body, 1)]
    validation = [*VALIDATION, protein("y", "M" + body, 0)]
    assert len(prepare_splits(training, validation, {}, Cleaning(), Policy()).training.proteins) == 3
    assert "the sequence of 'x' is that of 'y'" in refusal(training, validation, {}, STRIPPING, Policy())


@pytest.mark.parametrize(
    ("training", "validation", "tests", "said"),
    [
        ([], VALIDATION, {}, r"training: none of 0 proteins is left \(none was read\)"),
        (TRAINING, split(("M1", 0), ("", 1)), {}, r"validation: none of 2 .*\(2 not readable\)"),
        (split(("MK", 0), ("MK", 1)), VALIDATION, {}, r"training: .*\(2 conflicting labels\)"),
        (TRAINING[:1], VALIDATION, {}, "training: every protein that is left has label 0"),
        (TRAINING, VALIDATION[1:], {}, "validation: every protein that is left has label 1"),
        (TRAINING, VALIDATION, {"T": split(("M1", 0))}, "test set 'T': none of 1 protein is left"),
        (TRAINING, VALIDATION, {"T": [*TRAINING]}, r"training: none of 2 proteins is left \(2 leaks exactly\)"),
        (
            [*TRAINING, protein("x", "MK", 1), protein("y", "MMM", 0)],
            VALIDATION,
            {"T": TRAINING[:1]},
            "training: every protein that is left has label 1",
        ),
    ],
)
def test_refuses_splits_that_nothing_can_be_learned_from(training, validation, tests, said):
    policy = Policy(leakage="remove", max_residues=2)
    message = refusal(training, validation, tests, Cleaning(), policy)
    assert re.search(said, message), message


@pytest.mark.parametrize("percentile", [1.0, 37.5, 50.0, 99.0, 100.0])
def test_the_limit_is_a_percentile_of_the_training_lengths(percentile):
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.arange(2, 402))
    training = split(*(("A" * length, i % 2) for i, length in enumerate(lengths)))
    left_out = [*training[:99], protein("x", "M1", 0), *split(("E" * 900, 0), ("E" * 900, 1))]
    validation = split(*(("C" * length, length % 2) for length in range(2, 602)))
    tests = {"T": split(("D" * 999, 1))}
    policy = Policy(length_percentile=percentile)
    splits = prepare_splits(training + left_out, validation, tests, Cleaning(), policy)
    kept = lengths[lengths <= np.percentile(lengths, percentile)]
    assert splits.training.lengths.tolist() == kept.tolist()
    assert splits.report.limit == kept.max()
    assert splits.validation.lengths.max() == kept.max()
    assert len(splits.tests["T"].proteins) == 1
    assert f"percentile {percentile:g} of training lengths" in splits.report.to_markdown()


@pytest.mark.parametrize("policy", [{"max_residues": 4}, {"length_percentile": 40.0}], ids=str)
def test_proteins_that_are_too_long_are_truncated_on_request(policy):
    training = split(("MK", 1), ("MKV", 0), ("MKVA", 0), ("MKVAK", 0), ("MRVAKW", 1), ("MRVAKK", 1), ("MSVAKW", 1))
    limit = policy.get("max_residues", 4)
    validation, tests = split(("MTTTTTT", 1), ("MW", 0)), {"T": split(("MYYYYYYY", 1), ("MRVAWWW", 0))}
    splits = prepare_splits(
        training, validation, tests, Cleaning(), Policy(too_long="truncate", leakage="remove", **policy)
    )
    assert splits.cleaning == Cleaning(truncate=limit)
    # Cut to four residues, two pairs are the same protein, and one is in the test set.
    assert [splits.training.proteins[i].sequence for i in range(len(splits.training.lengths))] == [
        "MK", "MKV", "MKVA", "MSVAKW",
    ]  # fmt: skip
    assert splits.training.lengths.tolist() == [2, 3, 4, 4]
    assert splits.validation.lengths.tolist() == [4, 2]
    assert splits.tests["T"].lengths.tolist() == [4, 4]
    assert splits.report.limit_rule.endswith(", truncated")


def test_test_proteins_that_the_model_refuses_are_counted():
    tests = {"T": split(("MY", 1), ("M" * 2047, 0), ("MKVAW", 0))}
    splits = prepare_splits(TRAINING, VALIDATION, tests, Cleaning(), Policy())
    assert splits.tests["T"].lengths.tolist() == [2, 5]
    assert splits.report.count("T", "too long") == 1
    assert splits.report.count("training", "too long") == 0
    longer = [*TRAINING, protein("long", "MK" + "A" * 2100, 1)]
    assert len(prepare_splits(longer, VALIDATION, tests, Cleaning(), Policy()).tests["T"].lengths) == 3


def test_without_a_limit_the_longest_training_protein_is_reported():
    splits = prepare_splits(
        [*TRAINING, *split(("MKKKK", 1), ("MMMMMMM", 0), ("MMMMMMM", 1))],
        [*VALIDATION, protein("y", "M" * 9, 1)],
        {},
        Cleaning(),
        Policy(),
    )
    assert splits.report.limit == 5
    assert splits.validation.lengths.tolist() == [2, 2, 9]
    assert splits.report.limit_rule == "no limit is set"


def test_training_proteins_similar_to_held_out_ones_leak(monkeypatch):
    asked = []

    def nearest(queries, targets):
        asked.append((list(queries), list(targets)))
        return np.array([0.1, 0.3, 0.29, 0.9])

    monkeypatch.setattr(hygiene, "nearest_identity", nearest)
    training = split(("MA", 0), ("MK", 1), ("mk", 1), ("MC", 1), ("MR", 1), ("MD", 0), prefix="t")
    tests = {"T": split(("MS", 1), ("MT", 1))}
    policy = Policy(leakage="remove", max_identity=0.3)
    splits = prepare_splits(training, VALIDATION, tests, Cleaning(), policy)
    assert asked == [(["MA", "MK", "MC", "MR"], ["MD", "ME", "MS", "MT"])]
    assert ids(splits.training) == ["t0", "t3"]
    assert splits.report.leakage["identity"] == 2
    assert splits.report.portions[0].left_out["leaks by identity"] == 2
    del training[5]
    message = refusal(training, VALIDATION, tests, Cleaning(), replace(policy, leakage="refuse"))
    assert "2 training proteins leak into held-out splits: 't1' is 30% identical" in message


def test_the_report_says_that_identity_was_not_checked(monkeypatch):
    monkeypatch.setenv("PATH", "")
    report = prepare_splits(TRAINING, VALIDATION, {}, Cleaning(), Policy(max_identity=0.3)).report
    assert report.leakage["identity"] == "not checked: mmseqs is not installed"
    assert "identity: not checked: mmseqs is not installed" in report.to_markdown()


def test_proteins_are_looked_up_when_they_are_asked_for():
    training = [*TRAINING, protein("x", "M1", 0), protein("y", "MK", 1)]
    splits = prepare_splits(training, VALIDATION, {}, Cleaning(), Policy())
    training[3] = replace(training[3], license="later")
    assert splits.training.proteins[2] == training[3]
    assert list(splits.training.proteins[1:]) == [training[1], training[3]]


def digest(training=TRAINING, tests=None, cleaning=None, policy=None) -> str:
    tests = {"T": split(("MS", 1))} if tests is None else tests
    arguments = (cleaning or Cleaning(), policy or Policy())
    return prepare_splits(training, VALIDATION, tests, *arguments).report.data_digest


def test_the_digest_differs_for_other_data():
    same = [protein("other", " ma*", 0, source="B", license="MIT"), TRAINING[1]]
    assert digest(same) == digest() == digest([*TRAINING, protein("x", "M1", 1)])
    others = [
        digest(TRAINING[::-1]),
        digest([replace(TRAINING[0], label=1), replace(TRAINING[1], label=0)]),
        digest([*TRAINING, protein("x", "MK", 1)]),
        digest(tests={"T": split(("MS", 0))}),
        digest(tests={"U": split(("MS", 1))}),
        digest(tests={}),
        digest(cleaning=STRIPPING),
        digest(),
    ]
    assert len(set(others)) == len(others)
    assert len(bytes.fromhex(digest())) == 32


FOLDS = [
    protein("a", "MA", 0, fold="2", cluster="x"),
    protein("b", "MC", 0, fold="1", cluster="y"),
    protein("c", "MD", 0, fold="2", cluster="x"),
    protein("d", "ma", 1, fold="2"),
    protein("e", "M1", 1, fold="1"),
    protein("f", "M1", 1, fold="2"),
]


def test_folds_of_a_cross_validation():
    folds = cross_validation_folds(FOLDS, Cleaning())
    assert {name: rows.tolist() for name, rows in folds.items()} == {"1": [1, 4], "2": [0, 2, 3, 5]}
    assert list(folds) == ["1", "2"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (protein("g", "MK", 1), "protein 'g' has no fold"),
        (protein("g", "mc ", 1, fold="3"), "folds leak: 'g' in fold 3 and 'b' in fold 1 have the same sequence"),
        (
            protein("g", "MK", 1, fold="1", cluster="x"),
            "folds leak: 'g' in fold 1 and 'a' in fold 2 have the same cluster",
        ),
    ],
)
def test_refuses_folds_that_leak(other, said):
    with pytest.raises(InputError, match=said):
        cross_validation_folds([*FOLDS, other], Cleaning())


def test_refuses_a_single_fold():
    with pytest.raises(InputError, match=r"1 fold: .*at least 2"):
        cross_validation_folds(FOLDS[:1], Cleaning())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"leakage": "ignore"}, "leakage is 'ignore'"),
        ({"max_residues": 0}, "max_residues is 0"),
        ({"length_percentile": 0.0}, "length_percentile is 0.0"),
        ({"length_percentile": 100.1}, "length_percentile is 100.1"),
        ({"max_residues": 9, "length_percentile": 99.0}, "both given. Choose one"),
        ({"too_long": "truncate"}, "neither max_residues nor length_percentile says to what"),
        ({"too_long": "cut"}, "too_long is 'cut'"),
        ({"max_identity": 0.0}, "max_identity is 0.0"),
        ({"max_identity": 30.0}, "max_identity is 30.0"),
    ],
)
def test_refuses_policies_that_make_no_sense(values, said):
    with pytest.raises(InputError, match=f"data: .*{said}"):
        parse(Policy, values, "data")


@lru_cache
def real(shared):
    columns = {"sequence_column": "sequences", "label_column": "labels"}
    pool = Source(
        "train_pool/pool.csv",
        **columns,
        source_column="source",
        license_column="license",
        fold_column="fold",
        cluster_column="cluster30",
        where=("license=MIT",),
    )
    folds = tuple("123456789")
    return (
        open_source(replace(pool, folds=folds), shared),
        open_source(replace(pool, folds=("0",)), shared),
        {
            "DeepSol": open_source(Source("proteinea_solubility/solubility_testing.csv", **columns), shared),
            "PLM_Sol": open_source(Source("plm_sol/test_dataset.fasta"), shared),
        },
    )


@pytest.mark.slow
def test_the_pool_does_not_leak(shared):
    training, validation, tests = real(shared)
    report = prepare_splits(training, validation, tests, Cleaning(), Policy()).report
    assert (report.leakage["exact"], report.leakage["cluster"]) == (0, 0)
    (overlap,) = report.overlaps
    assert (overlap.shared, overlap.opposite) == (48, 32)
    kept = sum(portion.kept for portion in report.portions)
    assert kept == len(training) + len(validation) + 6001 - 1
    cross_validation_folds([*training, *validation], Cleaning())


@pytest.mark.slow
def test_the_stripped_pool_is_what_pandas_keeps(shared):
    training, validation, tests = real(shared)
    splits = prepare_splits(training, validation, tests, STRIPPING, Policy(max_residues=500))
    frame = pandas.DataFrame(
        {"id": p.id, "sequence": STRIPPING.clean(p.sequence).sequence, "label": p.label}
        for p in training
        if set(p.sequence) - set("ACGNT")
    )
    frame = frame[frame.groupby("sequence")["label"].transform("nunique") == 1]
    frame = frame.drop_duplicates("sequence")
    frame = frame[frame["sequence"].str.len() <= 500]
    assert ids(splits.training) == frame["id"].tolist()
    assert splits.training.labels.tolist() == frame["label"].tolist()
    assert splits.training.lengths.tolist() == frame["sequence"].str.len().tolist()
    cross_validation_folds([*training, *validation], STRIPPING)
