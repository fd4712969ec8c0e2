"""Features of a frozen encoder: computed once, cached, and resumed after an interruption."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_sets import examples, tiny

from eqxesm import ESMC, ESMCConfig, InputError, SolubilityModel
from eqxesm.data.cleaning import Cleaning
from eqxesm.encoders import residue_mask
from eqxesm.training import TrainConfig, features, score_examples
from eqxesm.training.features import FrozenFeatures, compute_features
from eqxesm.training.step import score
from heads import AttentionPoolMLP, AttentionPoolMLPConfig

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
    np.testing.assert_allclose(score(model, inputs, FROZEN), score_examples(model, DATA), atol=1e-5)


def test_pooled_features_are_means_over_residues():
    model, found = tiny(), compute()
    assert found.rows.shape == (30, 32)
    for index in (0, 7):
        tokens = DATA.proteins[index]
        own = np.asarray(model.encoder.features(tokens))[np.asarray(residue_mask(tokens))]
        np.testing.assert_allclose(found.rows[index], own.mean(axis=0), atol=1e-5)


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
        lambda: (per_residue(), TrainConfig(strategy="frozen", compute_dtype="bfloat16")),
    ],
    ids=["encoder", "cleaning", "per residue", "precision"],
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
