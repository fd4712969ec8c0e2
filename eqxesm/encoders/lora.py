"""Low-rank adapters: a small trainable product added to a linear layer that stays as it is.

Hu et al. 2021, arXiv:2106.09685. Adapters are put in and taken out by surgery on the tree; no layer
knows of them.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from annotated_types import MinLen
from equinox.nn import Linear
from jaxtyping import Array, Float, PRNGKeyArray
from pydantic import AfterValidator, Strict

from eqxesm.checkpoint.record import is_about, with_about
from eqxesm.config import configuration
from eqxesm.encoders.esmc import ESMC
from eqxesm.encoders.rows import project
from eqxesm.errors import InputError
from heads.fields import Positive, Width

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
"""The linear layers of a block, by the names in `LoRAConfig.targets`."""

ADAPTER_LEAVES = ("lora_a", "lora_b")
"""The arrays of an adapter."""


def _check_distinct(targets: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(targets)) < len(targets):
        raise ValueError("expected each layer once")
    return targets


Targets = Annotated[
    tuple[Literal["query", "key", "value", "out", "gate", "up", "down"], ...],
    Strict(False),
    MinLen(1),
    AfterValidator(_check_distinct),
]


@configuration
class LoRAConfig:
    """Size of the adapters, and the linear layers of every block that get one."""

    rank: Width = 8
    alpha: Positive = 16.0  # the product is scaled by alpha / rank
    targets: Targets = ("query", "key", "value", "out")


class LoRALinear(eqx.Module):
    """A linear layer plus `scale * lora_b @ lora_a`, in the place of the layer."""

    base: Linear
    lora_a: Float[Array, "*layers rank d_in"]
    lora_b: Float[Array, "*layers d_out rank"]
    alpha: float = eqx.field(static=True)

    @property
    def scale(self) -> float:
        return self.alpha / self.lora_a.shape[-2]

    def __call__(self, x: Float[Array, "length d_in"]) -> Float[Array, "length d_out"]:
        update = jnp.einsum("lr,or->lo", jnp.einsum("li,ri->lr", x, self.lora_a), self.lora_b)
        return project(self.base, x) + self.scale * update


def add_lora(encoder: Any, config: LoRAConfig, *, key: PRNGKeyArray) -> Any:
    """Add float32 adapters to an `ESMC`. The function stays the same until they are trained.

    `lora_a` is uniform within `1 / sqrt(d_in)`, as the layers' own weights are; `lora_b` is zero.
    """
    if not isinstance(encoder, ESMC):
        raise InputError(f"adapters are for ESM-C, not for {type(encoder).__name__}")

    def adapt(layer: Linear, key: PRNGKeyArray) -> LoRALinear:
        layers, d_out, d_in = layer.weight.shape
        bound = d_in**-0.5
        lora_a = jax.random.uniform(key, (layers, config.rank, d_in), minval=-bound, maxval=bound)
        lora_b = jnp.zeros((layers, d_out, config.rank))
        return LoRALinear(layer, lora_a, lora_b, config.alpha)

    keys = jax.random.split(key, len(config.targets))
    adapted = encoder
    for target, target_key in zip(config.targets, keys, strict=True):
        adapted = eqx.tree_at(
            lambda encoder, target=target: TARGETS[target](encoder.blocks),
            adapted,
            adapt(TARGETS[target](encoder.blocks), target_key),
        )
    return with_about(adapted, encoder.about)


def merge_lora(tree: Tree) -> Tree:
    """Add every adapter's product to its layer: the same function, and precision, without adapters."""

    def merge(adapter: LoRALinear) -> Linear:
        weight = adapter.base.weight
        # The sum is float32; only the result is rounded.
        update = adapter.scale * jnp.matmul(adapter.lora_b, adapter.lora_a, precision="highest")
        merged = (weight.astype(update.dtype) + update).astype(weight.dtype)
        return eqx.tree_at(lambda layer: layer.weight, adapter.base, merged)

    return _map_adapters(merge, tree)


def remove_lora(tree: Tree) -> Tree:
    """Take out every adapter, and what it learnt with it."""
    return _map_adapters(lambda adapter: adapter.base, tree)


def _map_adapters(function: Callable[[LoRALinear], Linear], tree: Tree) -> Tree:
    return jax.tree.map(
        lambda node: function(node) if isinstance(node, LoRALinear) else node,
        tree,
        is_leaf=lambda node: isinstance(node, LoRALinear) or is_about(node),
    )


def describe_lora(encoder: Any) -> LoRAConfig | None:
    """Configuration of the adapters of an encoder, or None; the inverse of `add_lora`."""
    found = find_adapters(encoder)
    if not found:
        return None
    if len({(each.lora_a.shape[-2], each.alpha) for each in found}) > 1:
        raise InputError("the adapters differ in rank or alpha. Merge them to store the model.")
    targets: Any = [name for name, layer in TARGETS.items() if isinstance(layer(encoder.blocks), LoRALinear)]
    return LoRAConfig(found[0].lora_a.shape[-2], found[0].alpha, targets)


def find_adapters(tree: object) -> Sequence[LoRALinear]:
    """The adapted layers of a tree, in its order."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, LoRALinear))
    return [leaf for leaf in leaves if isinstance(leaf, LoRALinear)]
