"""The script that made the default model still makes one, on some of the proteins and a tiny encoder."""

import json
import subprocess
import sys

import jax
import pytest
from paths import ROOT

from eqxesm import ESMC, ESMCConfig, SolubilityModel

SCRIPT = ROOT / "model_cards" / "default" / "make.py"


@pytest.mark.slow
def test_on_some_proteins(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("EQXESM_CACHE", str(tmp_path / "cache"))
    # Boosting's threads wait for each other where other tests run.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ESMC(ESMCConfig(4, 16, 1, 16), key=jax.random.key(0)).save_pretrained(tmp_path / "encoder")
    subprocess.run(
        [sys.executable, str(SCRIPT), "--data", str(shared), "--encoder", str(tmp_path / "encoder"), "--epochs", "1",
         "--proteins", "1000", "--out", str(tmp_path / "model")],
        check=True, capture_output=True,
    )  # fmt: skip
    model = SolubilityModel.from_pretrained(tmp_path / "model")
    assert model.cleaning.strip_tags
    assert model.calibration.margin > 0
    assert model.domain.limit > 0
    record = json.loads((tmp_path / "model" / "metrics.json").read_text())["evaluation"]
    assert len(record["sets"]) == 3
    assert [len(table["rows"]) for table in record["tables"]] == [6, 5, 2]
