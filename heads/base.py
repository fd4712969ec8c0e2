"""What every head offers."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

Features = Float[Array, "length d_model"]
Mask = Bool[Array, " length"]
Logit = Float[Array, ""]
Key = PRNGKeyArray | None


class AbstractHead(eqx.Module):
    """Maps the features of one protein to a logit. Use `jax.vmap` for batches.

    The result must not depend on features where `mask` is False. `config` has the feature width as
    `d_model`.
    """

    config: eqx.AbstractVar[Any]

    @abstractmethod
    def __call__(self, features: Features, mask: Mask, *, key: Key = None) -> Logit:
        """Score one protein. `mask` is True at residues; dropout is on where `key` is given."""

    def logits(self, features: Features, mask: Mask, *, key: Key = None) -> Float[Array, " members"]:
        """Logits of every member of an ensemble; of any other head, its one."""
        return self(features, mask, key=key)[None]
