"""What every encoder offers, and how its two kinds of input are read."""

from abc import abstractmethod
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from eqxesm.alphabet import CLS, PAD, VOCAB_SIZE, AnyArray, check_tokens, is_residue
from eqxesm.checkpoint.record import is_about
from eqxesm.encoders.rows import Features
from eqxesm.errors import InputError

Tree = TypeVar("Tree")

Inputs = Int[AnyArray, " length"] | Float[AnyArray, "length vocab"]
"""Tokens of one protein, or a soft sequence: a probability per position and vocabulary row."""


SequenceId = Int[AnyArray, " length"] | None


class AbstractEncoder(eqx.Module):
    """Maps one protein to one feature vector per position. Use `jax.vmap` for batches."""

    config: eqx.AbstractVar[Any]

    @property
    @abstractmethod
    def d_model(self) -> int:
        """Width of the features."""

    @abstractmethod
    def features(self, inputs: Inputs, sequence_id: SequenceId = None, *, remat: bool = False) -> Features:
        """Features of one protein, differentiable with respect to a soft sequence.

        Args:
            sequence_id: equal within a chain and -1 at padding; chains do not see each other. By
                default everything but padding is one chain.
            remat: recompute activations in the backward pass, to save memory.
        """


def check_inputs(inputs: Inputs) -> None:
    """Refuse what is not one protein."""
    dtype, shape = getattr(inputs, "dtype", None), getattr(inputs, "shape", ())
    expected = f"expected tokens [length] or probabilities [length {VOCAB_SIZE}] of one protein"
    if dtype is None:
        advice = "Use predict for sequences, and Tokenizer().encode for tokens."
        raise InputError(f"{expected}, got {type(inputs).__name__}. {advice}")
    if jnp.issubdtype(dtype, jnp.integer) and len(shape) == 1:
        check_tokens(inputs)
    elif not jnp.issubdtype(dtype, jnp.floating) or len(shape) != 2 or shape[1] != VOCAB_SIZE:
        raise InputError(f"{expected}, got {dtype} {list(shape)}. Use jax.vmap for a batch.")
    if not shape[0]:
        raise InputError(f"{expected}, got none at all")


def in_vocabulary(inputs: Inputs) -> Bool[Array, " length"]:
    """True where a token is one of the vocabulary, or all of a soft position is finite."""
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return jnp.asarray((inputs >= 0) & (inputs < VOCAB_SIZE))
    return jnp.isfinite(jnp.asarray(inputs)).all(axis=-1)


def as_probabilities(inputs: Inputs) -> Float[Array, "length vocab"]:
    """Tokens as a one-hot soft sequence; a soft sequence as it is."""
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return jax.nn.one_hot(inputs, VOCAB_SIZE, dtype=jnp.float32)
    return jnp.asarray(inputs)


def padding_mask(inputs: Inputs) -> Bool[Array, " length"]:
    """True at padding: the token is `<pad>`, or its probability is above one half."""
    return _is_token(inputs, PAD)


def chain_ids(inputs: Inputs) -> Int[Array, " length"]:
    """Numbers of the chains in a row, each from its `<cls>`, and -1 at padding, for a `sequence_id`."""
    check_inputs(inputs)
    return jnp.where(padding_mask(inputs), -1, jnp.cumsum(_is_token(inputs, CLS), dtype=jnp.int32))


def _is_token(inputs: Inputs, token: int) -> Bool[Array, " length"]:
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return jnp.asarray(inputs) == token
    return jnp.asarray(inputs)[:, token] > 0.5


def residue_mask(inputs: Inputs) -> Bool[Array, " length"]:
    """True at residues: the token is one, or residues have above half of the probability."""
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return jnp.asarray(is_residue(inputs))
    residues = np.flatnonzero(is_residue(np.arange(VOCAB_SIZE)))
    # NaN counts as a residue, so that it reaches the result.
    return ~(jnp.asarray(inputs)[:, residues].sum(axis=-1) <= 0.5)


def cast(tree: Tree, dtype: DTypeLike) -> Tree:
    """Cast the floating-point arrays of `tree`, leave the rest.

    Scalars are left too: they are settings, such as the temperature of a model.
    """

    def convert(leaf: Any) -> Any:
        return leaf.astype(dtype) if eqx.is_inexact_array(leaf) and leaf.ndim else leaf

    return jax.tree.map(convert, tree, is_leaf=is_about)
