"""Runs with a language model: frozen, with adapters, and trained as a whole."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from run_recipes import epochs, hurry, make_data, proteins, refused, train, weights
from sklearn.metrics import roc_auc_score

from eqxesm import ESMC, ESMCConfig, SolubilityModel
from eqxesm.checkpoint.schema import Provenance
from eqxesm.cli import main
from eqxesm.description import describe_model
from eqxesm.encoders.lora import adapters, merge_lora

DRAWN = "model.encoder={type='esmc', layers=1, d_model=32, heads=2, d_ffn=32}"
HEAD = "model.head={type='mean_pool_mlp', hidden=[8]}"
SIZE = ESMCConfig(1, 32, 2, 32)
ORIGIN = Provenance("someone/esmc", "a" * 40, (), "cc-by-4.0")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    hurry(monkeypatch)
    monkeypatch.setenv("EQXESM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pretrained(folder: Path, seed: int = 0, origin: Provenance | None = ORIGIN) -> ESMC:
    encoder = ESMC(SIZE, key=jax.random.key(seed), provenance=origin)
    encoder.save_pretrained(folder)
    return encoder


def arrays(tree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]


def test_a_frozen_encoder_stays_as_it_is(recipe, tmp_path, cache, capsys):
    """From a folder; its features are computed once, and its terms are the model's."""
    encoder = pretrained(tmp_path / "encoder")
    chosen = f"model.encoder={{pretrained='{tmp_path / 'encoder'}'}}"
    settings = ["training.strategy=frozen", "training.epochs=2", HEAD, chosen, "license="]
    assert train(recipe, tmp_path / "run", settings=settings) == 0
    model = SolubilityModel.from_pretrained(tmp_path / "run" / "model")
    for ours, theirs in zip(arrays(model.encoder), arrays(encoder), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    sequences, labels = proteins("test")
    report = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    found = report["tests"]["test set"]["all"]["model"]["auroc"]["value"]
    assert found == pytest.approx(roc_auc_score(labels, model.predict(sequences)))

    told = describe_model(model)
    assert told["source"] == "trained on top of someone/esmc"
    assert (told["revision"], told["licence"]) == ("a" * 40, "cc-by-4.0")
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "\nlicense: cc-by-4.0\n" in card

    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("*.features")}
    assert len(kept) == 3
    assert train(recipe, tmp_path / "again", settings=settings) == 0
    assert weights(tmp_path / "again") == weights(tmp_path / "run")
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.features")} == kept

    # Two things that only a look at the encoder tells.
    error = refused(capsys, recipe, tmp_path / "other", settings=settings[:-1])
    assert "brings its own terms (cc-by-4.0): leave it out" in error
    wide = "model.head={type='mean_pool_mlp', d_model=33}"
    error = refused(capsys, recipe, tmp_path / "other", settings=[*settings, wide])
    assert "model: head: the head takes features 33 wide" in error
    assert not (tmp_path / "other").exists()
    pretrained(tmp_path / "encoder", seed=1)
    error = refused(capsys, recipe, tmp_path / "run", "--resume", settings=settings)
    assert "holds a run with other encoder (digest " in error


def test_adapters_stand_beside_the_layers(recipe, tmp_path):
    encoder = pretrained(tmp_path / "encoder", origin=None)
    settings = [
        "training.strategy=lora", "training.epochs=2", 'training.lora_targets=["query", "up"]',
        "training.learning_rate=0.1", HEAD,
        f"model.encoder={{pretrained='{tmp_path / 'encoder'}'}}",
    ]  # fmt: skip
    assert train(recipe, tmp_path / "run", settings=settings) == 0
    model = SolubilityModel.from_pretrained(tmp_path / "run" / "model")
    assert len(adapters(model)) == 2
    np.testing.assert_array_equal(
        model.encoder.blocks.attention.query.base.weight, encoder.blocks.attention.query.weight
    )
    trained, given = merge_lora(model).encoder.blocks, encoder.blocks
    same = {
        name: bool((getattr(trained.attention, name).weight == weight).all())
        for name, weight in (
            ("query", given.attention.query.weight), ("key", given.attention.key.weight)
        )
    }  # fmt: skip
    assert same == {"query": False, "key": True}
    assert (trained.ffn.up.weight != given.ffn.up.weight).any()
    np.testing.assert_array_equal(trained.ffn.down.weight, given.ffn.down.weight)
    # An encoder that names no terms leaves them to the recipe.
    assert (model.provenance.source, model.provenance.license) == (
        "eqxesm train, recipe tried",
        "mit",
    )


def test_everything_trained_in_half_precision(recipe, tmp_path):
    settings = ["training.compute_dtype=bfloat16", "training.epochs=2", HEAD, DRAWN]
    assert train(recipe, tmp_path / "run", settings=settings) == 0
    model = SolubilityModel.from_pretrained(tmp_path / "run" / "model")
    dtypes = {str(array.dtype) for array in arrays(model)}
    assert dtypes == {"float32"}
    first, second = epochs(tmp_path / "run")
    assert second["training"]["loss"] < first["training"]["loss"]


@pytest.mark.parametrize(("strategy", "form"), [("frozen", "head"), ("lora", "adapter")])
def test_a_run_on_a_published_encoder_is_published(strategy, form, recipe, hub, tmp_path, capsys):
    """In a few kB, with a card that tells what was measured and what it stands on."""
    parity = {"original": "transformers 5", "dtype": "float32", "device": "CPU, X",
              "distance": 1.6e-6, "tolerance": 1e-5, "weights": "random",
              "date": "2026-11-22"}  # fmt: skip
    encoder = ESMC(SIZE, key=jax.random.key(0), provenance=ORIGIN)
    encoder.save_pretrained(tmp_path / "encoder", {"summary": "A port.", "parity": [parity]})
    assert main(["push", str(tmp_path / "encoder"), "me/esmc"]) == 0
    settings = [
        f"training.strategy={strategy}", "training.epochs=2", HEAD, "license=",
        "model.encoder={pretrained='me/esmc'}",
    ]  # fmt: skip
    assert train(recipe, tmp_path / "run", settings=settings) == 0
    capsys.readouterr()
    assert main(["push", str(tmp_path / "run" / "model"), "me/model", "--form", form]) == 0
    tree = hub.repositories["me/model"].tree()
    assert len(tree["model.safetensors"].content) < 12_000
    card = tree["README.md"].content.decode()
    fields = yaml.safe_load(card.split("---\n")[1])
    assert fields["base_model"] == "me/esmc"
    assert fields["base_model_relation"] == ("adapter" if form == "adapter" else "finetune")
    assert fields["license"] == "cc-by-4.0"
    (measured, *_) = fields["model-index"][0]["results"]
    report = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    auroc = report["tests"]["test set"]["all"]["model"]["auroc"]["value"]
    found = {metric["type"]: metric["value"] for metric in measured["metrics"]}
    assert found["roc_auc"] == pytest.approx(auroc, abs=1e-4)
    for part in ("1.6e-06", "tag rule", "composition regression", "](calibration.png)",
                 hub.repositories["me/esmc"].names["main"], "Seed: ", "Duration: "):  # fmt: skip
        assert part in card
    assert "ecorded." not in card
    sequences, _ = proteins("test")
    ours = SolubilityModel.from_pretrained(tmp_path / "run" / "model").predict(sequences)
    np.testing.assert_array_equal(
        SolubilityModel.from_pretrained("me/model").predict(sequences), ours
    )
