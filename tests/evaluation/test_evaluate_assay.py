"""`eqxesm evaluate` of a model of an assay: against scikit-learn and scipy."""

import csv
import json
import math
import shutil

import jax
import numpy as np
import pytest
from labelled_proteins import PROTEINS, RESIDUES, write_csv
from reports import assert_refused, assert_report_files
from scipy import stats
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import f1_score, r2_score, roc_auc_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eqxesm import AssayModel, OneHot, Target
from eqxesm.cli.main import main
from eqxesm.data.similarity import PROGRAM
from eqxesm.evaluation import evaluate_assay
from heads import CompositionMLP, CompositionMLPConfig, ResidueConvolution, ResidueConvolutionConfig

YIELD = Target("yield", "number", "mg/L", centre=2.0, scale=3.0, margin=0.5)
SIDE = Target("side", "classes", classes=("in", "out", "between"))
STABLE = Target("stable", "binary", classes=("no", "yes"))
RNG = np.random.default_rng(5)
YIELDS = RNG.normal(2, 1, len(PROTEINS)).round(3)
SIDES = RNG.choice(SIDE.classes, len(PROTEINS))
LETTERS = ["".join(RNG.choice(list("HE-"), len(protein))) for protein in PROTEINS]


@pytest.fixture(autouse=True)
def without_mmseqs(monkeypatch):
    """No nearest protein, which needs a program that may be missing."""
    monkeypatch.setattr(evaluate_assay, "predict_nearest", lambda *_: None)


def save(path, *targets: Target) -> AssayModel:
    encoder, outputs = OneHot(), sum(target.outputs for target in targets)
    if targets[0].kind == "residues":
        config = ResidueConvolutionConfig(encoder.d_model, channels=8, kernel=5, outputs=outputs)
        head = ResidueConvolution(config, key=jax.random.key(0))
    else:
        config = CompositionMLPConfig(encoder.d_model, (8,), outputs=outputs)
        head = CompositionMLP(config, key=jax.random.key(0))
    model = AssayModel(encoder, head, targets)
    model.save_pretrained(path)
    return model


def write_table(path, **columns):
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "sequence", *columns])
        table.writerows(zip([f"p{n}" for n in range(len(PROTEINS))], PROTEINS, *columns.values(), strict=True))


def features(proteins):
    return np.array([[*(p.count(r) / len(p) for r in RESIDUES), math.log(len(p))] for p in proteins])


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def _evaluate(*words):
        status = main(["evaluate", "p.csv", "--model", "model", "--out", "report", *words])
        if status:
            return status, *capsys.readouterr()
        return json.loads((tmp_path / "report" / "metrics.json").read_text())

    return _evaluate


def test_every_target_is_measured_beside_composition(evaluate, tmp_path):
    model = save(tmp_path / "model", YIELD, SIDE)
    missing = ["" if number == 7 else value for number, value in enumerate(YIELDS)]
    write_table(tmp_path / "p.csv", **{"yield": missing}, side=SIDES)
    figures = evaluate()["targets"]
    predicted = model.predict(PROTEINS)
    known = np.arange(len(PROTEINS)) != 7
    truth, own = YIELDS[known], predicted["yield"][known]
    found = figures["yield"]
    assert (found["proteins"], found["kind"], found["unit"]) == (len(PROTEINS) - 1, "number", "mg/L")
    assert found["model"]["spearman"]["value"] == pytest.approx(stats.spearmanr(truth, own).statistic, abs=1e-6)
    assert found["model"]["r2"]["value"] == pytest.approx(r2_score(truth, own), rel=1e-5)
    assert found["model"]["covered"]["value"] == pytest.approx(np.mean(np.abs(truth - own) <= 0.5))
    sides = np.array([SIDE.classes.index(side) for side in SIDES])
    called = predicted["side"].argmax(axis=1)
    assert figures["side"]["model"]["macro_f1"]["value"] == pytest.approx(f1_score(sides, called, average="macro"))
    folds = KFold(5, shuffle=True, random_state=0)
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11)))
    proteins = np.array(PROTEINS)[known]
    out_of_fold = cross_val_predict(ridge, features(proteins), truth, cv=folds)
    assert found["composition"]["r2"]["value"] == pytest.approx(r2_score(truth, out_of_fold), abs=1e-5)
    assert_report_files(tmp_path / "report", "metrics.json", ("yield", "side"))


