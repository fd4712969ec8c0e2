"""Cards say what was recorded, and no more."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

from eqxesm import OneHot, SolubilityModel
from eqxesm.checkpoint.card import render_card
from eqxesm.data.records import read_records
from eqxesm.evaluation import evaluate
from eqxesm.solubility import locate
from heads import CompositionMLP, CompositionMLPConfig

CARDS = Path(__file__).parents[1] / "model_cards"
SECTIONS = ("encoder", "head", "cleaning", "calibration", "limits", "provenance")


def read_default():
    folder = locate("default")
    config = json.loads((folder / "config.json").read_text())
    record = json.loads((folder / "metrics.json").read_text())
    return folder, {name: config[name] for name in SECTIONS}, record


def test_the_default_card_is_rendered_from_its_record():
    folder, sections, record = read_default()
    assert (folder / "README.md").read_text() == render_card(sections, record)
    for name in ("README.md", "metrics.json"):
        assert (CARDS / "default" / name).read_text() == (folder / name).read_text()


def test_the_default_model_fits_into_the_package():
    folder, _, _ = read_default()
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 5_000_000


def test_every_figure_of_the_default_model_stands_in_its_card():
    folder, _, record = read_default()
    card = (folder / "README.md").read_text()
    sets = record["evaluation"]["sets"]
    assert {data["name"] for data in sets} == {"DeepSol test", "PLM_Sol test"}
    for data in sets:
        assert {"this model", "tag rule", "composition regression"} <= {
            row["name"] for row in data["rows"]
        }
        for row in data["rows"]:
            for metric in ("accuracy", "mcc", "auroc", "auprc"):
                x = row["metrics"][metric]
                assert f"{x['value']:.3f} ({x['low']:.3f} to {x['high']:.3f})" in card


def test_the_default_models_figures_are_found_again(shared):
    """On PLM_Sol's test set, through the public interface."""
    _, _, record = read_default()
    records = read_records(shared / "plm_sol" / "test_dataset.fasta", labels=True)
    model = SolubilityModel.from_pretrained("default")
    labels = np.array([r.label for r in records])
    probabilities = model.predict([r.sequence for r in records])
    found = evaluate(labels, probabilities.astype(float), resamples=2)
    for data in record["evaluation"]["sets"]:
        if data["name"] == "PLM_Sol test":
            written = next(row for row in data["rows"] if row["name"] == "this model")["metrics"]
            for metric in ("accuracy", "mcc", "auroc", "auprc"):
                assert found[metric].value == pytest.approx(written[metric]["value"], abs=1e-4)


def test_stripping_first_changes_nothing_for_a_model_that_strips():
    _, _, record = read_default()
    figures: dict = {}
    for data in record["evaluation"]["sets"]:
        row = next(row for row in data["rows"] if row["name"] == "this model")
        figures.setdefault(data["name"], []).append(row["metrics"])
    assert all(first == second for first, second in figures.values())


def test_what_was_not_recorded_is_said_to_be_missing(tmp_path):
    head = CompositionMLP(CompositionMLPConfig(25, (4,)), key=jax.random.key(0))
    SolubilityModel(OneHot(), head).save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    _, metadata, body = card.split("---\n", 2)
    assert body.count("Not recorded.") == 3
    fields = yaml.safe_load(metadata)
    assert "license" not in fields
    assert "metrics" not in fields
    assert fields["library_name"] == "eqxesm"
