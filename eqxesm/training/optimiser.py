"""The optimiser: AdamW with a schedule, a clipped gradient, and a learning rate by depth."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from eqxesm.alphabet import AnyArray
from eqxesm.training.config import StepConfig, TrainConfig
from eqxesm.training.filters import is_matrix, learning_rate_factors, path_names


class WarmupState(NamedTuple):
    """Number of updates so far."""

    count: Int[Array, ""]


def make_schedule(config: StepConfig, steps: int) -> optax.Schedule:
    """Learning rate by optimiser step: it rises over the warm-up, then follows the schedule."""
    steps = max(steps, 2)
    warmup = min(round(config.warmup * steps), steps - 1)
    peak = config.learning_rate
    after = {
        "cosine": lambda: optax.cosine_decay_schedule(peak, steps - warmup),
        "linear": lambda: optax.linear_schedule(peak, 0.0, steps - warmup),
        "constant": lambda: optax.constant_schedule(peak),
    }[config.schedule]()
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def clipped_adamw(
    config: StepConfig, updates: int, params: PyTree
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Clipping, and AdamW for a number of updates."""
    decayed = jax.tree_util.tree_map_with_path(is_matrix, params)
    adamw = optax.adamw(make_schedule(config, updates), weight_decay=config.weight_decay, mask=decayed)
    return optax.clip_by_global_norm(config.clip), adamw


def make_optimiser(config: TrainConfig, steps: int, params: PyTree) -> optax.GradientTransformation:
    """Build the optimiser for a run of `steps` batches."""
    updates = steps // config.accumulate
    chain = optax.chain(*clipped_adamw(config, updates, params), _scale_by_depth(config, updates, params))
    # Accumulating one batch would keep a second copy of the gradient for nothing.
    if config.accumulate == 1:
        return chain
    return optax.MultiSteps(chain, config.accumulate).gradient_transformation()


def _scale_by_depth(config: TrainConfig, updates: int, params: PyTree) -> optax.GradientTransformation:
    factors = learning_rate_factors(params, config.layer_decay)
    warmup = max(1, round(config.encoder_warmup * updates))

    def init(params: PyTree) -> WarmupState:
        del params
        return WarmupState(jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, Any]:
        del params
        risen = jnp.minimum(1.0, (state.count + 1) / warmup).astype(jnp.float32)

        def scale(path: tuple, update: Array, factor: AnyArray) -> Array:
            share = risen if path_names(path)[0] == "encoder" else jnp.float32(1)
            return update * factor * share

        scaled = jax.tree_util.tree_map_with_path(scale, updates, factors)
        return scaled, WarmupState(state.count + 1)

    return optax.GradientTransformation(init, update)
