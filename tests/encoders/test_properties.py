"""The first blocks of an encoder alone, and the properties of residues beside its features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from Bio.SeqUtils.ProtParam import ProteinAnalysis
from Bio.SeqUtils.ProtParamData import kd

from eqxesm import ESMC, ESMCConfig, InputError, SolubilityModel, Tokenizer
from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.encoders import ENCODERS, WithProperties, as_probabilities
from eqxesm.encoders.properties import N_PROPERTIES, SCALES
from heads import MeanPoolMLP, MeanPoolMLPConfig

PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVWCPDXBUZO"
TOKENS = Tokenizer().encode(PROTEIN)
CONFIG = ESMCConfig(layers=4, d_model=32, heads=2, d_ffn=64)


@pytest.fixture(scope="module")
def encoder() -> ESMC:
    return ESMC(CONFIG, key=jax.random.key(0))


@pytest.mark.parametrize("layers", [1, 3, 4])
def test_the_first_blocks_give_the_normalised_layer(encoder, layers):
    layer = encoder(TOKENS, hidden_states=(layers,)).hidden_states[0]
    # The last layer comes after the norm already.
    expected = layer if layers == 4 else (layer - layer.mean(-1, keepdims=True)) / layer.std(-1, keepdims=True)
    short = encoder.truncate(layers)
    np.testing.assert_allclose(short.features(TOKENS), expected, rtol=1e-4, atol=1e-4)
    assert short.config.layers == layers
    assert short.lm_head is None


@pytest.mark.parametrize("layers", [0, 5])
def test_refuses_blocks_that_are_not_there(encoder, layers):
    with pytest.raises(InputError, match=f"layers is {layers}, expected 1 to 4"):
        encoder.truncate(layers)


def test_properties_are_those_of_biopython(encoder):
    ours = np.asarray(WithProperties(encoder).features(TOKENS))[1:-1]
    standard = PROTEIN.strip("XBUZO")
    letters = ours[: len(standard), :20]
    assert "".join(STANDARD_RESIDUES[place] for place in letters.argmax(1)) == standard
    hydropathy = ours[: len(standard), 20 + list(SCALES).index("hydropathy")]
    np.testing.assert_allclose(hydropathy.mean(), ProteinAnalysis(standard).gravy(), rtol=1e-5)
    assert SCALES["hydropathy"] == kd
    np.testing.assert_array_equal(ours[len(standard) :, :N_PROPERTIES], 0)


def test_properties_of_a_soft_sequence_are_the_mixture(encoder):
    model = WithProperties(encoder)
    other = Tokenizer().encode(PROTEIN[::-1])
    mixed = 0.3 * as_probabilities(TOKENS) + 0.7 * as_probabilities(other)
    expected = 0.3 * model.features(TOKENS) + 0.7 * model.features(other)
    np.testing.assert_allclose(model.features(mixed)[:, :N_PROPERTIES], expected[:, :N_PROPERTIES], atol=1e-5)
    np.testing.assert_allclose(model.features(mixed)[:, N_PROPERTIES:], encoder.features(mixed), atol=1e-6)


def test_a_model_on_properties_comes_back_from_its_folder(encoder, tmp_path):
    wide = WithProperties(encoder.truncate(2))
    model = SolubilityModel(wide, MeanPoolMLP(MeanPoolMLPConfig(wide.d_model), key=jax.random.key(1)))
    model.save_pretrained(tmp_path / "model")
    loaded = SolubilityModel.from_pretrained(tmp_path / "model")
    assert loaded.encoder.config == wide.config
    assert type(ENCODERS[type(wide.config)](wide.config, key=jax.random.key(2))) is WithProperties
    np.testing.assert_array_equal(loaded(TOKENS), model(TOKENS))
    gradient = jax.grad(lambda soft: loaded(soft))(jnp.asarray(as_probabilities(TOKENS)))
    assert jnp.isfinite(gradient).all()
