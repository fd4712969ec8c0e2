"""Adapters: they change nothing at first, add a product of matrices, and merge into the layer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from eqxesm import ESMC, ESMCConfig, OneHot, Tokenizer
from eqxesm.encoders import cast
from eqxesm.encoders.lora import (
    TARGETS,
    LoRAConfig,
    add_lora,
    describe_lora,
    merge_lora,
    remove_lora,
)

ENCODER = ESMC(ESMCConfig(2, 32, 2, 48), key=jax.random.key(0))
TOKENS = Tokenizer().encode("MSKGEELFTGVVPILVELDGDVNG")
ALL = LoRAConfig(rank=3, alpha=6.0, targets=tuple(TARGETS))


def trained(config: LoRAConfig = ALL, encoder: ESMC = ENCODER) -> ESMC:
    """Adapters whose factors are as if they had been trained."""
    adapted = add_lora(encoder, config, key=jax.random.key(1))

    def stir(path: tuple, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if not name.endswith("lora_b"):
            return leaf
        return 0.1 * jax.random.normal(jax.random.key(len(name)), leaf.shape)

    return jax.tree_util.tree_map_with_path(stir, adapted)


def test_at_first_nothing_changes():
    adapted = add_lora(ENCODER, ALL, key=jax.random.key(1))
    for ours, theirs in zip(
        jax.tree.leaves(merge_lora(adapted)), jax.tree.leaves(ENCODER), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    # XLA fuses another program in another way, to the last digits of float32.
    np.testing.assert_allclose(
        adapted.features(TOKENS), ENCODER.features(TOKENS), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("target", TARGETS)
def test_an_adapted_layer_is_the_layer_plus_the_product(target):
    adapted = trained(LoRAConfig(rank=3, alpha=6.0, targets=(target,)))
    layer = jax.tree.map(
        lambda leaf: leaf[1], eqx.filter(TARGETS[target](adapted.blocks), eqx.is_array)
    )
    layer = eqx.combine(layer, TARGETS[target](adapted.blocks))
    x = np.random.default_rng(0).normal(size=layer.lora_a.shape[1]).astype(np.float32)
    weight, a, b = (
        torch.tensor(np.asarray(array)).double()
        for array in (layer.base.weight, layer.lora_a, layer.lora_b)
    )
    expected = (weight + 6.0 / 3 * b @ a) @ torch.tensor(x).double()
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(adapted.features(TOKENS) - ENCODER.features(TOKENS)).max() > 1e-3


def test_merging_keeps_the_function_and_the_tree():
    adapted = trained()
    merged = merge_lora(adapted)
    assert jax.tree.structure(merged) == jax.tree.structure(ENCODER)
    np.testing.assert_allclose(
        merged.features(TOKENS), adapted.features(TOKENS), rtol=1e-4, atol=1e-5
    )


def test_merging_keeps_the_precision_of_the_layers():
    half = cast(ENCODER, jnp.bfloat16)
    merged = merge_lora(trained(encoder=half))
    weight = merged.blocks.attention.query.weight
    adapted = trained(encoder=half).blocks.attention.query
    exact = np.asarray(adapted.base.weight, np.float64) + adapted.scale * np.einsum(
        "lor,lri->loi", np.asarray(adapted.lora_b, np.float64), np.asarray(adapted.lora_a)
    )
    assert weight.dtype == jnp.bfloat16
    # Rounded once: within half of bfloat16's last place.
    np.testing.assert_allclose(np.asarray(weight, np.float64), exact, rtol=2**-8, atol=1e-6)


def test_only_the_targets_get_one():
    adapted = add_lora(ENCODER, LoRAConfig(targets=("value",)), key=jax.random.key(1))
    names = {
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, _ in jax.tree_util.tree_leaves_with_path(adapted)
    }
    assert {name for name in names if "lora_" in name} == {
        "blocks.attention.value.lora_a",
        "blocks.attention.value.lora_b",
    }


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"targets": ()}, "targets are none"),
        ({"targets": ("query", "nope")}, "name some of"),
        ({"targets": ("query", "query")}, "each once"),
    ],
)
def test_what_cannot_be(bad, message):
    with pytest.raises(ValueError, match=message):
        LoRAConfig(**bad)


def test_an_encoder_without_blocks():
    with pytest.raises(ValueError, match="OneHot has no blocks"):
        add_lora(OneHot(), ALL, key=jax.random.key(0))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_none(alpha):
    with pytest.raises(ValueError, match="must be positive and finite"):
        LoRAConfig(2, alpha)


def test_what_adapters_are_is_told():
    config = LoRAConfig(3, 10.0, ("key", "up"))
    adapted = add_lora(ENCODER, config, key=jax.random.key(1))
    assert describe_lora(adapted) == config
    assert describe_lora(ENCODER) is None
    removed = remove_lora(adapted)
    for ours, theirs in zip(jax.tree.leaves(removed), jax.tree.leaves(ENCODER), strict=True):
        np.testing.assert_array_equal(ours, theirs)
