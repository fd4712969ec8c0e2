"""What every head offers."""

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

FIXED = ("centre", "scale")
"""Names of the arrays of a head that put its inputs on one scale. They are not trained."""

Features = Float[Array, "length d_model"]
Mask = Bool[Array, " length"]
Logit = Float[Array, "*outputs"]
"""One number, or as many as `outputs` of the configuration says."""

Logits = Float[Array, "members *outputs"]
Pooled = Float[Array, " d_pooled"]
Key = PRNGKeyArray | None


class AbstractHead(eqx.Module):
    """Maps the features of one protein to a logit, or to several. Use `jax.vmap` for batches.

    The result must not depend on features where `mask` is False. `config` has the feature width as
    `d_model`. With `per_residue` the logits are those of every position, `[length outputs]`.
    """

    config: eqx.AbstractVar[Any]
    per_residue: ClassVar[bool] = False

    @property
    def outputs(self) -> int | None:
        """How many logits a protein gets (or a residue); None for one without an axis of its own."""
        return self.config.outputs

    @abstractmethod
    def __call__(self, features: Features, mask: Mask, *, key: Key = None) -> Logit:
        """Score one protein. `mask` is True at residues; dropout is on where `key` is given."""

    def logits(self, features: Features, mask: Mask, *, key: Key = None) -> Logits:
        """Logits of every member of an ensemble; of any other head, its one."""
        return self(features, mask, key=key)[None]

    def pooling_weights(self, features: Features, mask: Mask) -> Float[Array, " length"] | None:  # noqa: ARG002
        """How much each residue counts where they are pooled, adding up to 1; None if the head has no such weights."""
        return None

    @property
    def pooling(self) -> str | None:
        """Names how residues are pooled, if no parameter comes before that: heads with the same name pool alike."""
        return None

    @property
    def wants_standardising(self) -> bool:
        """Whether the head puts what it pools on one scale, and does not know the scale yet."""
        return False


class PooledHead(AbstractHead):
    """A head that pools residues by no parameter, and scores what comes of it.

    So what a frozen encoder makes of a protein can be pooled once, before training.
    """

    @abstractmethod
    def pool(self, features: Features, mask: Mask) -> Pooled:
        """What is scored of one protein."""

    @abstractmethod
    def score(self, pooled: Pooled, *, key: Key = None) -> Logit:
        """The logit of what `pool` makes."""

    def __call__(self, features: Features, mask: Mask, *, key: Key = None) -> Logit:
        return self.score(self.pool(features, mask), key=key)

    def score_members(self, pooled: Pooled, *, key: Key = None) -> Logits:
        """The same as `logits`, of what is pooled already."""
        return self.score(pooled, key=key)[None]
