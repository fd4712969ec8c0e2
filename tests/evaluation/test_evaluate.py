import csv
import json
import math
import os
import pkgutil
import shutil
from importlib import import_module
from inspect import ismodule
from pathlib import Path

import numpy as np
import pytest
from labelled_proteins import LABELS, PROTEINS, RESIDUES, UNTAGGED, make_proteins, write_csv, write_fasta
from reference_metrics import METRICS, assert_measured, reference_metrics
from reports import assert_refused, assert_report_files
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eqxesm import SolubilityModel, evaluation
from eqxesm.cli.arguments import needs_extra
from eqxesm.errors import InputError
from eqxesm.evaluation.evaluate_file import evaluate_file, format_evaluation, format_remarks
from eqxesm.protein_model import locate_model

SHIPPED = locate_model("default")
PREDICTORS = ("model", "tag_rule", "composition")
PICTURES = ("confusion", "roc", "reliability", "by_length")
TRAINING, TRAINING_LABELS = make_proteins(80, 1)


def construct(protein):
    """Look for tags at the ends of a made-up protein, which has no other run of His."""
    return (protein[:1] == "M", "HHHHHH" in protein[:20], "HHHHHH" in protein[-20:])


def tag_rule(training, labels, proteins):
    cells = [construct(protein) for protein in training]
    found = []
    for cell in map(construct, proteins):
        mine = [label for each, label in zip(cells, labels, strict=True) if each == cell]
        found.append((sum(mine) + 1) / (len(mine) + 2))
    return np.array(found)


def features(proteins):
    return np.array([[*(p.count(r) / len(p) for r in RESIDUES), math.log(len(p))] for p in proteins])


def regression():
    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))


@pytest.fixture(scope="module")
def unrecorded(tmp_path_factory):
    """Copy of the default model without its record."""
    folder = shutil.copytree(SHIPPED, tmp_path_factory.mktemp("models") / "unrecorded")
    (folder / "metrics.json").unlink()
    return folder


def read_figures():
    return json.loads(Path("report/metrics.json").read_text())


# The report


def test_the_model_is_measured_as_by_scikit_learn(figures, probabilities):
    threshold = SolubilityModel.from_pretrained("default").calibration.threshold
    assert figures["threshold"] == threshold
    assert_measured(figures["all"]["model"], LABELS, probabilities, threshold)
    assert_measured(figures["untagged"]["model"], LABELS[UNTAGGED], probabilities[UNTAGGED], threshold)


