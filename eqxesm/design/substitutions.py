"""What every substitution of a residue changes: in a logit, and in the likelihood by a language model.

Tables have a row for each position and a column for each of `STANDARD_RESIDUES`, which is zero for the residue that is
there. Rows of tokens that are not residues, such as <cls>, have no meaning.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from eqxesm.alphabet import FIRST_RESIDUE, MASK, STANDARD, STANDARD_RESIDUES, AnyArray, is_residue
from eqxesm.design.attribution import Function
from eqxesm.encoders import AbstractLanguageModel, as_probabilities
from eqxesm.encoders.base import SequenceId
from eqxesm.inference import Mapper, map_proteins

Table = Float[Array, "length 20"]

Place = tuple[int, int]
"""A position, and the column of a residue."""


def estimate_substitutions(function: Function, tokens: Int[AnyArray, " length"]) -> Table:
    """Change of the value by every substitution, to first order: from one gradient."""
    gradient = jax.grad(function)(as_probabilities(tokens))
    return gradient[:, STANDARD] - gradient[jnp.arange(len(tokens)), jnp.asarray(tokens)][:, None]


def score_substitutions(
    function: Any, tokens: Int[np.ndarray, " length"], mapper: Mapper | None = None
) -> Float[np.ndarray, "length 20"]:
    """Change of the value by every substitution, each by a forward pass.

    Args:
        function: from tokens to a scalar, such as a `SolubilityModel`.
        mapper: of the function, if it is used for several proteins.
    """
    tokens = np.asarray(tokens)
    places = [
        (int(position), column)
        for position in np.flatnonzero(is_residue(tokens))
        for column in range(len(STANDARD_RESIDUES))
        if FIRST_RESIDUE + column != tokens[position]
    ]
    mutants = [tokens, *(mutate(tokens, [place]) for place in places)]
    values = np.array(mapper(mutants, lambda _: None) if mapper else map_proteins(function, mutants), np.float32)
    table = np.zeros((len(tokens), len(STANDARD_RESIDUES)), np.float32)
    table[tuple(np.array(places).T)] = values[1:] - values[0]
    return table


def mutate(tokens: Int[np.ndarray, " length"], places: Sequence[Place]) -> Int[np.ndarray, " length"]:
    """Tokens with other residues at some positions."""
    mutant = tokens.copy()
    for position, column in places:
        mutant[position] = FIRST_RESIDUE + column
    return mutant


def wild_type_marginal(
    encoder: AbstractLanguageModel, tokens: Int[AnyArray, " length"], sequence_id: SequenceId = None
) -> Table:
    """Log-likelihood ratio of every substitution to the wild type, which is seen: one forward pass.

    Meier et al. 2021, doi:10.1101/2021.07.09.450648, call it the wild-type marginal.
    """
    tokens = jnp.asarray(tokens)
    return _ratios(encoder.log_probabilities(tokens, sequence_id), tokens)


def masked_marginal(
    encoder: AbstractLanguageModel,
    tokens: Int[AnyArray, " length"],
    sequence_id: SequenceId = None,
    *,
    batch_size: int = 16,
) -> Table:
    """Log-likelihood ratio of every substitution to the wild type, each at a position that is masked.

    Meier et al. 2021 call it the masked marginal. It takes a forward pass for every position, `batch_size` at a time.
    """
    tokens = jnp.asarray(tokens)

    def masked(position: Int[Array, ""]) -> Float[Array, " vocab"]:
        return encoder.log_probabilities(tokens.at[position].set(MASK), sequence_id)[position]

    return _ratios(jax.lax.map(masked, jnp.arange(len(tokens)), batch_size=batch_size), tokens)


def masked_marginal_of(
    encoder: AbstractLanguageModel,
    tokens: Int[AnyArray, " length"],
    variants: Int[AnyArray, "variants length"],
    sequence_id: SequenceId = None,
    *,
    batch_size: int = 16,
) -> Float[Array, " variants"]:
    """The masked marginal of whole variants: all positions of a variant that differ are masked together."""
    tokens = jnp.asarray(tokens)
    rows = jnp.arange(len(tokens))

    def ratio(variant: Int[Array, " length"]) -> Float[Array, ""]:
        changed = variant != tokens
        hidden = encoder.log_probabilities(jnp.where(changed, MASK, tokens), sequence_id)
        return jnp.where(changed, hidden[rows, variant] - hidden[rows, tokens], 0).sum()

    return jax.lax.map(ratio, jnp.asarray(variants), batch_size=batch_size)


def _ratios(log_probabilities: Float[Array, "length vocab"], tokens: Int[Array, " length"]) -> Table:
    own = log_probabilities[jnp.arange(len(tokens)), tokens]
    return log_probabilities[:, STANDARD] - own[:, None]
