"""What README and docs say: their code runs, and their figures are those of the committed results."""

import json
import re
import runpy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from paths import ROOT

from eqxesm import ESMC, AssayModel, ESMCConfig, OneHot, Target, Tokenizer
from eqxesm.data.proteins import read_proteins
from eqxesm.training.assay_recipe import AssayRecipe, read_any_recipe
from eqxesm.training.compare import Comparison
from eqxesm.training.pretrain_recipe import PretrainRecipe
from eqxesm.training.recipe import Recipe, read_recipe
from heads import CompositionMLP, CompositionMLPConfig

README = (ROOT / "README.md").read_text()
PROTEIN = "MSKGEELFTGVVPILVELDGDVNGHKFSVSGEGEGDATYG"


def read(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(text: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_blocks(code: list[str], **names: Any) -> dict[str, Any]:
    for block in code:
        exec(block, names)
    return names


def test_readme_is_short():
    assert len(README.splitlines()) < 180


def test_readme_in_python():
    names = run_blocks(blocks(README))
    assert names["probabilities"].shape == (1,)
    assert names["gradient"].shape == names["soft"].shape
    # The pure function on a cleaned protein is what predict returns.
    probability = names["model"].probability(names["tokens"])
    assert float(probability) == pytest.approx(float(names["probabilities"][0]), rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_jax_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_blocks(blocks(read("docs/jax.md")))
    assert names["output"].hidden_states.shape[0] == 3
    assert np.abs(names["merge_lora"](names["adapted"])(names["tokens"]).logits - names["output"].logits).max() < 1e-5
    assert "Licence: cc-by-4.0" in (tmp_path / "mean" / "README.md").read_text()


def test_dlpack_page(capsys):
    torch = pytest.importorskip("torch")
    names = run_blocks(blocks(read("docs/dlpack.md")))
    # The comment beside the print is what it prints.
    assert capsys.readouterr().out.strip() in read("docs/dlpack.md")
    # The gradient through both frameworks is that of one.
    weight, soft = (jnp.asarray(each.detach().numpy()) for each in (names["head"].weight, names["soft"]))
    expected = jax.grad(lambda soft: (names["encode"](soft) @ weight.T).mean())(soft)
    assert isinstance(names["soft"].grad, torch.Tensor)
    np.testing.assert_allclose(names["soft"].grad.numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_designing_page():
    names = run_blocks(blocks(read("docs/designing.md")))
    assert abs(float(names["attribution"].gap)) < 0.01
    assert names["table"].shape == (len(names["tokens"]), 20)
    assert np.isfinite(names["slope"]).all()
    assert [names["designed"][n] for n in names["interface"]] == [names["binder"][n] for n in names["interface"]]
    assert names["loss"](names["soften"](names["logits"]), jax.random.key(0)) < names["loss"](
        names["soften"](names["start"]), jax.random.key(0)
    )
    check_influence(
        **{name: names[name] for name in ("trained", "error", "logit", "batch", "labels", "tokens", "influence")}
    )
    # The product with the Hessian is the slope of the gradient along the direction.
    slope, own, step = jax.grad(lambda sequence: names["exact"](sequence)[0]), names["own"], 0.02 * names["direction"]
    expected = (slope(own + step) - slope(own - step)) / 0.04
    np.testing.assert_allclose(names["curvature"], expected, atol=0.01 * np.abs(expected).max())


def check_influence(trained, error, logit, batch, labels, tokens, influence):
    """A step against the gradient of a training protein's error moves the logit by its influence."""
    rate = 1e-3
    for number in range(len(batch)):
        slope = jax.grad(error)(trained, batch[number], labels[number])
        moved = logit(jax.tree.map(lambda a, b: a - rate * b, trained, slope), tokens) - logit(trained, tokens)
        assert float(moved) / rate == pytest.approx(float(influence[number]), rel=0.1)


def test_the_table_of_designs_is_that_of_its_numbers():
    table = runpy.run_path(str(ROOT / "examples" / "designs" / "table.py"))
    assert read("examples/designs/README.md") == table["make_page"](json.loads(read("examples/designs/results.json")))


@pytest.mark.slow
def test_esmc_page(tmp_path, monkeypatch):
    """On an encoder of 30 narrow layers, which stands for the real one."""
    monkeypatch.chdir(tmp_path)
    ESMC(ESMCConfig(30, 64, 1, 64), key=jax.random.key(0)).save_pretrained("esmc_300m")
    names = run_blocks(blocks(read("docs/esm-c.md")))
    assert names["output"].hidden_states.shape[0] == 2
    assert names["model"](names["tokens"]).shape == ()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_assay_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = read("docs/assays.md")
    assay, solubility = blocks(page, "toml")
    for text, kind in ((assay, AssayRecipe), (solubility, Recipe)):
        (tmp_path / "recipe.toml").write_text(text)
        recipe = read_any_recipe("recipe.toml")
        assert isinstance(recipe, kind)
        assert recipe.training.strategy == "frozen"
    head = CompositionMLP(CompositionMLPConfig(OneHot().d_model, (4,), outputs=1), key=jax.random.key(0))
    AssayModel(OneHot(), head, [Target("yield", "number")]).save_pretrained("run/model")
    pairs = [PROTEIN, PROTEIN[::-1]], [0, 1]
    tokens = Tokenizer().encode(PROTEIN)
    names = run_blocks(blocks(page), training=pairs, validation=pairs, tokens=tokens)
    assert [protein.id for protein in read_proteins("training.arrayrecord")] == ["p1"]
    assert len(names["epochs"]) == 2
    assert (tmp_path / "my-model" / "config.json").exists()


def test_encoders_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = read("docs/encoders.md")
    pretraining, comparison = blocks(page, "toml")
    (tmp_path / "pretraining.toml").write_text(pretraining)
    (tmp_path / "comparison.toml").write_text(comparison)
    recipe = read_recipe("pretraining.toml", kind=PretrainRecipe)
    assert read_recipe("comparison.toml", kind=Comparison).tasks[1].kind == "residues"
    # The example is the recipe in the repository, but for its files.
    written = read_recipe(ROOT / "examples" / "pretraining" / "esmc.toml", kind=PretrainRecipe)
    assert recipe.encoder == written.encoder
    ESMC(recipe.encoder, key=jax.random.key(0)).save_pretrained("run/model")
    run_blocks(blocks(page))


def test_head_of_the_contributing_page():
    names = run_blocks(blocks(read("CONTRIBUTING.md")), __name__="example")
    head = names["LinearHead"](names["LinearConfig"](4), key=jax.random.key(0))
    features, mask = jnp.arange(20.0).reshape(5, 4), jnp.array([True, True, True, False, False])
    assert head(features, mask) == head(features.at[3:].set(jnp.nan), mask)
    assert head.outputs is None
    two = names["LinearHead"](names["LinearConfig"](4, outputs=2), key=jax.random.key(0))
    assert two(features, mask).shape == (2,)


def test_parity_figures():
    reports = [json.loads(file.read_text()) for file in (ROOT / "model_cards" / "parity").glob("*.json")]
    assert {report["size"] for report in reports} >= {"esmc_300m", "esmc_600m"}
    rows = re.findall(r"^\| (esmc_\w+) \| (\w+) \| (\w+) \| ([\d.e+-]+) \|", read("docs/esm-c.md"), re.MULTILINE)
    assert len(rows) == len(reports)
    for report in reports:
        assert report["failures"] == []
        worst = max(rung["relative_l2"] for case in report["cases"] for rung in case["rungs"].values())
        device = "CPU" if report["device"].startswith("CPU") else "GPU"
        assert (report["size"], report["dtype"], device, f"{worst:.1e}") in rows


def test_figures_of_the_default_model():
    record = json.loads((ROOT / "model_cards" / "default" / "metrics.json").read_text())
    for data in record["evaluation"]["sets"]:
        for row in data["rows"]:
            x = row["metrics"]["auroc"]
            with_interval = f"{x['value']:.3f} ({x['low']:.3f} to {x['high']:.3f})"
            assert (f"{x['value']:.3f}" if row["name"].startswith("tag rule") else with_interval) in README


def test_figures_of_assays():
    results = json.loads(read("examples/assays/results.json"))
    page = read("examples/assays/README.md")
    for targets in results.values():
        for rows in targets.values():
            for metrics in rows.values():
                x = next(iter(metrics.values()))
                assert f"{x['value']:.3f} ({x['low']:.3f} to {x['high']:.3f})" in page
    for predictor, row in results["eSOL"]["solubility"].items():
        for metric in ("r2", "spearman"):
            x = row[metric]
            assert f"{x['value']:.3f} ({x['low']:.3f} to {x['high']:.3f})" in read("docs/assays.md"), predictor


def test_links_between_documents_lead_somewhere():
    tops = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "model_cards" / "parity" / "README.md")
    for page in (*tops, *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