def test_the_report_holds_every_metric_of_every_predictor(figures):
    assert list(figures) == [
        "report", "pictures", "data", "model", "revision", "threshold", "baselines_fitted_on", "left_out",
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


def test_baselines_are_those_of_the_record(figures):
    assert figures["baselines_fitted_on"] == "the model's training data, by its record"
    recorded = json.loads((SHIPPED / "metrics.json").read_text())["baselines"]
    cells = [np.ravel_multi_index(construct(protein), (2, 2, 2)) for protein in PROTEINS]
    assert_measured(figures["all"]["tag_rule"], LABELS, np.array(recorded["tag_rule"])[cells])
    values = {key: np.array(value) for key, value in recorded["composition"].items()}
    standardised = (features(PROTEINS) - values["means"]) / values["scales"]
    logits = standardised @ values["coefficients"] + values["intercept"]
    assert_measured(figures["all"]["composition"], LABELS, 1 / (1 + np.exp(-logits)))


def test_pictures_are_written(evaluated):
    assert_report_files(evaluated, "metrics.json", PICTURES)


def test_the_roc_picture_names_the_areas_of_the_report(evaluated, figures):
    areas = [figures["all"][name]["auroc"]["value"] for name in PREDICTORS]
    text = (evaluated / "roc.svg").read_text()
    for name, area in zip(("model", "tag rule", "composition"), areas, strict=True):
        assert f"<!-- {name}, AUROC {area:.3f} (" in text


def test_the_confusion_matrix_is_that_of_scikit_learn(evaluated, probabilities):
    counts = confusion_matrix(LABELS, probabilities >= 0.5)
    text = (evaluated / "confusion.svg").read_text()
    for (row, _), count in np.ndenumerate(counts):
        assert f"<!-- {count}" in text
        assert f"{count / counts[row].sum():.1%}" in text


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


def test_bins_of_length_cover_every_protein_once(figures, probabilities):
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
        expected = reference_metrics(LABELS[inside], probabilities[inside])
        for name, interval in row["model"].items():
            assert interval["value"] == pytest.approx(expected[name])
    assert covered.tolist() == [1] * len(PROTEINS)
    assert len(figures["by_length"]) == 4
    assert all(10 <= row["proteins"] <= 20 for row in figures["by_length"])
    starts = [row["shortest"] for row in figures["by_length"]]
    assert starts == sorted(starts)


@pytest.mark.usefixtures("no_pictures")
def test_the_terminal_shows_the_main_figures(run, write):
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
    assert err == "baselines fitted on the model's training data, by its record\nreport: new/report\n"
    assert sorted(os.listdir()) == ["new", "p.csv"]
    assert os.listdir("new") == ["report"]


# Baselines


@pytest.mark.usefixtures("few_resamples")
def test_baselines_are_fitted_on_the_training_file(run, write, monkeypatch, probabilities):
    asked = []

    def nearest(queries, targets):
        asked.append((queries, targets))
        return np.linspace(0, 1, len(queries))

    monkeypatch.setattr("eqxesm.evaluation.evaluate_file.nearest_identity", nearest)
    data, training = write("p.fasta", write_fasta(PROTEINS, LABELS)), "t.csv"
    unusable = "x,MK-V,1\ny,MKVA,\n"
    write(training, write_csv(TRAINING, TRAINING_LABELS) + unusable)
    status, _, err = run("evaluate", data, "--training", training, "--out", "report")
    assert status == 0
    words = "t.csv (80 proteins, 2 left out)"
    assert err.splitlines() == [f"baselines fitted on {words}", "report: report"]
    found = read_figures()
    assert found["baselines_fitted_on"] == words
    assert "note" not in found
    assert_measured(found["all"]["model"], LABELS, probabilities)
    expected = tag_rule(TRAINING, TRAINING_LABELS, PROTEINS)
    assert_measured(found["all"]["tag_rule"], LABELS, expected)
    fitted = regression().fit(features(TRAINING), TRAINING_LABELS)
    expected = fitted.predict_proba(features(PROTEINS))[:, 1]
    assert_measured(found["all"]["composition"], LABELS, expected)
    assert asked == [(PROTEINS, TRAINING)]
    assert [row["proteins"] for row in found["by_identity"]] == [18, 12, 24, 6]
    assert_report_files(Path("report"), "metrics.json", [*PICTURES, "by_identity"])


@pytest.mark.usefixtures("no_pictures")
def test_no_figures_by_identity_without_mmseqs(run, write, monkeypatch):
    monkeypatch.setattr("eqxesm.data.similarity.shutil.which", lambda _: None)
    write("p.csv")
    status, _, err = run("evaluate", "p.csv", "--training", "p.csv", "--out", "report")
    assert status == 0
    found = read_figures()
    assert found["by_identity"] is None
    assert found["note"].startswith("mmseqs")
    assert "no figures by identity" in found["note"]
    assert found["note"] in err.splitlines()
    assert f"{found['in_training_too']:,} proteins of the data: in the training data too" in err.splitlines()
    assert not Path("report/by_identity.png").exists()


@pytest.mark.usefixtures("no_pictures")
def test_without_a_record_baselines_are_fitted_out_of_fold(run, write, unrecorded):
    status, _, err = run("evaluate", write("p.csv"), "--model", unrecorded, "--out", "report")
    assert status == 0
    found = read_figures()
    assert found["baselines_fitted_on"] == "the data itself, out of fold (5 folds)"
    assert "baselines fitted on the data itself, out of fold (5 folds)" in err.splitlines()
    assert found["model"] == str(unrecorded)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(LABELS, 2 * LABELS + UNTAGGED))
    expected = cross_val_predict(regression(), features(PROTEINS), LABELS, cv=folds, method="predict_proba")[:, 1]
    assert_measured(found["all"]["composition"], LABELS, expected)
    expected = np.empty(len(LABELS))
    for rest, held_out in folds:
        expected[held_out] = tag_rule([PROTEINS[i] for i in rest], LABELS[rest], [PROTEINS[i] for i in held_out])
    assert_measured(found["all"]["tag_rule"], LABELS, expected)


