"""Adapters: they change nothing at first, add a product of matrices, and merge into the layer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqxesm import ESMC, About, ESMCConfig, InputError, OneHot, Tokenizer
from eqxesm.checkpoint.leaves import named_leaves
from eqxesm.checkpoint.record import Provenance
from eqxesm.encoders import cast
from eqxesm.encoders.lora import (
    TARGETS,
    LoRAConfig,
    LoRALinear,
    add_lora,
    describe_lora,
    find_adapters,
    merge_lora,
    remove_lora,
)

ABOUT = About(Provenance("a test"))
ENCODER = ESMC(ESMCConfig(2, 32, 2, 48), key=jax.random.key(0), about=ABOUT)
TOKENS = Tokenizer().encode("MSKGEELFTGVVPILVELDGDVNG")
ALL = LoRAConfig(rank=3, alpha=6.0, targets=tuple(TARGETS))


@eqx.filter_jit
def features(encoder: ESMC) -> jax.Array:
    return encoder.features(TOKENS)


def train(config: LoRAConfig = ALL, encoder: ESMC = ENCODER) -> ESMC:
    """Adapters whose factors are as if they had been trained."""
    adapted = add_lora(encoder, config, key=jax.random.key(1))

    def stir(path: tuple, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if not name.endswith("lora_b"):
            return leaf
        return 0.1 * jax.random.normal(jax.random.key(len(name)), leaf.shape)

    return jax.tree_util.tree_map_with_path(stir, adapted)


def assert_same(found: ESMC, expected: ESMC) -> None:
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_untrained_adapters_change_nothing():
    adapted = add_lora(ENCODER, ALL, key=jax.random.key(1))
    assert_same(merge_lora(adapted), ENCODER)
    # XLA fuses another program in another way, to the last digits of float32.
    np.testing.assert_allclose(features(adapted), features(ENCODER), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_an_adapted_layer_is_the_layer_plus_the_product(target):
    adapted = train(LoRAConfig(rank=3, alpha=6.0, targets=(target,)))
    stacked = TARGETS[target](adapted.blocks)
    layer = jax.tree.map(lambda leaf: leaf[1] if eqx.is_array(leaf) else leaf, stacked)
    x = np.random.default_rng(0).normal(size=(5, layer.lora_a.shape[1])).astype(np.float32)
    weight, a, b = (np.asarray(each, np.float64) for each in (layer.base.weight, layer.lora_a, layer.lora_b))
    expected = x.astype(np.float64) @ (weight + 6.0 / 3 * b @ a).T
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(features(adapted) - features(ENCODER)).max() > 1e-3


def test_merging_keeps_the_function_and_the_tree():
    adapted = train()
    merged = merge_lora(adapted)
    assert jax.tree.structure(merged) == jax.tree.structure(ENCODER)
    np.testing.assert_allclose(features(merged), features(adapted), rtol=1e-4, atol=1e-5)


def test_merging_keeps_the_precision_of_the_layers():
    adapted = train(encoder=cast(ENCODER, jnp.bfloat16))
    weight = merge_lora(adapted).blocks.attention.query.weight
    query = adapted.blocks.attention.query
    exact = np.asarray(query.base.weight, np.float64) + query.scale * np.einsum(
        "lor,lri->loi", np.asarray(query.lora_b, np.float64), np.asarray(query.lora_a)
    )
    assert weight.dtype == jnp.bfloat16
    # Rounded once: within half of bfloat16's last place.
    np.testing.assert_allclose(np.asarray(weight, np.float64), exact, rtol=2**-8, atol=1e-6)


def test_only_the_targets_are_adapted():
    adapted = add_lora(ENCODER, LoRAConfig(targets=("value",)), key=jax.random.key(1))
    assert {name for name in named_leaves(adapted) if "lora_" in name} == {
        "blocks.attention.value.lora_a",
        "blocks.attention.value.lora_b",
    }
    assert find_adapters(adapted) == [adapted.blocks.attention.value]


def test_provenance_is_kept():
    adapted = add_lora(ENCODER, ALL, key=jax.random.key(1))
    assert adapted.about == merge_lora(adapted).about == remove_lora(adapted).about == ABOUT


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "rank is 0: expected at least 1"),
        ({"alpha": 0.0}, "alpha is 0.0: expected more than 0"),
        ({"alpha": -1.0}, "alpha is -1.0: expected more than 0"),
        ({"alpha": float("inf")}, "alpha is inf: expected a finite number"),
        ({"alpha": float("nan")}, "alpha is nan: expected a finite number"),
        ({"targets": ()}, r"targets is \(\): expected at least 1 item"),
        ({"targets": ("query", "nope")}, "'nope': expected 'query', 'key', 'value', 'out', 'gate', 'up' or 'down'"),
        ({"targets": ("query", "query")}, "expected each layer once"),
    ],
)
def test_refuses_settings_out_of_range(values, message):
    with pytest.raises(InputError, match=message):
        LoRAConfig(**values)


def test_refuses_an_encoder_without_blocks():
    with pytest.raises(InputError, match="adapters are for ESM-C, not for OneHot"):
        add_lora(OneHot(), ALL, key=jax.random.key(0))


def test_removing_adapters_gives_the_encoder_back():
    assert_same(remove_lora(train()), ENCODER)


def test_adapters_are_described_by_their_configuration():
    config = LoRAConfig(3, 10.0, ("key", "up"))
    assert describe_lora(add_lora(ENCODER, config, key=jax.random.key(1))) == config
    assert describe_lora(ENCODER) is None


def test_refuses_to_describe_adapters_that_differ():
    adapted = add_lora(ENCODER, LoRAConfig(3, targets=("key",)), key=jax.random.key(1))
    other = add_lora(ENCODER, LoRAConfig(2, targets=("up",)), key=jax.random.key(1))
    mixed = eqx.tree_at(lambda e: e.blocks.ffn.up, adapted, other.blocks.ffn.up)
    assert all(isinstance(each, LoRALinear) for each in find_adapters(mixed))
    with pytest.raises(InputError, match="differ in rank or alpha"):
        describe_lora(mixed)
