"""The committed table of the recipes holds every figure, and a recipe gives its row again."""

import json
import runpy
from importlib import import_module
from types import SimpleNamespace

import pytest
from paths import EXAMPLES

from eqxesm.training.run import train

FOLDER = EXAMPLES / "recipes"
COMMITTED = json.loads((FOLDER / "results.json").read_text())

results = SimpleNamespace(**runpy.run_path(str(FOLDER / "results.py")))


def test_the_table_holds_every_figure():
    table = (FOLDER / "README.md").read_text()
    assert table.startswith(results.INTRODUCTION)
    assert set(COMMITTED) == {"DeepSol test", "PLM_Sol test"}
    for parts in COMMITTED.values():
        assert set(parts) == {"all", "untagged"}
        for rows in parts.values():
            assert list(rows) == [*results.RECIPES, *results.PREDICTORS.values()]
            for name, row in rows.items():
                cells = " | ".join(results.interval(row[metric]) for metric in results.METRICS)
                assert f"| {name} | {cells} |" in table


@pytest.mark.slow
def test_the_frequency_recipe_gives_its_row_again(shared, tmp_path, monkeypatch):
    # Values are compared, not intervals.
    monkeypatch.setattr(import_module("eqxesm.evaluation.assess"), "RESAMPLES", 2)
    recipe = results.read("frequency", [f"data.root={shared}"])
    found = train(recipe, tmp_path / "run")
    for test, parts in COMMITTED.items():
        for part, rows in parts.items():
            measured = found["tests"][test][part]["model"]
            # Another processor rounds differently, and may keep another epoch.
            assert measured["auroc"]["value"] == pytest.approx(rows["frequency"]["auroc"]["value"], abs=0.01)
