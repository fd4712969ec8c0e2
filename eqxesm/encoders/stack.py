"""Running a stack of blocks."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, PyTree

from eqxesm.encoders.rows import SAVED, Features


def gather(tree: PyTree) -> PyTree:
    """Replicate parameters that are sharded over a mesh. Nothing happens without `jax.set_mesh`."""
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(
        lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec()) if eqx.is_array(leaf) else leaf, tree
    )


def scan_blocks(
    blocks: eqx.Module, x: Features, shared: tuple[Any, ...], chosen: tuple[int, ...], remat: bool
) -> tuple[Features, Float[Array, "chosen length d_model"]]:
    """Scan over blocks whose arrays are stacked along a leading axis. Each maps `x` and `shared` to the next `x`.

    Returns the last output and the `chosen` layers, each named once: 0 is `x`, `n` the output of
    block `n`. The row of the last layer is zero: what counts there comes after the final norm.
    """
    arrays, structure = eqx.partition(blocks, eqx.is_array)

    def block(arrays: PyTree, x: Features) -> Features:
        # Sharded parameters are gathered one layer at a time.
        return eqx.combine(gather(arrays), structure)(x, *shared)

    policy = None if remat else jax.checkpoint_policies.save_only_these_names(SAVED)
    # The scan keeps the two computations apart.
    run = jax.checkpoint(block, prevent_cse=False, policy=policy)

    def step(carry, layer):
        x, kept = carry
        arrays, slot = layer
        x = run(arrays, x)
        return (x, kept.at[slot].set(x)), None

    # The extra row takes the layers that nobody chose, so that they are never all kept.
    discarded = len(chosen)
    layers = jax.tree.leaves(arrays)[0].shape[0]
    slots = [chosen.index(layer) if layer in chosen and layer < layers else discarded for layer in range(1, layers + 1)]
    kept = jnp.zeros((discarded + 1, *x.shape), x.dtype)
    if 0 in chosen:
        kept = kept.at[chosen.index(0)].set(x)
    (x, kept), _ = jax.lax.scan(step, (x, kept), (arrays, jnp.array(slots, jnp.int32)))
    return x, kept[:discarded]
