"""Distances to the training proteins."""

import jax
import numpy as np
import pytest
from predictions import predict_proteins
from scipy.spatial.distance import mahalanobis

from eqxesm import InputError, OneHot, SolubilityModel
from eqxesm.data.protein import Protein
from eqxesm.domain import SHRINKAGE, UNLIKE, Domain
from heads import CompositionMLP, CompositionMLPConfig

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def draw(n: int, seed: int, d_model: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d_model)) @ rng.normal(size=(d_model, d_model)) + 3).astype(np.float32)


def test_distance_against_scipy():
    training = draw(200, 0)
    domain = Domain.fit(training, draw(100, 0))
    covariance = np.cov(training.T, bias=True)
    covariance += SHRINKAGE * np.trace(covariance) / 5 * np.eye(5)
    inverse = np.linalg.inv(covariance)
    for row in draw(20, 1):
        expected = mahalanobis(row, training.mean(axis=0), inverse)
        np.testing.assert_allclose(domain.distance(row), expected, rtol=1e-4)


def test_the_limit_holds_the_share_of_held_out_proteins():
    held_out = draw(200, 0)
    domain = Domain.fit(draw(500, 0), held_out, 0.9)
    distances = np.array([domain.distance(row) for row in held_out])
    assert (distances <= domain.limit).mean() == pytest.approx(0.9, abs=0.005)


def test_features_that_never_vary_have_a_distance():
    training = draw(100, 0)
    training[:, 2] = 1.0
    assert np.isfinite(Domain.fit(training, training).distance(training[0]))


def test_refuses_too_few_proteins():
    with pytest.raises(InputError, match="1 training and 3 held-out proteins"):
        Domain.fit(draw(1, 0), draw(3, 0))


def make() -> tuple[SolubilityModel, list[str]]:
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(LETTERS, 80)) for _ in range(120)]
    head = CompositionMLP(CompositionMLPConfig(OneHot().d_model), key=jax.random.key(0))
    model = SolubilityModel(OneHot(), head)
    features = np.stack([np.asarray(model.encoder.features(model.tokenize(model.clean(s))))[1:-1] for s in sequences])
    means = features.mean(axis=1)
    return model.replace(domain=Domain.fit(means[:100], means[100:])), sequences


def test_a_protein_unlike_the_others_is_noted():
    model, sequences = make()
    rows = predict_proteins(model, [Protein("like", sequences[0]), Protein("unlike", "W" * 40 + "C" * 40)], "file")
    assert [UNLIKE in row.note for row in rows] == [False, True]


@pytest.mark.parametrize("padding", [0, 9])
def test_distance_ignores_padding_and_reads_the_mean_of_the_residues(padding):
    model, sequences = make()
    tokens = model.tokenize(model.clean(sequences[3]))
    features = np.asarray(model.encoder.features(tokens))[1:-1]
    _, distance = model.probability_and_distance(np.pad(tokens, (0, padding), constant_values=1))
    np.testing.assert_allclose(distance, model.domain.distance(features.mean(axis=0)), rtol=1e-5)


def test_a_domain_is_stored_with_the_model(tmp_path):
    model, _ = make()
    model.save_pretrained(tmp_path / "model")
    loaded = SolubilityModel.from_pretrained(tmp_path / "model")
    for name in ("centre", "whiten", "limit"):
        np.testing.assert_array_equal(getattr(loaded.domain, name), getattr(model.domain, name))
    assert loaded.domain.config == model.domain.config


def test_refuses_a_domain_of_another_encoder():
    model, _ = make()
    with pytest.raises(InputError, match="the domain is of width 5, the encoder makes 25"):
        model.replace(domain=Domain.fit(draw(9, 0), draw(9, 1)))
