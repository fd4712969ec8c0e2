"""Features of a frozen encoder: computed once, cached, and resumed after an interruption."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from head_kinds import head_config
from training_sets import examples, tiny

from eqxesm import ESMC, Calibration, ESMCConfig, InputError, SolubilityModel
from eqxesm.data.cleaning import Cleaning
from eqxesm.domain import Domain
from eqxesm.encoders import residue_mask
from eqxesm.training import TrainConfig, features, fit, score_examples
from eqxesm.training.features import FrozenFeatures, compute_features
from eqxesm.training.step import score
from heads import AttentionPoolMLP, AttentionPoolMLPConfig, Ensemble, WindowMLP, WindowMLPConfig
from heads.windows import MIN_SPREAD

FROZEN = TrainConfig(strategy="frozen")
CONFIG = ESMCConfig(2, 32, 2, 48)
DATA = examples(30, 0)


def per_residue() -> SolubilityModel:
    head = AttentionPoolMLP(AttentionPoolMLPConfig(32, 3, (8,)), key=jax.random.key(3))
    return SolubilityModel(tiny().encoder, head)


def compute(model=None, cache=None, config=FROZEN) -> FrozenFeatures:
    return compute_features(model or tiny(), DATA.proteins, DATA.lengths, config, cache)


@pytest.mark.parametrize("model", [tiny(), per_residue()], ids=["pooled", "per residue"])
def test_head_on_features_gives_the_logits_of_the_model_on_tokens(model, tmp_path):
    found = compute(model, tmp_path)
    inputs = found.collate(np.arange(30), 64)
    np.testing.assert_allclose(score(model, inputs, FROZEN)[:, 0], score_examples(model, DATA), atol=1e-5)


def test_pooled_features_are_means_over_residues():
    model, found = tiny(), compute()
    assert found.rows.shape == (30, 32)
    for index in (0, 7):
        tokens = DATA.proteins[index]
        own = np.asarray(model.encoder.features(tokens))[np.asarray(residue_mask(tokens))]
        np.testing.assert_allclose(found.rows[index], own.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("model", [tiny(), per_residue()], ids=["pooled", "per residue"])
def test_features_of_some_proteins_are_selected_by_their_tokens(model):
    found, some = compute(model), [DATA.proteins[index] for index in (11, 3, 3, 29)]
    selected = jax.tree.leaves(found.select(some).collate(np.arange(4), 64))
    for ours, expected in zip(selected, jax.tree.leaves(found.collate(np.array([11, 3, 3, 29]), 64)), strict=True):
        np.testing.assert_array_equal(ours, expected)


def windows(*sizes: int) -> SolubilityModel:
    return SolubilityModel(tiny().encoder, WindowMLP(WindowMLPConfig(32, sizes), key=jax.random.key(3)))


def test_other_windows_get_a_file_of_their_own(tmp_path):
    compute(windows(7), tmp_path)
    compute(windows(9), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_refuses_known_features_without_those_of_a_protein():
    with pytest.raises(InputError, match="features are given, but not those of protein 2"):
        compute().select([DATA.proteins[0], np.array([0, 5, 2], np.int32)])


@pytest.mark.slow
def test_a_trained_head_keeps_its_scale_and_loses_interval_and_domain():
    start, other = window_ensemble(), examples(40, 7)
    start, _ = fit(start, DATA, DATA, TrainConfig(strategy="frozen", epochs=1))
    domain = Domain.fit(np.eye(32, dtype=np.float32), np.eye(32, dtype=np.float32))
    start = start.replace(calibration=Calibration(2.0, margin=0.5), domain=domain)
    again, _ = fit(start, other, other, TrainConfig(strategy="frozen", epochs=1, learning_rate=1e-12))
    np.testing.assert_array_equal(again.head.members.centre, start.head.members.centre)
    np.testing.assert_allclose(score_examples(again, other), score_examples(start, other), atol=1e-5)
    assert (again.calibration, again.domain) == (Calibration(2.0), None)


def window_ensemble() -> SolubilityModel:
    config = head_config("ensemble", 32, dropout=0.0)
    return SolubilityModel(tiny().encoder, Ensemble(config, key=jax.random.key(3)))


@pytest.mark.slow
def test_training_puts_what_is_pooled_on_one_scale_and_does_not_train_the_scale():
    model, config = window_ensemble(), TrainConfig(strategy="frozen", epochs=2, weight_decay=1.0)
    trained, _ = fit(model, DATA, DATA, config)
    pooled = np.stack([
        np.asarray(model.head.members.pool(model.encoder.features(tokens), residue_mask(tokens)))
        for tokens in DATA.proteins
    ])  # fmt: skip
    for member in range(3):
        np.testing.assert_allclose(trained.head.members.centre[member], pooled.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(trained.head.members.scale[member], pooled.std(axis=0) + MIN_SPREAD, atol=1e-5)
    weights = [model.head.members.mlp.layers[0].weight for model in (model, trained)]
    assert not np.array_equal(*weights)


def test_known_features_are_not_computed_again(monkeypatch):
    known = compute()
    expected = fit(tiny(), DATA, DATA, TrainConfig(strategy="frozen", epochs=2))[0]
    forbid(monkeypatch)
    trained, _ = fit(tiny(), DATA, DATA, TrainConfig(strategy="frozen", epochs=2), features=known)
    np.testing.assert_array_equal(trained.head.mlp.layers[0].weight, expected.head.mlp.layers[0].weight)


def forbid(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(features, "map_proteins", refuse)


def test_cached_features_are_not_computed_again(tmp_path, monkeypatch):
    first = compute(cache=tmp_path)
    forbid(monkeypatch)
    np.testing.assert_array_equal(compute(cache=tmp_path).rows, first.rows)
    # A vector of 4-byte numbers for each protein, nothing else.
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == 30 * 32 * 4


def test_a_damaged_file_of_the_cache_is_made_again(tmp_path):
    first = np.array(compute(cache=tmp_path).rows)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(compute(cache=tmp_path).rows, first)


@pytest.mark.parametrize(
    "other",
    [
        lambda: (SolubilityModel(ESMC(CONFIG, key=jax.random.key(9)), tiny().head), FROZEN),
        lambda: (SolubilityModel(tiny().encoder, tiny().head, Cleaning(strip_tags=True)), FROZEN),
        lambda: (per_residue(), FROZEN),
        lambda: (tiny(), TrainConfig(strategy="frozen", compute_dtype="bfloat16")),
        lambda: (windows(7), FROZEN),
    ],
    ids=["encoder", "cleaning", "per residue", "precision", "pooling"],
)  # fmt: skip
def test_other_features_get_a_file_of_their_own(other, tmp_path):
    compute(cache=tmp_path)
    compute(*other()[:1], cache=tmp_path, config=other()[1])
    assert len(list(tmp_path.iterdir())) == 2


def test_another_head_uses_the_same_cache(tmp_path, monkeypatch):
    compute(cache=tmp_path)
    forbid(monkeypatch)
    compute(tiny(dropout=0.3), cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_interrupted_computation_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 8)
    whole = compute(cache=tmp_path / "whole")
    real, seen = features.map_proteins, []

    def some(function, proteins, **options):
        seen.append(len(proteins))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(function, proteins, **options)

    monkeypatch.setattr(features, "map_proteins", some)
    with pytest.raises(KeyboardInterrupt):
        compute(cache=tmp_path / "cut")
    again = compute(cache=tmp_path / "cut")
    assert seen == [8, 8, 8, 8, 6]
    np.testing.assert_array_equal(again.rows, whole.rows)
    assert [file.suffix for file in (tmp_path / "cut").iterdir()] == [".features"]


def test_features_per_residue_are_kept_in_half_precision():
    config = TrainConfig(strategy="frozen", compute_dtype="bfloat16")
    assert compute(per_residue(), config=config).rows.dtype == jnp.bfloat16
    assert compute(tiny(), config=config).rows.dtype == np.float32


def test_refuses_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="set EQXESM_CACHE"):
        compute(cache=tmp_path / "file")
