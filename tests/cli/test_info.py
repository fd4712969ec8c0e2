"""`eqxesm info`."""

import re

import jax

from eqxesm import SolubilityModel


def test_names_parts_settings_and_origin(run, folder, model):
    status, out, err = run("info", folder)
    assert (status, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in re.sub(r"\n +", " ", out).splitlines())
    assert lines["model"] == str(folder)
    assert lines["encoder"] == "one_hot; 0 parameters"
    sizes = sum(leaf.size for leaf in jax.tree.leaves(model.head) if hasattr(leaf, "size"))
    assert f"{sizes} parameters" in lines["head"]
    assert "temperature 0.2" in lines["calibration"]
    assert "max_residues 60" in lines["limits"]
    assert lines["interval"].startswith("0.50 to both sides of the logit")
    assert "90% had their share" in lines["interval"]
    assert "domain" not in lines
    assert (lines["precision"], lines["source"], lines["licence"]) == ("float32", "a test", "mit")
    assert lines["record"] == "not recorded"
    assert lines["card"] == str(folder / "README.md")


def test_describes_the_default_model_if_none_is_named(run):
    status, out, _ = run("info")
    assert status == 0
    assert out.splitlines()[0].split() == ["model", "default"]
    shipped = SolubilityModel.from_pretrained()
    assert f"threshold {shipped.calibration.threshold:.4g}" in out
    assert f"max_residues {shipped.limits.max_residues}" in out
    assert shipped.limits.max_residues > 100
