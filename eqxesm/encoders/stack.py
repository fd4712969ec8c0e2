"""Running a stack of transformer blocks."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, PyTree

from eqxesm.encoders.layers import Block


def gather(tree: PyTree) -> PyTree:
    """Bring parameters that are split over the devices of a mesh onto each of them.

    Args:
        tree: parameters, inside of a compiled function.

    Returns:
        The same, whole; unchanged where no mesh is set (`jax.set_mesh`).
    """
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(
        lambda leaf: (
            jax.lax.with_sharding_constraint(leaf, PartitionSpec()) if eqx.is_array(leaf) else leaf
        ),
        tree,
    )


def scan_blocks(
    blocks: Block,
    x: Float[Array, "length d_model"],
    angles: Float[Array, "length half"],
    mask: Bool[Array, "length length"],
    chosen: tuple[int, ...],
    remat: bool,
) -> tuple[Float[Array, "length d_model"], Float[Array, "chosen length d_model"]]:
    """Pass the residual stream through blocks that are stacked along a leading axis.

    The chosen layers are gathered inside the scan, so that the others are never kept. Parameters
    that are split over devices are brought together one layer at a time.

    Args:
        blocks: one block whose arrays have a leading axis of layers.
        x: the embedded protein `[length d_model]`.
        angles: rotary angles `[length d_head/2]`.
        mask: True where a row may attend to a column.
        chosen: layers to keep, each once: 0 is `x`, `n` the output of block `n`.
        remat: recompute the blocks in the backward pass.

    Returns:
        The output of the last block, and the chosen layers; zero where the last one was chosen,
        since what counts there comes after the final norm.
    """
    arrays, structure = eqx.partition(blocks, eqx.is_array)

    def block(arrays: Block, x: Float[Array, "length d_model"]) -> Float[Array, "length d_model"]:
        return eqx.combine(gather(arrays), structure)(x, angles, mask)

    run = jax.checkpoint(block) if remat else block

    def step(carry, layer):
        x, kept = carry
        arrays, slot = layer
        x = run(arrays, x)
        return (x, kept.at[slot].set(x)), None

    # The extra row takes what nobody chose.
    nowhere = len(chosen)
    layers = jax.tree.leaves(arrays)[0].shape[0]
    slots = [
        chosen.index(layer) if layer in chosen and layer < layers else nowhere
        for layer in range(1, layers + 1)
    ]
    kept = jnp.zeros((nowhere + 1, *x.shape), x.dtype)
    if 0 in chosen:
        kept = kept.at[chosen.index(0)].set(x)
    (x, kept), _ = jax.lax.scan(step, (x, kept), (arrays, jnp.array(slots, jnp.int32)))
    return x, kept[:nowhere]