@pytest.mark.parametrize("soluble", [2, 4])
@pytest.mark.usefixtures("no_pictures")
def test_fewer_folds_where_a_class_is_small(soluble, write, tmp_path, unrecorded):
    chosen = [*np.flatnonzero(LABELS)[:soluble], *np.flatnonzero(LABELS == 0)[:9]]
    data = tmp_path / write("p.csv", write_csv([PROTEINS[i] for i in chosen], LABELS[chosen]))
    found = evaluate_file(data, tmp_path / "report", model=unrecorded)
    assert found["baselines_fitted_on"] == f"the data itself, out of fold ({soluble} folds)"
    assert found["all"]["soluble"] == soluble


@pytest.mark.usefixtures("no_pictures")
def test_refuses_to_fit_on_one_protein_of_a_class(run, write, unrecorded):
    first = LABELS.tolist().index(1)
    chosen = [first, *np.flatnonzero(LABELS == 0)[:9]]
    write("p.csv", write_csv([PROTEINS[i] for i in chosen], LABELS[chosen]))
    words = ["evaluate", "p.csv", "--model", unrecorded, "--out", "report"]
    assert_refused(run(*words), "one protein of a class is too few", "--training")
    assert os.listdir() == ["p.csv"]


def test_refuses_a_damaged_record(run, write, unrecorded, tmp_path):
    folder = shutil.copytree(unrecorded, tmp_path / "model")
    record = {"summary": "a test", "baselines": {"tag_rule": [0.5] * 7, "composition": {}}}
    (folder / "metrics.json").write_text(json.dumps(record))
    words = ["evaluate", write("p.csv"), "--model", folder, "--out", "report"]
    assert_refused(run(*words), "metrics.json: baselines: ", "tag_rule is", "expected at least 8 items, got 7")
    assert sorted(os.listdir()) == ["model", "p.csv"]


# What is left out


@pytest.mark.usefixtures("no_pictures")
def test_what_is_left_out_is_reported(run, write):
    rows = f"dna,{'ACGT' * 20},1\ngap,MK-V,0\nlong,{'MKVLA' * 500},1\nnone,MKVLAAGIT,\nstop,MKV*LA,0\n"
    write("p.csv", write_csv(PROTEINS, LABELS) + rows)
    status, _, err = run("evaluate", "p.csv", "--out", "report")
    assert status == 0
    found = read_figures()
    reasons = {item["id"]: item["reason"] for item in found["left_out"]}
    assert list(reasons) == ["dna", "gap", "stop", "long"]
    assert "reads as DNA" in reasons["dna"]
    assert "gap '-'" in reasons["gap"]
    assert "position 4: stop '*'" in reasons["stop"]
    assert "2,499 residues; this model accepts at most 2,046" in reasons["long"]
    assert (found["not_used"], found["without_label"]) == (4, 1)
    assert found["all"]["proteins"] == len(PROTEINS)
    assert f"4 proteins left out, first dna: {reasons['dna']}" in err.splitlines()
    assert "1 protein without a label left out" in err.splitlines()


@pytest.mark.usefixtures("few_resamples")
def test_a_report_where_every_protein_is_tagged(run, write):
    tagged = [f"MGSSHHHHHH{protein[1:]}" for protein in PROTEINS]
    status, out, err = run("evaluate", write("p.csv", write_csv(tagged, LABELS)), "--out", "report")
    assert status == 0
    found = read_figures()
    assert found["untagged"]["model"] is None
    assert [line.split("  ")[0] for line in out.splitlines()[4:]] == ["untagged (0)"] * 3
    assert "no protein starts with Met and has no His tag" in err.splitlines()
    assert found["all"]["tag_rule"]["auroc"]["value"] < 1


@pytest.mark.usefixtures("few_resamples")
def test_bins_of_one_class_have_no_metrics(run, write):
    # Short ones are all insoluble: two of four bins cannot be measured.
    order = np.argsort([len(protein) for protein in PROTEINS], kind="stable")
    labels = np.array([0] * 40 + [1, 0] * 10)
    write("p.csv", write_csv([PROTEINS[i] for i in order], labels))
    assert run("evaluate", "p.csv", "--out", "report")[0] == 0
    rows = read_figures()["by_length"]
    assert [row["model"] is None for row in rows] == [True, True, False, False]
    assert rows[0]["soluble_share"] == 0
    assert_report_files(Path("report"), "metrics.json", PICTURES)


# Columns, the function, a published set


