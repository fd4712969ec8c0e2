"""Runs with a language model: frozen, with adapters, and trained as a whole."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from checkpoints import parameters
from run_recipes import epochs, proteins, refused, train, weights
from sklearn.metrics import roc_auc_score

from eqxesm import ESMC, About, ESMCConfig, SolubilityModel
from eqxesm.checkpoint.record import Provenance, with_about
from eqxesm.cli.main import main
from eqxesm.description import describe_model
from eqxesm.encoders.lora import find_adapters, merge_lora

RANDOM = "model.encoder={type='esmc', layers=1, d_model=32, heads=2, d_ffn=32}"
HEAD = "model.head={type='mean_pool_mlp', hidden=[8]}"
SIZE = ESMCConfig(1, 32, 2, 32)
ORIGIN = Provenance("someone/esmc", "a" * 40, (), "cc-by-4.0")


@pytest.fixture(autouse=True)
def cache(quick, monkeypatch, tmp_path) -> Path:  # noqa: ARG001
    monkeypatch.setenv("EQXESM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def save_encoder(folder: Path, seed: int = 0, origin: Provenance | None = ORIGIN) -> ESMC:
    encoder = with_about(ESMC(SIZE, key=jax.random.key(seed)), About(origin))
    encoder.save_pretrained(folder)
    return encoder


def arrays(tree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]


def test_frozen_encoder_keeps_its_weights_and_terms(recipe, tmp_path, cache, capsys):
    """It is read from a folder, and its features are computed once."""
    encoder = save_encoder(tmp_path / "encoder")
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

    described = describe_model(model)
    assert described["source"] == "trained on top of someone/esmc"
    assert (described["revision"], described["licence"]) == ("a" * 40, "cc-by-4.0")
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "\nlicense: cc-by-4.0\n" in card

    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("*.features")}
    assert len(kept) == 3
    assert train(recipe, tmp_path / "again", settings=settings) == 0
    assert weights(tmp_path / "again") == weights(tmp_path / "run")
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.features")} == kept

    # What is found only when the encoder is loaded.
    error = refused(capsys, recipe, tmp_path / "other", settings=settings[:-1])
    assert "brings its own terms (cc-by-4.0). Leave it out" in error
    wide = "model.head={type='mean_pool_mlp', d_model=33}"
    error = refused(capsys, recipe, tmp_path / "other", settings=[*settings, wide])
    assert "model.head: the head takes features of width 33" in error
    assert not (tmp_path / "other").exists()
    save_encoder(tmp_path / "encoder", seed=1)
    error = refused(capsys, recipe, tmp_path / "run", "--resume", settings=settings)
    assert "holds a run whose encoder differed (digest " in error


def test_adapters_are_trained_and_the_layers_are_not(recipe, tmp_path):
    encoder = save_encoder(tmp_path / "encoder", origin=None)
    settings = [
        "training.strategy=lora", "training.epochs=2", 'training.lora_targets=["query", "up"]',
        "training.learning_rate=0.1", HEAD,
        f"model.encoder={{pretrained='{tmp_path / 'encoder'}'}}",
    ]  # fmt: skip
    assert train(recipe, tmp_path / "run", settings=settings) == 0
    model = SolubilityModel.from_pretrained(tmp_path / "run" / "model")
    assert len(find_adapters(model)) == 2
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
    # The terms are those of the recipe where the encoder has none.
    assert (model.about.provenance.source, model.about.provenance.license) == ("eqxesm train, recipe tried", "mit")


@pytest.mark.slow
def test_joint_training_in_half_precision_keeps_full_weights(recipe, tmp_path):
    settings = ["training.compute_dtype=bfloat16", "training.epochs=2", HEAD, RANDOM]
    assert train(recipe, tmp_path / "run", settings=settings) == 0
    model = SolubilityModel.from_pretrained(tmp_path / "run" / "model")
    dtypes = {str(array.dtype) for array in arrays(parameters(model))}
    assert dtypes == {"float32"}
    first, second = epochs(tmp_path / "run")
    assert second["training"]["loss"] < first["training"]["loss"]


@pytest.mark.parametrize(
    ("strategy", "form"), [("frozen", "head"), pytest.param("lora", "adapter", marks=pytest.mark.slow)]
)
def test_run_on_a_published_encoder_is_published(strategy, form, recipe, hub, tmp_path, capsys):
    """It takes a few kB, and its card has the figures and the encoder that it is based on."""
    parity = {"original": "transformers 5", "dtype": "float32", "device": "CPU, X",
              "distance": 1.6e-6, "tolerance": 1e-5, "weights": "random",
              "date": "2026-11-22"}  # fmt: skip
    encoder = with_about(ESMC(SIZE, key=jax.random.key(0)), About(ORIGIN))
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
    np.testing.assert_array_equal(SolubilityModel.from_pretrained("me/model").predict(sequences), ours)
