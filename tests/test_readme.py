"""What the README says: its code runs, and its figures stand in the committed results."""

import json
import re
from pathlib import Path

import jax
import pytest

from eqxesm import ESMC, ESMCConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_default_model_in_python():
    names: dict = {}
    for block in BLOCKS[:2]:
        exec(block, names)
    assert names["probabilities"].shape == (1,)
    assert names["gradient"].shape == names["soft"].shape
    # The pure function on a cleaned protein is what predict gives.
    probability = names["model"].probability(names["tokens"])
    assert float(probability) == pytest.approx(float(names["probabilities"][0]), rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_esmc_in_python(tmp_path, monkeypatch):
    """On an encoder of 30 narrow layers, which stands for the real one."""
    ESMC(ESMCConfig(30, 64, 1, 64), key=jax.random.key(0)).save_pretrained(tmp_path / "esmc_300m")
    monkeypatch.chdir(tmp_path)
    protein = re.search(r'thioredoxin = "(\w+)"', README)
    assert protein is not None
    sequences, labels = [protein.group(1)[:40], protein.group(1)[40:80]], [0, 1]
    names: dict = {
        "thioredoxin": protein.group(1),
        "training": (sequences, labels),
        "validation": (sequences, labels),
    }
    for block in BLOCKS[2:]:
        exec(block.replace("learning_rate=1e-4", "learning_rate=1e-4, epochs=1"), names)
    assert names["output"].hidden_states.shape[0] == 2
    assert (tmp_path / "my-model" / "config.json").exists()


def test_parity_figures():
    reports = [
        json.loads(file.read_text()) for file in (ROOT / "model_cards" / "parity").glob("*.json")
    ]
    assert {report["size"] for report in reports} >= {"esmc_300m", "esmc_600m"}
    rows = re.findall(r"^\| (esmc_\w+) \| (\w+) \| (\w+) \| ([\d.e+-]+) \|", README, re.MULTILINE)
    assert len(rows) == len(reports)
    for report in reports:
        assert report["failures"] == []
        worst = max(
            rung["relative_l2"] for case in report["cases"] for rung in case["rungs"].values()
        )
        device = "CPU" if report["device"].startswith("CPU") else "GPU"
        assert (report["size"], report["dtype"], device, f"{worst:.1e}") in rows


def test_default_figures():
    record = json.loads((ROOT / "model_cards" / "default" / "metrics.json").read_text())
    for data in record["evaluation"]["sets"]:
        for row in data["rows"]:
            x = row["metrics"]["auroc"]
            written = f"{x['value']:.3f} ({x['low']:.3f} to {x['high']:.3f})"
            if data["variant"] != "as published" and row["name"] != "tag rule":
                assert written in README
            if data["variant"] == "as published" and row["name"] == "tag rule":
                assert f"{x['value']:.3f}" in README
