"""The committed table of the recipes is what the recipes give."""

import json
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[1] / "examples" / "recipes"
sys.path.insert(0, str(RECIPES))

import results

from eqxesm.training.recipe import read_recipe
from eqxesm.training.run import train

COMMITTED = json.loads((RECIPES / "results.json").read_text())


def test_the_table_holds_every_figure():
    table = (RECIPES / "README.md").read_text()
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
    # Values are compared, no intervals.
    monkeypatch.setattr("eqxesm.evaluation.assessment.RESAMPLES", 2)
    recipe = read_recipe(RECIPES / "frequency.toml", [f"data.root={shared}"])
    found = train(recipe, tmp_path / "run")
    for test, parts in COMMITTED.items():
        for part, rows in parts.items():
            measured = found["tests"][test][part]["model"]
            # Another processor rounds otherwise, and an epoch more or less is kept.
            assert measured["auroc"]["value"] == pytest.approx(
                rows["frequency"]["auroc"]["value"], abs=0.01
            )
