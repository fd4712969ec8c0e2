"""What each residue contributes to a logit."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqxesm.alphabet import STANDARD, STANDARD_RESIDUES, VOCAB_SIZE
from eqxesm.encoders import Inputs, as_probabilities, residue_mask
from eqxesm.errors import InputError
from eqxesm.model import SolubilityModel

STEPS = 64

Soft = Float[Array, "length vocab"]
Function = Callable[[Soft], Float[Array, ""]]
"""From a soft sequence to a scalar: a `SolubilityModel`, for example."""


class Attribution(NamedTuple):
    """What each position contributes to a function, from its value at a baseline.

    `gap` is what the contributions add up to, less the difference of the two values: it is zero if the
    integral is exact.
    """

    values: Float[Array, " length"]
    value: Float[Array, ""]
    baseline_value: Float[Array, ""]
    gap: Float[Array, ""]


def mean_residue(inputs: Inputs) -> Soft:
    """The protein with an even mixture of the 20 standard residues at every residue."""
    soft = as_probabilities(inputs)
    mixture = np.zeros(VOCAB_SIZE, np.float32)
    mixture[STANDARD] = 1 / len(STANDARD_RESIDUES)
    return jnp.where(residue_mask(inputs)[:, None], mixture.astype(soft.dtype)[None], soft)


def integrated_gradients(
    function: Function, inputs: Inputs, baseline: Soft | None = None, *, steps: int = STEPS
) -> Attribution:
    """Gradients, integrated along the straight line from a baseline to a protein.

    Sundararajan et al. 2017, arXiv:1703.01365. The integral is by Gauss-Legendre quadrature.

    Args:
        function: from a soft sequence to a scalar.
        baseline: by default `mean_residue`.
        steps: points of the line at which the gradient is taken.
    """
    soft = as_probabilities(inputs)
    start = mean_residue(inputs) if baseline is None else baseline
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    points = jnp.asarray((nodes + 1) / 2, soft.dtype), jnp.asarray(weights / 2, soft.dtype)

    def add(total: Soft, point: tuple[Array, Array]) -> tuple[Soft, None]:
        share, weight = point
        return total + weight * jax.grad(function)(start + share * (soft - start)), None

    mean_gradient, _ = jax.lax.scan(add, jnp.zeros_like(soft), points)
    values = ((soft - start) * mean_gradient).sum(axis=-1)
    value, baseline_value = function(soft), function(start)
    return Attribution(values, value, baseline_value, values.sum() - (value - baseline_value))


def gradient_times_input(function: Function, inputs: Inputs, baseline: Soft | None = None) -> Float[Array, " length"]:
    """The gradient at the protein, times its difference to the baseline."""
    soft = as_probabilities(inputs)
    start = mean_residue(inputs) if baseline is None else baseline
    return ((soft - start) * jax.grad(function)(soft)).sum(axis=-1)


def occlusion(
    function: Function, inputs: Inputs, baseline: Soft | None = None, *, batch_size: int = 16
) -> Float[Array, " length"]:
    """How much the value falls when one position after another is replaced by that of the baseline."""
    soft = as_probabilities(inputs)
    start = mean_residue(inputs) if baseline is None else baseline

    def without(position: Array) -> Float[Array, ""]:
        return function(soft.at[position].set(start[position]))

    positions = jnp.arange(len(soft), dtype=jnp.int32)
    return function(soft) - jax.lax.map(without, positions, batch_size=batch_size)


def pooling_weights(model: SolubilityModel, inputs: Inputs) -> Float[Array, " length"]:
    """How much each residue counts where the head pools residues; it has weights if it is an `AttentionPoolMLP`."""
    found = model.head.pooling_weights(model.features(inputs), residue_mask(inputs))
    if found is None:
        raise InputError("the model's head pools residues without weights. Use integrated gradients.")
    return found
