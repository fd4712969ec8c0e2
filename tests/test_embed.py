"""Embeddings against the encoder called by hand, and against files read by other libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqxesm import ESMC, ESMCConfig, InputError, OneHot, Tokenizer
from eqxesm.embed import embed

SEQUENCES = ["MKVLLAAG", "GSHMWWYYFFPPLMKT", "m kv*", "C"]
CLEAN = ["MKVLLAAG", "GSHMWWYYFFPPLMKT", "MKV", "C"]


@pytest.fixture(scope="module")
def encoder() -> ESMC:
    return ESMC(ESMCConfig(3, 16, 2, 32), key=jax.random.key(0))


@pytest.mark.parametrize("layer", [None, 0, 1, 2, 3, -1, -4])
def test_embeddings_are_the_hidden_states_of_the_encoder(encoder, layer):
    chosen = -1 if layer is None else layer
    found = {pool: embed(encoder, SEQUENCES, layer=layer, pool=pool) for pool in ("mean", "max", "residue")}
    for number, sequence in enumerate(CLEAN):
        states = encoder(Tokenizer().encode(sequence), hidden_states=(chosen,)).hidden_states[0]
        states = np.asarray(states)[1:-1]
        assert states.shape == (len(sequence), 16)
        np.testing.assert_allclose(found["residue"][number], states, atol=2e-5)
        np.testing.assert_allclose(found["mean"][number], states.mean(0), atol=2e-5)
        np.testing.assert_allclose(found["max"][number], states.max(0), atol=2e-5)


def test_embeddings_of_a_half_precision_encoder_are_float32(encoder):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), encoder)
    assert embed(half, ["MKV"])[0].dtype == np.float32


@pytest.mark.parametrize("layer", [4, -5, 99])
def test_refuses_a_layer_that_is_not_there(encoder, layer):
    with pytest.raises(InputError, match=f"layer {layer} does not exist, expected 0 to 3"):
        embed(encoder, ["MKV"], layer=layer)


def test_refuses_layers_of_an_encoder_without_any():
    assert embed(OneHot(), ["MKV"], pool="residue")[0].shape[0] == 3
    with pytest.raises(InputError, match="an encoder of type one_hot has no layers"):
        embed(OneHot(), ["MKV"], layer=0)


def test_refuses_other_pools_and_bad_sequences(encoder):
    with pytest.raises(InputError, match="pool is 'sum', expected one of mean, max, residue"):
        embed(encoder, ["MKV"], pool="sum")
    with pytest.raises(InputError, match="sequence 2: position 3: digit '1'"):
        embed(encoder, ["MKV", "MK1"])