@pytest.mark.usefixtures("no_pictures")
def test_columns_are_chosen(run, write):
    rows = zip(PROTEINS, LABELS, strict=True)
    text = "".join(f"n{i}\t{s}\t{y}\n" for i, (s, y) in enumerate(rows))
    write("p.tsv", f"name\tseq\tok\n{text}bad\tMK-\t1\n")
    columns = ["--sequence-column", "seq", "--label-column", "ok", "--id-column"]
    words = ["evaluate", "p.tsv", "--out", "report", *columns]
    assert run(*words, "name")[0] == 0
    found = read_figures()
    assert [item["id"] for item in found["left_out"]] == ["bad"]
    assert found["all"]["proteins"] == 60
    assert_refused(run(*words, "nome"), "p.tsv: no column 'nome'")


@pytest.mark.usefixtures("no_pictures")
def test_the_training_file_needs_no_ids(run, write, monkeypatch):
    monkeypatch.setattr("eqxesm.data.similarity.shutil.which", lambda _: None)
    write("p.csv", write_csv(PROTEINS, LABELS).replace("id,", "name,"))
    rows = zip(TRAINING, TRAINING_LABELS, strict=True)
    write("t.csv", "sequence,label\n" + "".join(f"{protein},{label}\n" for protein, label in rows))
    words = ["evaluate", "p.csv", "--training", "t.csv", "--id-column", "name", "--out", "report"]
    assert run(*words)[0] == 0
    assert read_figures()["baselines_fitted_on"] == "t.csv (80 proteins, 0 left out)"


@pytest.mark.usefixtures("no_pictures")
def test_evaluate_file_returns_what_it_writes(write, tmp_path):
    data = tmp_path / write("p.csv")
    found = evaluate_file(data, tmp_path / "report")
    written = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert written.pop("report") == "eqxesm evaluate"
    assert written.pop("pictures") == ["confusion", "roc", "reliability", "by_length", "by_identity"]
    assert written == found
    assert len(format_evaluation(found).splitlines()) == 7
    assert format_remarks(found) == ["baselines fitted on the model's training data, by its record"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_published_set(shared, tmp_path):
    """The tag rule cannot rank the untagged, whatever the set."""
    with (shared / "proteinea_solubility" / "solubility_testing.csv").open() as file:
        rows = list(csv.DictReader(file))[::7]
    proteins, labels = [row["sequences"] for row in rows], [row["labels"] for row in rows]
    (tmp_path / "p.csv").write_text(write_csv(proteins, labels))
    found = evaluate_file(tmp_path / "p.csv", tmp_path / "report")
    assert found["all"]["proteins"] + found["not_used"] == len(rows)
    assert found["untagged"]["tag_rule"]["auroc"]["value"] == 0.5


def test_public_names_are_not_hidden_by_modules():
    """Python puts a submodule in place of a name of the package that is the same."""
    for module in pkgutil.iter_modules(evaluation.__path__, "eqxesm.evaluation."):
        import_module(module.name)
    assert not [name for name in evaluation.__all__ if ismodule(getattr(evaluation, name))]


# Refusals


def test_refuses_unusable_training_data(run, write):
    write("p.csv")
    write("t.csv", "sequence,label\nMKV,1\n")
    words = ["evaluate", "p.csv", "--out", "report", "--training"]
    assert_refused(run(*words, "t.csv"), "t.csv: all 1 usable proteins")
    assert_refused(run(*words, "u.csv"), "u.csv: file not found")
    assert sorted(os.listdir()) == ["p.csv", "t.csv"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["p.csv", "--model", "nowhere"], "nowhere: folder not found"),
        (["p.csv", "--model", "p.csv"], "p.csv: is a file"),
        (["p.csv", "--model", SHIPPED, "--revision", "main"], "has no revision. Leave out main"),
        (["p.csv", "--revision", "main"], "the default model has no revision. Leave out main"),
    ],
)
def test_refuses_a_model_that_is_not_there(words, part, run, write):
    write("p.csv")
    assert_refused(run("evaluate", *words, "--out", "report"), part)
    assert os.listdir() == ["p.csv"]


def test_a_missing_package_is_named_with_its_extra():
    with (
        pytest.raises(InputError, match=r'^sklearn is not installed.*pip install "eqxesm\[evaluate\]"'),
        needs_extra("evaluate"),
    ):
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    with pytest.raises(ModuleNotFoundError), needs_extra("evaluate"):
        raise ModuleNotFoundError("No module named 'eqxesm.no'", name="eqxesm.no")
