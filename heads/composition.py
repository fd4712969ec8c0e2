"""The frequency baseline."""

from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from heads.base import AbstractHead
from heads.mlp import MLP, check_widths
from heads.pooling import count, mean_pool


@dataclass(frozen=True)
class CompositionMLPConfig:
    """The sizes of a `CompositionMLP`.

    Args:
        d_model: width of the features.
        hidden: widths of the hidden layers.
        dropout: share of hidden activations that training drops.

    Raises:
        ValueError: a size is below 1, or the dropout outside 0 to 1.
    """

    d_model: int
    hidden: tuple[int, ...] = (64, 64)
    dropout: float = 0.2

    def __post_init__(self):
        check_widths(self.dropout, d_model=self.d_model, hidden=self.hidden)


class CompositionMLP(AbstractHead):
    """Amino-acid frequencies and the logarithm of the length, then hidden layers."""

    mlp: MLP
    config: CompositionMLPConfig = eqx.field(static=True)

    def __init__(self, config: CompositionMLPConfig, *, key: PRNGKeyArray):
        self.mlp = MLP(config.d_model + 1, config.hidden, config.dropout, key=key)
        self.config = config

    def __call__(
        self,
        features: Float[Array, "length d_model"],
        mask: Bool[Array, " length"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, ""]:
        """Score one protein; see `AbstractHead`.

        Args:
            features: one vector per position `[length d_model]`.
            mask: True at residues `[length]`.
            key: source of randomness for dropout.

        Returns:
            The logit, a scalar.
        """
        # Brought to a scale near 1: a residue's frequency is about 1/20, a length about 300.
        frequencies = 20 * mean_pool(features, mask)
        length = jnp.log(count(mask) / 300).astype(features.dtype)
        return self.mlp(jnp.concatenate([frequencies, length[None]]), key=key)
