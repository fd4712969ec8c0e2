"""What every head offers."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray


class AbstractHead(eqx.Module):
    """Maps the features of one protein to a logit; batches come from `jax.vmap`.

    What stands where `mask` is False never changes the logit.

    Attributes:
        config: the head's frozen configuration, with `d_model`, the width of features it takes.
    """

    config: eqx.AbstractVar[Any]

    @abstractmethod
    def __call__(
        self,
        features: Float[Array, "length d_model"],
        mask: Bool[Array, " length"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, ""]:
        """Score one protein.

        Args:
            features: one vector per position `[length d_model]`.
            mask: True at residues `[length]`.
            key: source of randomness for dropout; None, as in prediction, drops nothing.

        Returns:
            The logit, a scalar.
        """
