"""One step of training, and scoring: the functions that are compiled."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PyTree

from eqxesm.alphabet import AnyArray
from eqxesm.encoders import cast
from eqxesm.encoders.stack import gather
from eqxesm.protein_model import ProteinModel
from eqxesm.training.config import TrainConfig
from eqxesm.training.devices import constrain
from eqxesm.training.filters import BLOCKS, path_names
from eqxesm.training.objective import choose_objective

Outputs = Float[Array, "rows *outputs"]
MemberOutputs = Float[Array, "rows members *outputs"]


class Features(NamedTuple):
    """Features of a batch from a frozen encoder, in the place of its tokens."""

    features: Float[AnyArray, "rows length d_model"]
    mask: Bool[AnyArray, "rows length"]


class PooledFeatures(NamedTuple):
    """What a head pools of the features of a batch, in the place of its tokens."""

    pooled: Float[AnyArray, "rows d_pooled"]


class TrainState(NamedTuple):
    """Everything that a step changes. `average` is there if the recipe averages parameters."""

    params: PyTree
    optimiser: PyTree
    average: PyTree | None

    @property
    def validated(self) -> PyTree:
        """The parameters that are validated and kept."""
        return self.params if self.average is None else self.average


class StepMetrics(NamedTuple):
    """What a step measures before it changes the parameters."""

    loss: Float[Array, ""]
    correct: Int[Array, ""]
    norm: Float[Array, ""]


class StepInputs(NamedTuple):
    """What a step reads and does not change."""

    frozen: PyTree
    inputs: Any
    labels: Float[AnyArray, "rows ..."]
    weights: Float[AnyArray, " rows"]
    step: Int[AnyArray, ""]


def score(
    model: ProteinModel, inputs: Any, config: TrainConfig, step: Int[AnyArray, ""] | None = None
) -> MemberOutputs:
    """Logits of a batch of tokens or features, by member of the head. Dropout is on where the step is given."""
    rows = jax.tree.leaves(inputs)[0].shape[0]
    keys = None
    if step is not None:
        key = jax.random.fold_in(jax.random.key(config.seed), step)
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))
    # Blocks are gathered one by one as they are scanned, all else here.
    model = gather_all_but_blocks(model)
    if isinstance(inputs, PooledFeatures):
        return jax.vmap(lambda pooled, key: model.head.score_members(pooled, key=key))(inputs.pooled, keys)
    if isinstance(inputs, Features):
        head = model.head
        return jax.vmap(lambda features, mask, key: head.logits(features.astype(jnp.float32), mask, key=key))(
            *inputs, keys
        )
    encoder = cast(model.encoder, jnp.dtype(config.compute_dtype))
    model = eqx.tree_at(lambda model: model.encoder, model, encoder)
    return jax.vmap(lambda tokens, key: model.member_logits(tokens, key=key, remat=config.remat))(
        jnp.asarray(inputs), keys
    )


def gather_all_but_blocks(tree: PyTree) -> PyTree:
    """Replicate what is sharded, except for the blocks, which are gathered one by one."""

    def whole(path: tuple, leaf: Any) -> Any:
        return leaf if BLOCKS in path_names(path) else gather(leaf)

    return jax.tree_util.tree_map_with_path(whole, tree)


def step_down(
    gradient: PyTree, state: PyTree, params: PyTree, optimiser: optax.GradientTransformation
) -> tuple[PyTree, PyTree]:
    """Parameters and state of the optimiser after a step down the gradient."""
    # optax mixes integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state


@eqx.filter_jit(donate="all-except-first")
def train_step(
    given: StepInputs, state: TrainState, optimiser: optax.GradientTransformation, config: TrainConfig, mesh: Mesh
) -> tuple[TrainState, StepMetrics]:
    """One step down the gradient of the objective. The memory of `state` is reused."""
    labels, weights = jnp.asarray(given.labels), jnp.asarray(given.weights)
    objective = choose_objective(eqx.combine(state.params, given.frozen), config.label_smoothing)

    def loss(params: PyTree) -> tuple[Float[Array, ""], Outputs]:
        scores = score(eqx.combine(params, given.frozen), given.inputs, config, given.step)
        # Each member learns by its own loss.
        losses = objective.losses(scores, labels)
        return (losses * weights).sum() / weights.sum(), scores.mean(axis=1)

    (value, scores), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    params, optimiser_state = step_down(gradient, state.optimiser, state.params, optimiser)
    average = state.average
    if average is not None:
        average = optax.incremental_update(params, average, 1 - config.ema)
    correct = objective.is_right(scores, labels) & (weights > 0)
    metrics = StepMetrics(value, correct.sum(), optax.tree.norm(gradient))
    return constrain(TrainState(params, optimiser_state, average), mesh), metrics


@eqx.filter_jit
def score_step(params: PyTree, frozen: PyTree, inputs: Any, config: TrainConfig, mesh: Mesh) -> Outputs:
    """Outputs of a batch without dropout."""
    scores = score(eqx.combine(params, frozen), inputs, config).mean(axis=1)
    return jax.lax.with_sharding_constraint(scores, NamedSharding(mesh, PartitionSpec()))


def init_state(params: PyTree, optimiser: optax.GradientTransformation, config: TrainConfig) -> TrainState:
    """The state before the first step."""
    average = jax.tree.map(jnp.copy, params) if config.ema else None
    return TrainState(params, optimiser.init(params), average)