def test_baselines_are_fitted_on_the_training_file(evaluate, tmp_path):
    save(tmp_path / "model", STABLE)
    stable = np.where(YIELDS > 2, "yes", "no")
    write_table(tmp_path / "p.csv", stable=stable)
    shutil.copy(tmp_path / "p.csv", tmp_path / "training.csv")
    report = evaluate("--training", "training.csv")
    assert report["baselines_fitted_on"] == f"training.csv ({len(PROTEINS)} proteins)"
    assert f"{len(PROTEINS)} proteins of the data: in the training data too" in report["notes"]
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    fitted = logistic.fit(features(PROTEINS), stable == "yes").predict_proba(features(PROTEINS))[:, 1]
    auroc = report["targets"]["stable"]["composition"]["auroc"]["value"]
    assert auroc == pytest.approx(roc_auc_score(stable == "yes", fitted), abs=1e-5)


def test_classes_of_residues_are_counted_without_the_unknown(evaluate, tmp_path):
    target = Target("structure", "residues", classes=tuple("HE"))
    model = save(tmp_path / "model", target)
    write_table(tmp_path / "p.csv", structure=LETTERS)
    found = evaluate()["targets"]["structure"]
    right = known = 0
    for letters, rows in zip(LETTERS, model.predict(PROTEINS)["structure"], strict=True):
        for letter, row in zip(letters, rows, strict=True):
            known += letter != "-"
            right += letter == target.classes[row.argmax()]
    assert found["model"]["accuracy"]["value"] == pytest.approx(right / known)


def test_another_column_and_another_model_in_the_same_folder(evaluate, tmp_path):
    save(tmp_path / "model", YIELD)
    write_table(tmp_path / "p.csv", amount=YIELDS)
    assert list(evaluate("--label-column", "amount")["targets"]) == ["yield"]
    shutil.rmtree(tmp_path / "model")
    save(tmp_path / "model", SIDE)
    write_table(tmp_path / "p.csv", side=SIDES)
    evaluate()
    assert_report_files(tmp_path / "report", "metrics.json", ("side",))


@pytest.mark.parametrize(
    ("columns", "words", "parts"),
    [
        ({"label": YIELDS, "side": SIDES}, (), ("p.csv", "yield")),
        ({"yield": [3.0] * len(PROTEINS), "side": SIDES}, (), ("target yield: every value is 3",)),
        ({"yield": ["much", *YIELDS[1:]], "side": SIDES}, (), ("p0", "'much'", "expected a number")),
        ({"yield": YIELDS, "side": ["up", *SIDES[1:]]}, (), ("p0", "'up'", "expected one of in, out, between")),
        ({"yield": [""] * len(PROTEINS), "side": [""] * len(PROTEINS)}, (), ("no protein with a value",)),
        ({"a": YIELDS, "side": SIDES}, ("--label-column", "a"), ("--label-column", "yield, side")),
    ],
)
def test_refuses_what_cannot_be_measured(evaluate, tmp_path, columns, words, parts):
    save(tmp_path / "model", YIELD, SIDE)
    write_table(tmp_path / "p.csv", **columns)
    assert_refused(evaluate(*words), *parts)
    assert not (tmp_path / "report").exists()


def test_headers_of_fasta_hold_no_values(evaluate, tmp_path):
    save(tmp_path / "model", YIELD)
    (tmp_path / "p.csv").write_text(write_csv(PROTEINS, [1] * len(PROTEINS)))
    assert_refused(evaluate(), "p.csv", "'yield'")


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="MMseqs2 is not installed")
def test_the_nearest_protein_is_another_one(evaluate, tmp_path, monkeypatch):
    from eqxesm.evaluation.assay import predict_nearest

    monkeypatch.setattr(evaluate_assay, "predict_nearest", predict_nearest)
    save(tmp_path / "model", YIELD)
    write_table(tmp_path / "p.csv", **{"yield": YIELDS})
    # Unrelated proteins: out of fold none has a relative, so all get the mean of other folds.
    nearest = evaluate()["targets"]["yield"]["nearest"]
    assert nearest["r2"]["value"] < 0.05
