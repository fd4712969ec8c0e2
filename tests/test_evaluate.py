import csv
import json
import math
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import eqxesm
from eqxesm import SolubilityModel, cli
from eqxesm.errors import InputError
from eqxesm.evaluation import assess, report
from eqxesm.evaluation.assessment import quantile_bins
from eqxesm.evaluation.labelled import read_labelled
from eqxesm.evaluation.report import describe_report, evaluate_file, format_report

SHIPPED = Path(eqxesm.__file__).parent / "default"
RESIDUES = "LAGVSERTIDPKQNFYMHWC"
METRICS = (
    "accuracy", "mcc", "auroc", "auprc", "f1", "sensitivity", "specificity", "ece", "brier",
)  # fmt: skip
PREDICTORS = ("model", "tag_rule", "composition")
STARTS, ENDS = ("M", "M", "M", "", "MGSSHHHHHHSSG"), ("", "", "", "LEHHHHHH")


def make(number, seed):
    """Make proteins up: soluble ones have more Glu and Lys, and fewer tags."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(number) % 2)
    proteins = []
    for label in labels:
        weights = np.array([1.3 + label if r in "EK" else 1.0 for r in RESIDUES])
        body = rng.choice(list(RESIDUES), rng.integers(30, 160), p=weights / weights.sum())
        start = rng.choice(STARTS, p=np.array([2, 2, 2, 1, 2 - label]) / (9 - label))
        proteins.append(start + "".join(body) + rng.choice(ENDS))
    return proteins, labels


PROTEINS, LABELS = make(60, 0)
TRAINING, TRAINING_LABELS = make(80, 1)
UNTAGGED = np.array([p[0] == "M" and "HHHHHH" not in p for p in PROTEINS])


def table(proteins, labels):
    rows = "".join(f"p{i},{s},{y}\n" for i, (s, y) in enumerate(zip(proteins, labels, strict=True)))
    return "id,sequence,label\n" + rows


def fasta(proteins, labels):
    pairs = enumerate(zip(proteins, labels, strict=True))
    return "".join(f">p{i} made-up-{label}\n{protein}\n" for i, (protein, label) in pairs)


def scores(labels, probabilities, threshold=0.5):
    """Every metric by scikit-learn, calibration error by its definition."""
    probabilities = np.asarray(probabilities, np.float64)
    called = probabilities >= threshold
    bins = np.minimum(np.floor(probabilities * 10), 9)
    error = sum(
        abs(labels[bins == b].sum() - probabilities[bins == b].sum()) for b in range(10)
    ) / len(labels)
    return {
        "accuracy": sklearn_metrics.accuracy_score(labels, called),
        "mcc": sklearn_metrics.matthews_corrcoef(labels, called),
        "auroc": sklearn_metrics.roc_auc_score(labels, probabilities),
        "auprc": sklearn_metrics.average_precision_score(labels, probabilities),
        "f1": sklearn_metrics.f1_score(labels, called),
        "sensitivity": sklearn_metrics.recall_score(labels, called),
        "specificity": sklearn_metrics.recall_score(labels, called, pos_label=0),
        "ece": error,
        "brier": sklearn_metrics.brier_score_loss(labels, probabilities),
    }


def check_values(found, labels, probabilities, threshold=0.5):
    values = {name: interval["value"] for name, interval in found.items()}
    assert values == pytest.approx(scores(labels, probabilities, threshold), abs=1e-9)


def construct(protein):
    """Look for tags at the ends of a made-up protein, which has no other His run."""
    return (protein[:1] == "M", "HHHHHH" in protein[:20], "HHHHHH" in protein[-20:])


def tag_rule(training, labels, proteins):
    cells = [construct(protein) for protein in training]
    found = []
    for cell in map(construct, proteins):
        mine = [label for each, label in zip(cells, labels, strict=True) if each == cell]
        found.append((sum(mine) + 1) / (len(mine) + 2))
    return np.array(found)


def features(proteins):
    return np.array(
        [[*(p.count(r) / len(p) for r in RESIDUES), math.log(len(p))] for p in proteins]
    )


def regression():
    return make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )


@pytest.fixture
def few(monkeypatch):
    """Resample less often, where the intervals are not looked at."""
    monkeypatch.setattr("eqxesm.evaluation.assessment.RESAMPLES", 3)


@pytest.fixture
def plain(monkeypatch):
    """Draw nothing either, where the pictures are not looked at."""
    monkeypatch.setattr("eqxesm.evaluation.assessment.RESAMPLES", 3)
    monkeypatch.setattr(report, "draw", lambda *_: None)


@pytest.fixture
def write(tmp_path):
    def _write(name, content=None):
        (tmp_path / name).write_text(table(PROTEINS, LABELS) if content is None else content)
        return name

    return _write


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Run the command once, with the default model on a table of made-up proteins."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "p.csv").write_text(table(PROTEINS, LABELS))
    status = cli.main(["evaluate", str(folder / "p.csv"), "--out", str(folder / "report")])
    assert status == 0
    return folder / "report"


@pytest.fixture(scope="module")
def figures(done):
    return json.loads((done / "metrics.json").read_text())


@pytest.fixture(scope="module")
def probabilities():
    return SolubilityModel.from_pretrained("default").predict(PROTEINS)


@pytest.fixture(scope="module")
def unrecorded(tmp_path_factory):
    """Copy the default model without its record."""
    folder = shutil.copytree(SHIPPED, tmp_path_factory.mktemp("models") / "unrecorded")
    (folder / "metrics.json").unlink()
    return folder


def check_refused(result, *parts):
    status, out, err = result
    assert (status, out) == (2, "")
    assert err.startswith("eqxesm: error: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    for part in parts:
        assert part in err


def check_pictures(folder, names):
    for name in names:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n")
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("}svg")
    pictures = {f"{name}.{ending}" for name in names for ending in ("png", "svg")}
    assert set(os.listdir(folder)) == {*pictures, "metrics.json"}


# The report


def test_the_model_is_measured_as_scikit_learn_does(figures, probabilities):
    threshold = SolubilityModel.from_pretrained("default").calibration.threshold
    assert figures["threshold"] == threshold
    check_values(figures["all"]["model"], LABELS, probabilities, threshold)
    check_values(figures["untagged"]["model"], LABELS[UNTAGGED], probabilities[UNTAGGED], threshold)


def test_every_metric_of_every_predictor(figures):
    assert list(figures) == [
        "report", "data", "model", "revision", "threshold", "baselines_fitted_on", "left_out",
        "not_used", "without_label", "resamples", "all", "untagged", "by_length", "by_identity",
        "reliability",
    ]  # fmt: skip
    assert (figures["report"], figures["model"]) == ("eqxesm evaluate", "default")
    assert figures["data"].endswith("p.csv")
    assert figures["resamples"] == 1000
    assert (figures["left_out"], figures["not_used"], figures["without_label"]) == ([], 0, 0)
    for part, chosen in (("all", LABELS >= 0), ("untagged", UNTAGGED)):
        assert list(figures[part]) == ["proteins", "soluble", *PREDICTORS]
        assert figures[part]["proteins"] == chosen.sum()
        assert figures[part]["soluble"] == LABELS[chosen].sum()
        for name in PREDICTORS:
            assert tuple(figures[part][name]) == METRICS
            for interval in figures[part][name].values():
                assert list(interval) == ["value", "low", "high"]
                assert interval["low"] <= interval["high"]
    assert 0 < UNTAGGED.sum() < len(PROTEINS)


def test_intervals_are_those_of_a_thousand_resamples(figures, probabilities):
    rng, drawn = np.random.default_rng(0), []
    for _ in range(1000):
        chosen = rng.integers(len(LABELS), size=len(LABELS))
        drawn.append(np.mean((probabilities[chosen] - LABELS[chosen]) ** 2, dtype=np.float64))
    brier = figures["all"]["model"]["brier"]
    expected = np.percentile(drawn, [2.5, 97.5])
    assert [brier["low"], brier["high"]] == pytest.approx(expected, rel=1e-6)


def test_baselines_of_the_record(figures):
    assert figures["baselines_fitted_on"] == "the model's training data, by its record"
    plain = json.loads((SHIPPED / "metrics.json").read_text())["baselines"]
    cells = [np.ravel_multi_index(construct(protein), (2, 2, 2)) for protein in PROTEINS]
    check_values(figures["all"]["tag_rule"], LABELS, np.array(plain["tag_rule"])[cells])
    values = {key: np.array(value) for key, value in plain["composition"].items()}
    standardised = (features(PROTEINS) - values["means"]) / values["scales"]
    logits = standardised @ values["coefficients"] + values["intercept"]
    check_values(figures["all"]["composition"], LABELS, 1 / (1 + np.exp(-logits)))


def test_pictures(done):
    check_pictures(done, ["confusion", "roc", "reliability", "by_length"])


def test_reliability_is_that_of_the_calibration_error(figures, probabilities):
    rows = figures["reliability"]["model"]
    assert list(figures["reliability"]) == list(PREDICTORS)
    assert [row["from"] for row in rows] == [i / 10 for i in range(10)]
    for number, row in enumerate(rows):
        inside = (probabilities * 10).astype(int) == number
        assert row["proteins"] == inside.sum()
        if inside.any():
            mean = probabilities[inside].mean(dtype=np.float64)
            assert row["mean_probability"] == pytest.approx(mean)
            assert row["soluble_share"] == pytest.approx(LABELS[inside].mean())
        else:
            assert row["mean_probability"] is row["soluble_share"] is None
    for name in PREDICTORS:
        error = sum(
            row["proteins"] * abs(row["mean_probability"] - row["soluble_share"])
            for row in figures["reliability"][name]
            if row["proteins"]
        )
        found = figures["all"][name]["ece"]["value"]
        assert error / len(LABELS) == pytest.approx(found, abs=1e-9)


def test_lengths_cover_every_protein_once(figures, probabilities):
    lengths = np.array([len(protein) for protein in PROTEINS])
    covered = np.zeros(len(lengths), int)
    for row in figures["by_length"]:
        inside = (lengths >= row["shortest"]) & (lengths <= row["longest"])
        covered += inside
        assert row["proteins"] == inside.sum()
        assert row["soluble_share"] == pytest.approx(LABELS[inside].mean())
        assert {row["shortest"], row["longest"]} <= set(lengths)
        assert list(row)[-3:] == list(PREDICTORS)
        assert list(row["model"]) == ["auroc", "accuracy"]
        expected = scores(LABELS[inside], probabilities[inside])
        for name, interval in row["model"].items():
            assert interval["value"] == pytest.approx(expected[name])
    assert covered.tolist() == [1] * len(PROTEINS)
    assert len(figures["by_length"]) == 4
    assert all(10 <= row["proteins"] <= 20 for row in figures["by_length"])
    starts = [row["shortest"] for row in figures["by_length"]]
    assert starts == sorted(starts)


@pytest.mark.usefixtures("plain")
def test_the_terminal(run, write):
    status, out, err = run("evaluate", write("p.csv"), "--out", "new/report")
    assert status == 0
    header, *lines = out.splitlines()
    assert header.split() == ["proteins", "predictor", "accuracy", "mcc", "auroc", "brier"]
    assert len(lines) == 6
    found = json.loads(Path("new/report/metrics.json").read_text())
    parts = [(part, name) for part in ("all", "untagged") for name in PREDICTORS]
    for line, (part, name) in zip(lines, parts, strict=True):
        assert line.startswith(f"{part} ({found[part]['proteins']})")
        assert name.replace("_", " ") in line
        for metric in ("accuracy", "mcc", "auroc", "brier"):
            x = found[part][name][metric]
            assert f"{x['value']:.3f} ({x['low']:.3f} to {x['high']:.3f})" in line
    assert err == (
        "baselines fitted on the model's training data, by its record\nreport: new/report\n"
    )
    assert sorted(os.listdir()) == ["new", "p.csv"]
    assert os.listdir("new") == ["report"]


# Baselines


@pytest.mark.usefixtures("few")
def test_baselines_of_a_training_file(run, write, monkeypatch, probabilities):
    asked = []

    def nearest(queries, targets):
        asked.append((queries, targets))
        return np.linspace(0, 1, len(queries))

    monkeypatch.setattr("eqxesm.data.similarity.nearest_identity", nearest)
    data, training = write("p.fasta", fasta(PROTEINS, LABELS)), "t.csv"
    unusable = "x,MK-V,1\ny,MKVA,\n"
    write(training, table(TRAINING, TRAINING_LABELS) + unusable)
    status, _, err = run("evaluate", data, "--training", training, "--out", "report")
    assert status == 0
    words = "t.csv (80 proteins, 2 left out)"
    assert err.splitlines() == [f"baselines fitted on {words}", "report: report"]
    found = json.loads(Path("report/metrics.json").read_text())
    assert found["baselines_fitted_on"] == words
    assert "note" not in found
    check_values(found["all"]["model"], LABELS, probabilities)
    expected = tag_rule(TRAINING, TRAINING_LABELS, PROTEINS)
    check_values(found["all"]["tag_rule"], LABELS, expected)
    fitted = regression().fit(features(TRAINING), TRAINING_LABELS)
    expected = fitted.predict_proba(features(PROTEINS))[:, 1]
    check_values(found["all"]["composition"], LABELS, expected)
    assert asked == [(PROTEINS, TRAINING)]
    assert [row["proteins"] for row in found["by_identity"]] == [18, 12, 24, 6]
    check_pictures(Path("report"), ["confusion", "roc", "reliability", "by_length", "by_identity"])


@pytest.mark.usefixtures("plain")
def test_no_figures_by_identity_without_mmseqs(run, write, monkeypatch):
    monkeypatch.setattr("eqxesm.data.similarity.shutil.which", lambda _: None)
    write("p.csv")
    status, _, err = run("evaluate", "p.csv", "--training", "p.csv", "--out", "report")
    assert status == 0
    found = json.loads(Path("report/metrics.json").read_text())
    assert found["by_identity"] is None
    assert found["note"].startswith("mmseqs")
    assert "no figures by identity" in found["note"]
    assert found["note"] in err.splitlines()
    assert not Path("report/by_identity.png").exists()


@pytest.mark.usefixtures("plain")
def test_baselines_out_of_fold(run, write, unrecorded):
    status, _, err = run("evaluate", write("p.csv"), "--model", unrecorded, "--out", "report")
    assert status == 0
    found = json.loads(Path("report/metrics.json").read_text())
    assert found["baselines_fitted_on"] == "the data itself, out of fold (5 folds)"
    assert "baselines fitted on the data itself, out of fold (5 folds)" in err.splitlines()
    assert found["model"] == str(unrecorded)
    folds = list(
        StratifiedKFold(5, shuffle=True, random_state=0).split(LABELS, 2 * LABELS + UNTAGGED)
    )
    expected = cross_val_predict(
        regression(), features(PROTEINS), LABELS, cv=folds, method="predict_proba"
    )[:, 1]
    check_values(found["all"]["composition"], LABELS, expected)
    expected = np.empty(len(LABELS))
    for rest, held_out in folds:
        expected[held_out] = tag_rule(
            [PROTEINS[i] for i in rest], LABELS[rest], [PROTEINS[i] for i in held_out]
        )
    check_values(found["all"]["tag_rule"], LABELS, expected)


@pytest.mark.parametrize("soluble", [2, 4])
@pytest.mark.usefixtures("plain")
def test_fewer_folds_where_a_class_is_small(soluble, write, tmp_path, unrecorded):
    chosen = [*np.flatnonzero(LABELS)[:soluble], *np.flatnonzero(LABELS == 0)[:9]]
    data = tmp_path / write("p.csv", table([PROTEINS[i] for i in chosen], LABELS[chosen]))
    found = evaluate_file(data, tmp_path / "report", model=unrecorded)
    assert found["baselines_fitted_on"] == f"the data itself, out of fold ({soluble} folds)"
    assert found["all"]["soluble"] == soluble


@pytest.mark.usefixtures("plain")
def test_one_protein_of_a_class_is_too_few_to_fit_on(run, write, unrecorded):
    first = LABELS.tolist().index(1)
    chosen = [first, *np.flatnonzero(LABELS == 0)[:9]]
    write("p.csv", table([PROTEINS[i] for i in chosen], LABELS[chosen]))
    words = ["evaluate", "p.csv", "--model", unrecorded, "--out", "report"]
    check_refused(run(*words), "one protein of a class is too few", "--training")
    assert os.listdir() == ["p.csv"]


def test_a_damaged_record_is_refused(run, write, unrecorded, tmp_path):
    folder = shutil.copytree(unrecorded, tmp_path / "model")
    record = {"summary": "a test", "baselines": {"tag_rule": [0.5] * 7, "composition": {}}}
    (folder / "metrics.json").write_text(json.dumps(record))
    words = ["evaluate", write("p.csv"), "--model", folder, "--out", "report"]
    check_refused(run(*words), "metrics.json: baselines: tag_rule: does not hold 8 numbers")
    assert sorted(os.listdir()) == ["model", "p.csv"]


# What is left out


@pytest.mark.usefixtures("plain")
def test_what_is_left_out_is_told(run, write):
    rows = (
        f"dna,{'ACGT' * 20},1\ngap,MK-V,0\nlong,{'MKVLA' * 500},1\nnone,MKVLAAGIT,\nstop,MKV*LA,0\n"
    )
    write("p.csv", table(PROTEINS, LABELS) + rows)
    status, _, err = run("evaluate", "p.csv", "--out", "report")
    assert status == 0
    found = json.loads(Path("report/metrics.json").read_text())
    reasons = {item["id"]: item["reason"] for item in found["left_out"]}
    assert list(reasons) == ["dna", "gap", "stop", "long"]
    assert "looks like DNA" in reasons["dna"]
    assert "gap '-'" in reasons["gap"]
    assert "position 4: stop '*'" in reasons["stop"]
    assert "2499 residues are more than the 2412" in reasons["long"]
    assert (found["not_used"], found["without_label"]) == (4, 1)
    assert found["all"]["proteins"] == len(PROTEINS)
    assert f"4 proteins left out, first dna: {reasons['dna']}" in err.splitlines()
    assert "1 protein without a label left out" in err.splitlines()


def test_only_the_first_left_out_are_named(write, tmp_path):
    bad = "".join(f"b{i},MK-V,{i % 2}\n" for i in range(25))
    proteins = read_labelled(tmp_path / write("p.csv", table(PROTEINS, LABELS) + bad))
    told = proteins.told()
    assert [item["id"] for item in told["left_out"]] == [f"b{i}" for i in range(20)]
    assert (told["not_used"], told["without_label"]) == (25, 0)
    assert proteins.sequences == PROTEINS
    assert np.array_equal(proteins.labels, LABELS)


def test_sequences_keep_their_tags_in_one_spelling(write, tmp_path):
    text = ">a x-1\nmgsshhhhhh\nJkv*\n>b y-0\nMKU\n>c z-U\nMKV\n"
    proteins = read_labelled(tmp_path / write("p.fasta", text))
    assert proteins.sequences == ["MGSSHHHHHHXKV", "MKU"]
    assert proteins.labels.tolist() == [1, 0]
    assert proteins.without_label == 1


# assess


def made_up(sequences, labels, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.random((3, len(labels)))
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
@pytest.mark.usefixtures("few")
def test_untagged_of_one_class(starts, proteins, soluble, note):
    sequences = [starts[i % 2] + "AKLERV" * (i + 2) for i in range(20)]
    labels = [1 - i % 2 for i in range(20)]
    found = assess(*made_up(sequences, labels), {})["untagged"]
    assert found == {
        "proteins": proteins, "soluble": soluble, **dict.fromkeys(PREDICTORS), "note": note,
    }  # fmt: skip


@pytest.mark.usefixtures("few")
def test_a_report_without_untagged(run, write):
    tagged = [f"MGSSHHHHHH{protein[1:]}" for protein in PROTEINS]
    status, out, err = run("evaluate", write("p.csv", table(tagged, LABELS)), "--out", "report")
    assert status == 0
    found = json.loads(Path("report/metrics.json").read_text())
    assert found["untagged"]["model"] is None
    assert [line.split("  ")[0] for line in out.splitlines()[4:]] == ["untagged (0)"] * 3
    assert "no protein starts with Met and has no His tag" in err.splitlines()
    assert found["all"]["tag_rule"]["auroc"]["value"] < 1


@pytest.mark.usefixtures("few")
def test_bins_of_one_class_have_no_metrics(run, write):
    # Short ones are all insoluble: two of four bins cannot be measured.
    order = np.argsort([len(protein) for protein in PROTEINS], kind="stable")
    labels = np.array([0] * 40 + [1, 0] * 10)
    write("p.csv", table([PROTEINS[i] for i in order], labels))
    assert run("evaluate", "p.csv", "--out", "report")[0] == 0
    rows = json.loads(Path("report/metrics.json").read_text())["by_length"]
    assert [row["model"] is None for row in rows] == [True, True, False, False]
    assert rows[0]["soluble_share"] == 0
    check_pictures(Path("report"), ["confusion", "roc", "reliability", "by_length"])


@pytest.mark.usefixtures("few")
def test_identities_are_binned_from_below():
    identities = np.array([0, 0.29, 0.3, 0.49, 0.5, 0.899, 0.9, 1.0] * 5)
    data = made_up([f"M{'AKLERV' * (i + 3)}" for i in range(40)], [i // 8 % 2 for i in range(40)])
    rows = assess(*data, {}, identities)["by_identity"]
    assert [row["identity"] for row in rows] == ["<30%", "30-50%", "50-90%", ">=90%"]
    labels, predictions = data[1:]
    for number, row in enumerate(rows):
        inside = np.arange(40) % 8 // 2 == number
        assert row["proteins"] == inside.sum() == 10
        assert row["soluble_share"] == labels[inside].mean() == 0.4
        for name in PREDICTORS:
            expected = scores(labels[inside], predictions[name][inside])
            for metric in ("auroc", "accuracy"):
                assert row[name][metric]["value"] == pytest.approx(expected[metric])


@pytest.mark.usefixtures("few")
def test_an_empty_identity_bin():
    data = made_up([f"M{'AKLERV' * (i + 3)}" for i in range(8)], [0, 1] * 4)
    rows = assess(*data, {}, np.full(8, 0.4))["by_identity"]
    assert [row["proteins"] for row in rows] == [0, 8, 0, 0]
    assert rows[0] == {
        "identity": "<30%", "proteins": 0, "soluble_share": None, **dict.fromkeys(PREDICTORS),
    }  # fmt: skip


@pytest.mark.usefixtures("few")
def test_thresholds_go_by_the_predictor():
    sequences, labels, predictions = made_up(PROTEINS, LABELS)
    found = assess(sequences, labels, predictions, {"model": 0.3, "composition": 0.7})["all"]
    for name, threshold in (("model", 0.3), ("tag_rule", 0.5), ("composition", 0.7)):
        check_values(found[name], labels, predictions[name], threshold)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.ones(60, int)}, "all 60 labels are 1"),
        ({"labels": np.arange(60) % 3}, "label 2 at position 3"),
        ({"sequences": PROTEINS[1:]}, "59 sequences but 60 labels"),
        ({"identities": np.zeros(61)}, "61 identities but 60 labels"),
        ({"predictions": {"model": np.zeros(61)}}, "61 predictions of model but 60 labels"),
        ({"predictions": {"model": np.zeros(59)}}, "59 predictions of model but 60 labels"),
        ({"predictions": {"model": np.full(60, 2.0)}}, "probability 2.0 at position 1"),
        ({"predictions": {"model": np.full(60, np.nan)}}, "probability nan at position 1"),
    ],
)
def test_what_cannot_be_assessed_is_refused(changes, message):
    sequences, labels, predictions = made_up(PROTEINS, LABELS)
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
def test_quantile_bins(values, bins, expected):
    assert [found.tolist() for found in quantile_bins(np.array(values), bins)] == expected


# Bad input


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("p.csv", "sequence,label\nMKV,2\nMKL,0\n", "line 2, record '1': column 'label' holds '2'"),
        ("p.csv", "sequence,label\nMKV,yes\n", "column 'label' holds 'yes'"),
        ("p.csv", "seq,label\nMKV,1\nMKL,0\n", "no column 'sequence'"),
        ("p.csv", "sequence,soluble\nMKV,1\nMKL,0\n", "no column 'label'"),
        ("p.csv", "sequence,label\nMKV,1\nMKL,1\n", "all 2 proteins that can be used"),
        ("p.csv", "sequence,label\nMKV,1\nMK-,0\n", "all 1 proteins that can be used"),
        ("p.csv", f"sequence,label\nMKV,1\n{'A' * 2500},0\n", "all 1 proteins that can be used"),
        ("p.csv", "sequence,label\nMK-,1\nM1,0\n", "no labelled protein can be used; the first, 1"),
        ("p.csv", "sequence,label\nMKV,\nMKL,\n", "no protein has a label"),
        ("p.csv", "sequence,label\n", "holds no records"),
        ("p.csv", "", "holds no records"),
        ("p.fasta", "", "holds no records"),
        ("p.fasta", ">a\nMKV\n", "no label: end the header in -0, -1 or -U"),
        ("p.fasta", ">a x-U\nMKV\n", "no protein has a label"),
    ],
)
def test_bad_data(name, content, part, run, write):
    check_refused(run("evaluate", write(name, content), "--out", "report"), name, part)
    assert os.listdir() == [name]


def test_bad_training_data(run, write):
    write("p.csv")
    write("t.csv", "sequence,label\nMKV,1\n")
    words = ["evaluate", "p.csv", "--out", "report", "--training"]
    check_refused(run(*words, "t.csv"), "t.csv: all 1 proteins")
    check_refused(run(*words, "u.csv"), "u.csv: no such file")
    assert sorted(os.listdir()) == ["p.csv", "t.csv"]


@pytest.mark.usefixtures("plain")
def test_columns_are_chosen(run, write):
    rows = zip(PROTEINS, LABELS, strict=True)
    text = "".join(f"n{i}\t{s}\t{y}\n" for i, (s, y) in enumerate(rows))
    write("p.tsv", f"name\tseq\tok\n{text}bad\tMK-\t1\n")
    columns = ["--sequence-column", "seq", "--label-column", "ok", "--id-column"]
    words = ["evaluate", "p.tsv", "--out", "report", *columns]
    assert run(*words, "name")[0] == 0
    found = json.loads(Path("report/metrics.json").read_text())
    assert [item["id"] for item in found["left_out"]] == ["bad"]
    assert found["all"]["proteins"] == 60
    check_refused(run(*words, "nome"), "p.tsv: no column 'nome'")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nowhere.csv"], "nowhere.csv: no such file"),
        (["."], "a folder, not a file"),
        (["p.csv", "--model", "nowhere"], "nowhere: no such folder"),
        (["p.csv", "--model", "p.csv"], "p.csv: is a file"),
        (["p.csv", "--model", SHIPPED, "--revision", "main"], "has no revision main"),
    ],
)
def test_what_is_not_there(words, part, run, write):
    write("p.csv")
    check_refused(run("evaluate", *words, "--out", "report"), part)
    assert os.listdir() == ["p.csv"]


# The folder of the report


@pytest.fixture
def no_work(monkeypatch):
    def work(*_, **__):
        raise AssertionError("worked before it looked at the folder")

    monkeypatch.setattr(report, "read_labelled", work)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("out", "part"),
    [
        ("p.csv", "p.csv: is a file"),
        ("p.csv/report", "p.csv/report: cannot be written"),
        (".", "holds broken, which no earlier eqxesm evaluate wrote"),
        ("other", "holds metrics.json, which no earlier eqxesm evaluate wrote"),
        ("broken", "holds metrics.json, which no earlier"),
        ("pictures", "holds roc.png, which no earlier"),
        ("a" * 300, "cannot be written (File name too long)"),
    ],
)
def test_folders_that_will_not_do(out, part, run, write, tmp_path):
    write("p.csv")
    for name, text in (("other", '{"report": "eqxesm explore"}'), ("broken", "[")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(text)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "roc.png").write_text("mine")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    check_refused(run("evaluate", "p.csv", "--out", out), part)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("no_work")
def test_a_folder_without_permission(run, write, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    check_refused(
        run("evaluate", write("p.csv"), "--out", "report"),
        "report: cannot be written (Permission denied): choose another",
    )
    assert os.listdir() == ["p.csv"]


@pytest.mark.usefixtures("few")
def test_an_earlier_report_is_replaced(run, write, done, tmp_path):
    folder = Path(shutil.copytree(done, tmp_path / "report"))
    old = json.loads((folder / "metrics.json").read_text())
    (folder / "by_identity.png").write_text("of another run")
    half = [*range(0, 60, 2)]
    write("half.csv", table([PROTEINS[i] for i in half], LABELS[half]))
    assert run("evaluate", "half.csv", "--out", "report")[0] == 0
    new = json.loads((folder / "metrics.json").read_text())
    assert (old["all"]["proteins"], new["all"]["proteins"]) == (60, 30)
    check_pictures(folder, ["confusion", "roc", "reliability", "by_length"])
    assert sorted(os.listdir()) == ["half.csv", "report"]


@pytest.mark.usefixtures("plain")
def test_a_full_disk_leaves_the_earlier_report(run, write, done, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(done, tmp_path / "report"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(folder, *_):
        (folder / "roc.png").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "draw", full)
    check_refused(run("evaluate", write("p.csv"), "--out", "report"), "No space left on device")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(os.listdir()) == ["p.csv", "report"]


@pytest.mark.usefixtures("plain")
def test_the_function_gives_what_it_writes(write, tmp_path):
    data = tmp_path / write("p.csv")
    found = evaluate_file(data, tmp_path / "report")
    written = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert written.pop("report") == "eqxesm evaluate"
    assert written == found
    assert len(format_report(found).splitlines()) == 7
    assert describe_report(found) == [
        "baselines fitted on the model's training data, by its record"
    ]


def test_a_missing_package_names_the_extra():
    with (
        pytest.raises(InputError, match=r"^sklearn is not installed: pip install 'eqxesm\[eval"),
        cli._extra("evaluate"),
    ):
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    with pytest.raises(ModuleNotFoundError), cli._extra("evaluate"):
        raise ModuleNotFoundError("No module named 'eqxesm.no'", name="eqxesm.no")


def test_the_words_of_a_picture_are_those_of_the_report(done, figures):
    areas = [figures["all"][name]["auroc"]["value"] for name in PREDICTORS]
    text = (done / "roc.svg").read_text()
    for name, area in zip(("model", "tag rule", "composition"), areas, strict=True):
        assert f"<!-- {name}, AUROC {area:.3f} (" in text


def test_the_confusion_matrix_is_scikit_learns(done, probabilities):
    counts = sklearn_metrics.confusion_matrix(LABELS, probabilities >= 0.5)
    text = (done / "confusion.svg").read_text()
    for (row, _), count in np.ndenumerate(counts):
        assert f"<!-- {count}" in text
        assert f"{count / counts[row].sum():.1%}" in text


@pytest.mark.usefixtures("plain")
def test_a_real_set(shared, tmp_path):
    """The tag rule knows nothing of the untagged, whatever the set."""
    with (shared / "proteinea_solubility" / "solubility_testing.csv").open() as file:
        rows = list(csv.DictReader(file))[::7]
    proteins, labels = [row["sequences"] for row in rows], [row["labels"] for row in rows]
    (tmp_path / "p.csv").write_text(table(proteins, labels))
    found = evaluate_file(tmp_path / "p.csv", tmp_path / "report")
    assert found["all"]["proteins"] + found["not_used"] == len(rows)
    assert found["untagged"]["tag_rule"]["auroc"]["value"] == 0.5
