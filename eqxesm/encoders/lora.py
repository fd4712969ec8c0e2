"""Low-rank adapters: a small trainable product beside a linear layer that stays as it is.

Hu et al. 2021, arXiv:2106.09685. Adapters are put in and taken out by surgery on the tree; no layer
knows of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox.nn import Linear
from jaxtyping import Array, Float, PRNGKeyArray

from eqxesm.errors import InputError

Tree = TypeVar("Tree")

TARGETS = {
    "query": lambda block: block.attention.query,
    "key": lambda block: block.attention.key,
    "value": lambda block: block.attention.value,
    "out": lambda block: block.attention.out,
    "gate": lambda block: block.ffn.gate,
    "up": lambda block: block.ffn.up,
    "down": lambda block: block.ffn.down,
}
"""The linear layers of a block by the names that `LoRAConfig.targets` uses."""

ADAPTER_LEAVES = ("lora_a", "lora_b")
"""What is trained of an adapted layer."""


@dataclass(frozen=True)
class LoRAConfig:
    """Where adapters go and how large they are.

    Args:
        rank: width of the product.
        alpha: the product is scaled by `alpha / rank`.
        targets: linear layers of every block, of `query key value out gate up down`.

    Raises:
        ValueError: the rank is below 1, alpha is not positive, or a target does not exist.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("query", "key", "value", "out")

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}: it must be at least 1")
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise ValueError(f"alpha is {self.alpha}: it must be positive and finite")
        unknown = [target for target in self.targets if target not in TARGETS]
        if unknown or not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(
                f"targets are {', '.join(self.targets) or 'none'}: name some of "
                f"{', '.join(TARGETS)}, each once"
            )


class LoRALinear(eqx.Module):
    """A linear layer plus `scale * lora_b @ lora_a`, in the place of the layer."""

    base: Linear
    lora_a: Float[Array, "*layers rank d_in"]
    lora_b: Float[Array, "*layers d_out rank"]
    alpha: float = eqx.field(static=True)

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.alpha / self.lora_a.shape[-2]

    def __call__(self, x: Float[Array, " d_in"]) -> Float[Array, " d_out"]:
        """Transform one vector.

        Args:
            x: input `[d_in]`.

        Returns:
            Output `[d_out]`.
        """
        return self.base(x) + self.scale * (self.lora_b @ (self.lora_a @ x))


def add_lora(encoder: Tree, config: LoRAConfig, *, key: PRNGKeyArray) -> Tree:
    """Put adapters beside linear layers of every block; the function stays the same at first.

    `lora_a` is drawn as the layers' own weights are, uniform within `1 / sqrt(d_in)`; `lora_b` is
    zero.

    Args:
        encoder: an `ESMC`.
        config: where and how large.
        key: source of randomness.

    Returns:
        The encoder with float32 adapters.

    Raises:
        ValueError: the encoder has no blocks.
    """
    if not hasattr(encoder, "blocks"):
        raise ValueError(f"{type(encoder).__name__} has no blocks to put adapters in")

    def adapt(layer: Linear, key: PRNGKeyArray) -> LoRALinear:
        layers, d_out, d_in = layer.weight.shape
        bound = d_in**-0.5
        lora_a = jax.random.uniform(key, (layers, config.rank, d_in), minval=-bound, maxval=bound)
        lora_b = jnp.zeros((layers, d_out, config.rank))
        return LoRALinear(layer, lora_a, lora_b, config.alpha)

    keys = jax.random.split(key, len(config.targets))
    for target, target_key in zip(config.targets, keys, strict=True):
        layer = TARGETS[target](encoder.blocks)
        encoder = eqx.tree_at(
            lambda encoder, target=target: TARGETS[target](encoder.blocks),
            encoder,
            adapt(layer, target_key),
        )
    return encoder


def merge_lora(tree: Tree) -> Tree:
    """Add every adapter's product to the layer that it stands beside.

    Args:
        tree: an encoder, or a model around one.

    Returns:
        The same function without adapters, its layers in the precision that they had.
    """

    def is_adapter(node: object) -> bool:
        return isinstance(node, LoRALinear)

    def merge(node: object) -> object:
        if not isinstance(node, LoRALinear):
            return node
        weight = node.base.weight
        # The product is float32, and so is the sum: only the result is rounded.
        update = node.scale * jnp.matmul(node.lora_b, node.lora_a, precision="highest")
        merged = (weight.astype(update.dtype) + update).astype(weight.dtype)
        return eqx.tree_at(lambda layer: layer.weight, node.base, merged)

    return jax.tree.map(merge, tree, is_leaf=is_adapter)


def remove_lora(tree: Tree) -> Tree:
    """Take every adapter out, and what it learnt with it.

    Args:
        tree: an encoder, or a model around one.

    Returns:
        The function that the adapters were put into.
    """
    return jax.tree.map(
        lambda node: node.base if isinstance(node, LoRALinear) else node,
        tree,
        is_leaf=lambda node: isinstance(node, LoRALinear),
    )


def describe_lora(encoder: object) -> LoRAConfig | None:
    """Say what adapters an encoder has; the inverse of `add_lora`.

    Args:
        encoder: an encoder, or its skeleton.

    Returns:
        Where they are and how large, or None if there are none.

    Raises:
        InputError: they are not all of one rank and alpha.
    """
    found = adapters(encoder)
    if not found:
        return None
    if len({(each.lora_a.shape[-2], each.alpha) for each in found}) > 1:
        raise InputError(
            "the adapters differ in rank or alpha, which no configuration says: merge them"
        )
    rank = found[0].lora_a.shape[-2]
    targets = tuple(
        name
        for name, layer in TARGETS.items()
        if isinstance(layer(encoder.blocks), LoRALinear)  # ty: ignore[missing-attribute]
    )
    return LoRAConfig(rank, found[0].alpha, targets)


def adapters(tree: object) -> Sequence[LoRALinear]:
    """List the adapted layers of a tree.

    Args:
        tree: an encoder, or a model around one.

    Returns:
        Its adapted layers, in the tree's order.
    """
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, LoRALinear))
    return [leaf for leaf in leaves if isinstance(leaf, LoRALinear)]
