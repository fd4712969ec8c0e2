"""Training on an assay: from a table to a model, for every kind of target."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import assert_refused

from eqxesm import AssayModel
from eqxesm.cli.main import main
from eqxesm.training.assay_recipe import read_any_recipe

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")
SMALL = [
    "model.encoder={type='one_hot'}",
    "model.head={type='composition_mlp',hidden=[16]}",
    "training.epochs=60",
    "training.patience=60",
    "training.learning_rate=0.02",
    "training.tokens_per_batch=1024",
]
BY_LETTER = ["model.head={type='residue_convolution',channels=16,kernel=1}", "training.learning_rate=0.01"]


def proteins(count: int, seed: int = 0) -> list[str]:
    """Proteins that differ in how much Lys they have, of one length: a single shape to compile."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        weights = np.ones(20)
        weights[LETTERS.index("K")] = 10 * rng.uniform()
        made.append("".join(rng.choice(LETTERS, 38, p=weights / weights.sum())))
    return made


def lysine(sequence: str) -> float:
    return sequence.count("K") / len(sequence)


def write(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def run(table: Path, out: Path, *words: str, settings: list[str] = SMALL) -> int:
    options = [word for setting in settings for word in ("--set", setting)]
    return main(["train", str(table), "--out", str(out), *words, *options])


def figures(out: Path, target: str) -> dict:
    (tests,) = json.loads((out / "report" / "metrics.json").read_text())["tests"].values()
    return tests[target]["model"]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQXESM_CACHE", str(tmp_path_factory.mktemp("cache")))
        # Random proteins have no relatives to search for.
        patch.setattr(shutil, "which", lambda _: None)
        yield


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """A run on a number, a class and an order at once, with missing values."""
    folder = tmp_path_factory.mktemp("several")
    rows = []
    for number, sequence in enumerate(proteins(300)):
        share = lysine(sequence)
        rows.append(
            {
                "id": f"p{number}",
                "sequence": sequence,
                "yield": "" if number % 5 == 0 else 40 + 200 * share,
                "side": "NA" if number % 7 == 0 else ("out" if share > 0.2 else "in"),
                "level": ["low", "middle", "high"][int(share > 0.15) + int(share > 0.3)],
            }
        )
    table = write(folder / "assay.csv", rows)
    words = ["--target", "yield", "--target", "side", "--target", "level"]
    order = ["targets.0.unit=mg/L", "targets.2.kind=ordinal", 'targets.2.classes=["low","middle","high"]']
    assert run(table, folder / "run", *words, settings=[*SMALL, *order]) == 0
    return folder


def test_several_targets_with_missing_values_are_learned_together(several):
    assert figures(several / "run", "yield")["r2"]["value"] > 0.8
    assert figures(several / "run", "side")["auroc"]["value"] > 0.9
    assert figures(several / "run", "level")["spearman"]["value"] > 0.8
    model = AssayModel.from_pretrained(several / "run" / "model")
    assert [target.kind for target in model.targets] == ["number", "binary", "ordinal"]
    assert model.targets[1].classes == ("in", "out")


def test_the_report_shows_baselines_and_what_was_held_out(several):
    report = several / "run" / "report"
    tests = json.loads((report / "metrics.json").read_text())["tests"]
    assert set(tests["test"]["yield"]) == {"model", "composition"}
    assert "held out: 30 for validation and 30 for test" in (report / "data.md").read_text()
    assert {"test-yield.png", "test-side.png", "test-level.png", "curves.png"} <= {p.name for p in report.iterdir()}
    card = (several / "run" / "model" / "README.md").read_text()
    assert "### yield, test (30 proteins)" in card
    assert "license" not in card.split("---")[1]


def test_predict_names_what_it_predicts_and_its_unit(several, tmp_path):
    fasta = tmp_path / "two.fasta"
    fasta.write_text(">rich\n" + "K" * 20 + "A" * 18 + "\n>bad\n123\n")
    out = tmp_path / "out.csv"
    assert main(["predict", str(fasta), "--model", str(several / "run" / "model"), "-o", str(out)]) == 0
    rich, bad = csv.DictReader(out.read_text().splitlines())
    columns = ["id", "length", "yield (mg/L)", "yield_low", "yield_high", "side", "side_probability", "level"]
    assert list(rich) == [*columns, "level_probability", "note"]
    assert float(rich["yield_low"]) < float(rich["yield (mg/L)"]) < float(rich["yield_high"])
    assert (rich["side"], rich["level"]) == ("out", "high")
    model = AssayModel.from_pretrained(several / "run" / "model")
    by_hand = model.predict(["K" * 20 + "A" * 18])
    assert float(rich["yield (mg/L)"]) == pytest.approx(float(by_hand["yield"][0]), rel=1e-5)
    assert float(rich["side_probability"]) == pytest.approx(float(by_hand["side"][0]), rel=1e-5)
    assert bad["yield (mg/L)"] == ""
    assert bad["note"].startswith("not predicted")


def test_the_recipe_that_was_used_trains_the_same_model(several, tmp_path):
    recipe = read_any_recipe(several / "run" / "config.toml")
    assert recipe.targets[0].unit == "mg/L"
    assert main(["train", str(several / "run" / "config.toml"), "--out", str(tmp_path / "again")]) == 0
    one, other = (AssayModel.from_pretrained(each / "model") for each in (several / "run", tmp_path / "again"))
    np.testing.assert_array_equal(one.predict(proteins(3))["yield"], other.predict(proteins(3))["yield"])


def test_every_residue_gets_a_class(tmp_path):
    # Of many lengths, so that batches are longer than some of the sets.
    rows = [
        {"sequence": each, "structure": "".join("H" if letter in "AELKM" else "-C"[letter != "G"] for letter in each)}
        for each in (sequence[number % 11 :] for number, sequence in enumerate(proteins(60)))
    ]
    table = write(tmp_path / "table.csv", rows)
    assert run(table, tmp_path / "run", "--target", "structure", settings=[*SMALL, *BY_LETTER]) == 0
    assert figures(tmp_path / "run", "structure")["accuracy"]["value"] > 0.95
    model = AssayModel.from_pretrained(tmp_path / "run" / "model")
    assert model.targets[0].classes == ("C", "H")
    assert model.predict(["AAAWWW"])["structure"][0].argmax(axis=1).tolist() == [1, 1, 1, 0, 0, 0]


def test_files_of_its_own_for_validation_and_test(tmp_path):
    tables = {}
    for seed, name in enumerate(("training", "valid", "test")):
        rows = [{"sequence": each, "share": lysine(each)} for each in proteins(80, seed)]
        tables[name] = write(tmp_path / f"{name}.csv", rows)
    # Also a training protein, which must not be trained on.
    with tables["training"].open("a") as file:
        file.write(f"{proteins(1, 2)[0]},0.9\n")
    words = ["--target", "share", "--validation", str(tables["valid"]), "--test", str(tables["test"])]
    assert run(tables["training"], tmp_path / "run", *words) == 0
    notes = (tmp_path / "run" / "report" / "data.md").read_text()
    assert "1 protein left out that a held-out file has, too" in notes
    assert AssayModel.from_pretrained(tmp_path / "run" / "model").targets[0].kind == "fraction"
    assert figures(tmp_path / "run", "share")["r2"]["value"] > 0.8


def test_a_run_that_was_stopped_goes_on_to_the_same_model(tmp_path, monkeypatch):
    from eqxesm.training import loop

    table = write(tmp_path / "table.csv", [{"sequence": s, "n": 10 * lysine(s)} for s in proteins(80)])
    settings = [*SMALL, "training.epochs=4"]
    assert run(table, tmp_path / "whole", "--target", "n", settings=settings) == 0
    steps, take = [], loop.train_step

    def stop(*arguments):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return take(*arguments)

    monkeypatch.setattr(loop, "train_step", stop)
    assert run(table, tmp_path / "parts", "--target", "n", settings=settings) == 130
    monkeypatch.setattr(loop, "train_step", take)
    assert run(table, tmp_path / "parts", "--target", "n", "--resume", settings=settings) == 0
    one, other = (AssayModel.from_pretrained(tmp_path / name / "model") for name in ("whole", "parts"))
    np.testing.assert_array_equal(one.predict(proteins(3))["n"], other.predict(proteins(3))["n"])


def test_repeats_are_averaged_and_classes_that_differ_are_unknown(tmp_path):
    from eqxesm.training.assay_data import load_assay
    from eqxesm.training.assay_recipe import recipe_for_table

    rows = [{"sequence": s, "n": 1 + n % 3, "c": "ab"[n % 2]} for n, s in enumerate(proteins(40))]
    rows += [{**rows[0], "n": 7}, {**rows[1], "c": "a"}]
    table = write(tmp_path / "table.csv", rows)
    splits = load_assay(recipe_for_table(str(table), ["n", "c"], [*SMALL, "data.held_out=0.3"]))
    values = {}
    for split in (splits.training, splits.validation, splits.tests["test"]):
        values |= dict(zip(split.sequences, np.asarray(split.values), strict=True))
    assert len(values) == 40
    assert values[rows[0]["sequence"]].tolist() == [4.0, 0.0]
    assert values[rows[1]["sequence"]][0] == 2.0
    assert np.isnan(values[rows[1]["sequence"]][1])


def test_a_head_is_chosen_by_the_encoder_and_by_what_is_predicted(tmp_path):
    from eqxesm.training.assay_data import load_assay
    from eqxesm.training.assay_recipe import build_assay_model, complete, recipe_for_table
    from eqxesm.training.recipe import build_encoder, start_keys

    rows = [{"sequence": s, "n": n, "s": ["HC", "CH"][n % 2] * 19} for n, s in enumerate(proteins(40))]
    table = write(tmp_path / "table.csv", rows)
    for column, kind in (("n", "ensemble"), ("s", "residue_convolution")):
        recipe = recipe_for_table(str(table), [column], SMALL[:1])
        encoder, splits = build_encoder(recipe.model.encoder, start_keys(recipe)[0]), load_assay(recipe)
        recipe = complete(recipe, encoder, splits.targets)
        assert build_assay_model(recipe, encoder, splits.targets).head.config.type == kind
        assert "d_model" not in recipe.to_toml()


def test_few_families_are_held_out_by_single_sequences(tmp_path):
    from eqxesm.training.assay_data import load_assay
    from eqxesm.training.assay_recipe import recipe_for_table

    rng, starts = np.random.default_rng(5), proteins(2)
    variants = []
    for number in range(60):
        residues = list(starts[number % 2])
        residues[rng.integers(38)] = "W"
        variants.append("".join(residues) + "ACDEFGHIKL"[number // 6])
    table = write(tmp_path / "table.csv", [{"sequence": s, "n": n} for n, s in enumerate(variants)])
    splits = load_assay(recipe_for_table(str(table), ["n"], SMALL))
    assert re.search(r"single sequences, since \d+ are alike", splits.notes[-1])
    assert (len(splits.validation), len(splits.tests["test"])) == (6, 6)
    assert len(splits.training) > 40


def test_yes_and_no_may_be_spelt_otherwise_in_another_file(tmp_path):
    from eqxesm.training.assay_data import load_assay
    from eqxesm.training.assay_recipe import recipe_for_table

    one = write(
        tmp_path / "validation.csv", [{"sequence": s, "y": f"{n % 2}.0"} for n, s in enumerate(proteins(20, 1))]
    )
    table = write(tmp_path / "table.csv", [{"sequence": s, "y": n % 2} for n, s in enumerate(proteins(80))])
    splits = load_assay(recipe_for_table(str(table), ["y"], SMALL, test=str(one)))
    assert splits.targets[0].kind == "binary"
    assert np.asarray(splits.tests["test"].values)[:, 0].tolist() == [0.0, 1.0] * 10


def few(**columns) -> list[dict]:
    return [{"sequence": s, **{name: make(n) for name, make in columns.items()}} for n, s in enumerate(proteins(40))]


@pytest.mark.parametrize(
    ("rows", "settings", "parts"),
    [
        (few(y=lambda _: 3), [], ["target y: every value is '3'. Nothing can be learned"]),
        (few(y=lambda n: "high" if n == 2 else n), [], ["target y:", "has 'high', expected a number"]),
        (few(y=lambda n: f"text {n}"), [], ["40 different texts in 40 rows: neither numbers nor classes"]),
        (few(y=lambda n: "rare" if n == 3 else "ab"[n % 2]), [], ["one protein alone is of class 'rare'"]),
        (few(y=lambda n: int(n in (5, 6))), [], ["target y", "of class '0'. Hold out more"]),
        (few(y=lambda n: n / 20), ["targets.0.kind=fraction"], ["expected 0 to 1", 'kind = "number"']),
        (few(y=lambda n: "HC" * (n % 3 + 1)), ["targets.0.kind=residues"], ["2 classes for 38 residues"]),
        (few(y=lambda n: n), ["targets.0.column=z"], ["no column 'z'", "'sequence', 'y'"]),
        (few(y=lambda n: n)[:5], [], ["5 proteins with a value: at least 10 are needed"]),
        (few(y=lambda n: "abc"[n % 3]), ["targets.0.kind=ordinal"], ["an ordinal target needs its classes"]),
    ],
)
def test_bad_input_is_refused_in_one_line(rows, settings, parts, tmp_path, capsys):
    table = write(tmp_path / "table.csv", rows)
    status = run(table, tmp_path / "run", "--target", "y", settings=[*SMALL, *settings])
    captured = capsys.readouterr()
    assert_refused((status, captured.out, captured.err), *parts)
    assert not (tmp_path / "run").exists()


def test_options_that_do_not_go_together_are_refused(tmp_path, capsys):
    table = write(tmp_path / "table.csv", few(y=lambda n: n))
    for words, part in (
        ([str(table)], "is a table. Name the column to predict: --target COLUMN."),
        (["recipe.toml", "--test", "t.csv"], "--test goes with --target"),
        ([str(tmp_path / "none.csv"), "--target", "y"], "none.csv: file not found"),
    ):
        status = main(["train", *words, "--out", str(tmp_path / "run")])
        captured = capsys.readouterr()
        assert_refused((status, captured.out, captured.err), part)
