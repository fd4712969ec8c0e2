"""One evaluation that several files look at, and ways to make the others fast."""

import json
from importlib import import_module

import pytest
from labelled_proteins import LABELS, PROTEINS, write_csv

from eqxesm import SolubilityModel
from eqxesm.cli.main import main
from eqxesm.evaluation import evaluate_file, explore


@pytest.fixture
def few_resamples(monkeypatch):
    """Resample less often, where the intervals are not looked at."""
    # The name `eqxesm.evaluation.assess` is the function.
    monkeypatch.setattr(import_module("eqxesm.evaluation.assess"), "RESAMPLES", 3)


@pytest.fixture
def no_pictures(few_resamples, monkeypatch):  # noqa: ARG001
    """Draw nothing either, where the pictures are not looked at."""
    monkeypatch.setattr(evaluate_file, "draw_evaluation", lambda *_: None)
    monkeypatch.setattr(explore, "draw_exploration", lambda *_: None)


@pytest.fixture
def write(tmp_path):
    """Write a file, by default the made-up proteins as CSV, and return its name."""

    def _write(name, content=None):
        (tmp_path / name).write_text(write_csv(PROTEINS, LABELS) if content is None else content)
        return name

    return _write


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory):
    """Folder of one report: `eqxesm evaluate` with the default model on the made-up proteins."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "p.csv").write_text(write_csv(PROTEINS, LABELS))
    assert main(["evaluate", str(folder / "p.csv"), "--out", str(folder / "report")]) == 0
    return folder / "report"


@pytest.fixture(scope="session")
def figures(evaluated):
    """The figures of that report."""
    return json.loads((evaluated / "metrics.json").read_text())


@pytest.fixture(scope="session")
def probabilities():
    """Predictions of the default model for the made-up proteins."""
    return SolubilityModel.from_pretrained("default").predict(PROTEINS)
