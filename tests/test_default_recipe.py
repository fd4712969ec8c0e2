"""The script that made the default model still makes one, on a few proteins."""

import json
import subprocess
import sys

import pytest
from paths import ROOT

from eqxesm import SolubilityModel

SCRIPT = ROOT / "model_cards" / "default" / "make.py"


@pytest.mark.slow
def test_on_a_few_proteins(shared, tmp_path):
    subprocess.run(
        [sys.executable, str(SCRIPT), "--data", str(shared), "--epochs", "1", "--proteins", "40",
         "--out", str(tmp_path / "model")],
        check=True, capture_output=True,
    )  # fmt: skip
    model = SolubilityModel.from_pretrained(tmp_path / "model")
    assert model.cleaning.strip_tags
    record = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert len(record["evaluation"]["sets"]) == 4
