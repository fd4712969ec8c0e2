"""One step of training, and scoring: the functions that are compiled."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PyTree

from eqxesm.alphabet import AnyArray
from eqxesm.encoders import cast
from eqxesm.encoders.stack import gather
from eqxesm.solubility import SolubilityModel
from eqxesm.training.config import TrainConfig
from eqxesm.training.devices import constrain
from eqxesm.training.partition import BLOCKS, path_names


class Features(NamedTuple):
    """What a frozen encoder made of a batch, in the place of its tokens.

    Attributes:
        features: one vector per position `[rows length d_model]`; of length 1 where the head
            pools by the mean and it was taken beforehand.
        mask: True at residues `[rows length]`.
    """

    features: Float[AnyArray, "rows length d_model"]
    mask: Bool[AnyArray, "rows length"]


class TrainState(NamedTuple):
    """Everything that a step changes.

    Attributes:
        params: the trained part of the model.
        optimiser: the optimiser's state.
        average: the average of `params` over the steps, or None without one.
    """

    params: PyTree
    optimiser: PyTree
    average: PyTree | None

    @property
    def validated(self) -> PyTree:
        """The parameters that are validated and kept."""
        return self.params if self.average is None else self.average


class Measured(NamedTuple):
    """What a step measures before it changes the parameters.

    Attributes:
        loss: weighted mean over the batch.
        correct: proteins that are called rightly at a probability of one half.
        norm: global norm of the gradient before it is clipped.
    """

    loss: Float[Array, ""]
    correct: Int[Array, ""]
    norm: Float[Array, ""]


class Fixed(NamedTuple):
    """What a step reads and does not change.

    Attributes:
        frozen: the part of the model that is not trained.
        inputs: of the batch: tokens `[rows length]`, or features.
        labels: `[rows]`.
        weights: `[rows]`.
        step: number of the step, which the randomness of dropout is drawn from.
    """

    frozen: PyTree
    inputs: Any
    labels: Float[AnyArray, " rows"]
    weights: Float[AnyArray, " rows"]
    step: Int[AnyArray, ""]


def score(
    model: SolubilityModel, inputs: Any, config: TrainConfig, step: Int[AnyArray, ""] | None = None
) -> Float[Array, " rows"]:
    """Score a batch in the precision of the recipe.

    Args:
        model: the model.
        inputs: tokens `[rows length]`, or features.
        config: the recipe.
        step: draws dropout, each row by its own number, so that more rows change nothing; None
            drops nothing.

    Returns:
        Logits `[rows]`.
    """
    rows = jax.tree.leaves(inputs)[0].shape[0]
    keys = None
    if step is not None:
        key = jax.random.fold_in(jax.random.key(config.seed), step)
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))
    # Blocks are gathered one by one as they are scanned, all else here.
    model = _gather_all_but_blocks(model)
    if isinstance(inputs, Features):
        head = model.head
        return jax.vmap(
            lambda features, mask, key: head(features.astype(jnp.float32), mask, key=key)
        )(*inputs, keys)
    model = eqx.tree_at(
        lambda model: model.encoder,
        model,
        cast(model.encoder, jnp.dtype(config.compute_dtype)),
    )
    return jax.vmap(lambda tokens, key: model(tokens, key=key, remat=config.remat))(
        jnp.asarray(inputs), keys
    )


def _gather_all_but_blocks(model: SolubilityModel) -> SolubilityModel:
    def whole(path: tuple, leaf: Any) -> Any:
        return leaf if BLOCKS in path_names(path) else gather(leaf)

    return jax.tree_util.tree_map_with_path(whole, model)


@eqx.filter_jit(donate="all-except-first")
def train_step(
    fixed: Fixed,
    state: TrainState,
    optimiser: optax.GradientTransformation,
    config: TrainConfig,
    mesh: Mesh,
) -> tuple[TrainState, Measured]:
    """Take one step down the gradient of the binary cross-entropy.

    Args:
        fixed: the batch, and the part of the model that is not trained.
        state: what changes; its memory is reused.
        optimiser: what `make_optimiser` gives.
        config: the recipe.
        mesh: the devices.

    Returns:
        The state after the step, and what was measured before it.
    """
    labels, weights = jnp.asarray(fixed.labels), jnp.asarray(fixed.weights)

    def loss(params: PyTree) -> tuple[Float[Array, ""], Float[Array, " rows"]]:
        scores = score(eqx.combine(params, fixed.frozen), fixed.inputs, config, fixed.step)
        smooth = config.label_smoothing
        targets = labels * (1 - smooth) + smooth / 2
        losses = optax.sigmoid_binary_cross_entropy(scores, targets)
        return (losses * weights).sum() / weights.sum(), scores

    (value, scores), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    # optax mixes integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            average = optax.incremental_update(params, average, 1 - config.ema)
    correct = ((scores > 0) == (labels > 0.5)) & (weights > 0)
    measured = Measured(value, correct.sum(), optax.tree.norm(gradient))
    return constrain(TrainState(params, optimiser_state, average), mesh), measured


@eqx.filter_jit
def score_step(
    params: PyTree, frozen: PyTree, inputs: Any, config: TrainConfig, mesh: Mesh
) -> Float[Array, " rows"]:
    """Score a batch without dropout.

    Args:
        params: the trained part of the model.
        frozen: the rest of it.
        inputs: tokens `[rows length]`, or features.
        config: the recipe.
        mesh: the devices.

    Returns:
        Logits `[rows]`, whole on every device.
    """
    scores = score(eqx.combine(params, frozen), inputs, config)
    return jax.lax.with_sharding_constraint(scores, NamedSharding(mesh, PartitionSpec()))


def init_state(
    params: PyTree, optimiser: optax.GradientTransformation, config: TrainConfig
) -> TrainState:
    """Make the state before the first step.

    Args:
        params: the trained part of the model.
        optimiser: what `make_optimiser` gives.
        config: the recipe.

    Returns:
        The state; the average starts at the parameters.
    """
    average = jax.tree.map(jnp.copy, params) if config.ema else None
    return TrainState(params, optimiser.init(params), average)


def whole_number(value: int) -> Int[np.ndarray, ""]:
    """Make an argument that does not compile anew for every value.

    Args:
        value: an integer.

    Returns:
        The same as an array without axes.
    """
    return np.array(value, np.int32)
