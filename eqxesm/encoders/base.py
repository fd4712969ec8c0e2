"""What every encoder offers, and how its two kinds of input are read."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eqxesm.alphabet import PAD, VOCAB_SIZE, AnyArray, is_residue

Inputs = Int[AnyArray, " length"] | Float[AnyArray, "length vocab"]
"""Tokens of one protein, or a probability of each vocabulary row at each position."""


class AbstractEncoder(eqx.Module):
    """Maps one protein to one feature vector per position; batches come from `jax.vmap`.

    Attributes:
        config: the encoder's frozen configuration.
    """

    config: eqx.AbstractVar[Any]

    @property
    @abstractmethod
    def d_model(self) -> int:
        """Width of the features."""

    @abstractmethod
    def features(
        self,
        inputs: Inputs,
        sequence_id: Int[AnyArray, " length"] | None = None,
        *,
        remat: bool = False,
    ) -> Float[Array, "length d_model"]:
        """Compute the features of one protein.

        Args:
            inputs: tokens `[length]` or probabilities `[length vocab]`.
            sequence_id: chain of each position, -1 at padding; positions attend within their
                chain only. By default everything but padding is one chain.
            remat: recompute activations in the backward pass instead of keeping them.

        Returns:
            Features `[length d_model]`; what stands at padding is finite and means nothing.
        """


def check_inputs(inputs: Inputs) -> None:
    """Refuse what is not one protein.

    Args:
        inputs: tokens `[length]` or probabilities `[length vocab]`.

    Raises:
        ValueError: it is a batch, or its last axis is not the vocabulary's.
    """
    tokens = jnp.issubdtype(inputs.dtype, jnp.integer)
    if inputs.ndim != (1 if tokens else 2) or not (tokens or inputs.shape[1] == VOCAB_SIZE):
        raise ValueError(
            f"inputs are {inputs.dtype} of shape {inputs.shape}: give tokens [length] or "
            f"probabilities [length {VOCAB_SIZE}] of one protein, and jax.vmap over a batch"
        )


def as_probabilities(inputs: Inputs) -> Float[Array, "length vocab"]:
    """Read tokens as the one-hot case of probabilities.

    Args:
        inputs: tokens `[length]` or probabilities `[length vocab]`.

    Returns:
        Probabilities `[length vocab]`, float32 when made from tokens.
    """
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return jax.nn.one_hot(inputs, VOCAB_SIZE, dtype=jnp.float32)
    return jnp.asarray(inputs)


def padding_mask(inputs: Inputs) -> Bool[Array, " length"]:
    """True at padding: the token is `<pad>`, or its probability is above one half.

    Args:
        inputs: tokens `[length]` or probabilities `[length vocab]`.

    Returns:
        Boolean array `[length]`.
    """
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return jnp.asarray(inputs) == PAD
    return jnp.asarray(inputs)[:, PAD] > 0.5


def residue_mask(inputs: Inputs) -> Bool[Array, " length"]:
    """True at residues: the token is one, or residues hold above half of the probability.

    Args:
        inputs: tokens `[length]` or probabilities `[length vocab]`.

    Returns:
        Boolean array `[length]`.
    """
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return jnp.asarray(is_residue(inputs))
    residues = np.flatnonzero(is_residue(np.arange(VOCAB_SIZE)))
    return jnp.asarray(inputs)[:, residues].sum(axis=-1) > 0.5
