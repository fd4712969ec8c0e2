"""Masked language modelling: the loss of one batch, a step down its gradient, and scoring by kind of residue."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from eqxesm.alphabet import FIRST_RESIDUE, PAD, STANDARD_RESIDUES
from eqxesm.data.corpus import Rows
from eqxesm.encoders import cast
from eqxesm.training.config import PretrainConfig
from eqxesm.training.devices import constrain
from eqxesm.training.step import gather_all_but_blocks, step_down


class PretrainState(NamedTuple):
    """Everything that a step changes."""

    params: PyTree
    optimiser: PyTree


class LossSums(NamedTuple):
    """Sums over hidden residues, one or by kind: cross-entropy in nats, how many were guessed right, how many."""

    loss: Any
    correct: Any
    count: Any


def measure(params: PyTree, frozen: PyTree, rows: Rows, config: PretrainConfig) -> LossSums:
    """Loss sums of each position."""
    encoder = cast(gather_all_but_blocks(eqx.combine(params, frozen)), jnp.dtype(config.compute_dtype))
    logits = jax.vmap(lambda tokens, chains: encoder.logits(tokens, chains, remat=config.remat))(
        rows.tokens, rows.sequence_id
    )
    hidden = rows.targets != PAD
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), rows.targets)
    correct = hidden & (logits.argmax(axis=-1) == rows.targets)
    return LossSums(jnp.where(hidden, losses, 0), correct, hidden)


@eqx.filter_jit(donate="all-except-first")
def pretrain_step(
    given: tuple[PyTree, Rows],
    state: PretrainState,
    optimiser: optax.GradientTransformation,
    config: PretrainConfig,
    mesh: Mesh,
) -> tuple[PretrainState, LossSums, Float[Array, ""]]:
    """One step down the gradient of the mean cross-entropy. The memory of `state` is reused.

    Returns:
        The next state, the sums of the batch before the step, and the norm of the gradient.
    """
    frozen, rows = given

    def loss(params: PyTree) -> tuple[Float[Array, ""], LossSums]:
        sums = jax.tree.map(jnp.sum, measure(params, frozen, rows, config))
        return sums.loss / jnp.maximum(sums.count, 1).astype(sums.loss.dtype), sums

    (_, sums), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    params, optimiser_state = step_down(gradient, state.optimiser, state.params, optimiser)
    return constrain(PretrainState(params, optimiser_state), mesh), sums, optax.tree.norm(gradient)


@eqx.filter_jit
def score_rows(params: PyTree, frozen: PyTree, rows: Rows, config: PretrainConfig, mesh: Mesh) -> LossSums:
    """Loss sums of a batch for each of the 20 standard residues, in the order of the vocabulary."""
    sums = measure(params, frozen, rows, config)
    kinds = jax.nn.one_hot(jnp.asarray(rows.targets) - FIRST_RESIDUE, len(STANDARD_RESIDUES), dtype=jnp.float32)
    by_kind = jax.tree.map(lambda each: jnp.einsum("rl,rlk->k", each.astype(jnp.float32), kinds), sums)
    return jax.lax.with_sharding_constraint(by_kind, NamedSharding(mesh, PartitionSpec()))
