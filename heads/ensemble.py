"""Several heads of one kind, as one."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

import equinox as eqx
import jax
import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Array, Float, PRNGKeyArray
from pydantic import Field, model_validator

from heads.base import AbstractHead, Features, Key, Logit, Mask, Pooled, PooledHead
from heads.composition import CompositionMLP, CompositionMLPConfig
from heads.conv import Convolution, ConvolutionConfig
from heads.fields import Width, configuration
from heads.mlp import AttentionPoolMLP, AttentionPoolMLPConfig, MeanPoolMLP, MeanPoolMLPConfig
from heads.windows import WindowMLP, WindowMLPConfig

MEMBERS: dict[type, Callable[..., AbstractHead]] = {
    MeanPoolMLPConfig: MeanPoolMLP,
    AttentionPoolMLPConfig: AttentionPoolMLP,
    ConvolutionConfig: Convolution,
    CompositionMLPConfig: CompositionMLP,
    WindowMLPConfig: WindowMLP,
}
"""The head that each configuration builds, ensembles aside. A new head is registered here."""

MemberConfig: Any = Annotated[Union[tuple(MEMBERS)], Field(discriminator="type")]  # noqa: UP007  # ty: ignore[invalid-type-form]


@configuration
class EnsembleConfig:
    """How many heads, and of what kind. The `d_model` of `member` may be left out of JSON and TOML."""

    d_model: Width
    member: MemberConfig
    members: Annotated[int, Ge(2), Le(100)] = 5
    type: Literal["ensemble"] = "ensemble"

    @model_validator(mode="before")
    @classmethod
    def _pass_width_on(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("member"), dict) and "d_model" in values:
            return {**values, "member": {"d_model": values["d_model"], **values["member"]}}
        return values

    def __post_init__(self):
        if self.member.d_model != self.d_model:
            raise ValueError(f"member.d_model {self.member.d_model} is not d_model {self.d_model}")


class Ensemble(AbstractHead):
    """Heads that differ in their random start and dropout; the logit is the mean of theirs.

    In training each member has a loss of its own, so that it also learns to predict alone (Lakshminarayanan et al.
    2017, arXiv:1612.01474).
    """

    members: Any
    config: EnsembleConfig = eqx.field(static=True)

    def __init__(self, config: EnsembleConfig, *, key: PRNGKeyArray):
        def make(key: PRNGKeyArray) -> AbstractHead:
            return MEMBERS[type(config.member)](config.member, key=key)

        self.members = eqx.filter_vmap(make)(jax.random.split(key, config.members))
        self.config = config

    def __call__(self, features: Features, mask: Mask, *, key: Key = None) -> Logit:
        return self.logits(features, mask, key=key).mean()

    def logits(self, features: Features, mask: Mask, *, key: Key = None) -> Float[Array, " members"]:
        if isinstance(self.members, PooledHead):
            return self.score_pooled(self.members.pool(features, mask), key=key)
        return self._map(lambda member, key: member(features, mask, key=key), key)

    def score_pooled(self, pooled: Pooled, *, key: Key = None) -> Float[Array, " members"]:
        """The logits of members that pool alike, of what they pool."""
        return self._map(lambda member, key: member.score(pooled, key=key), key)

    def _map(self, score: Callable[[Any, Key], Logit], key: Key) -> Float[Array, " members"]:
        keys = None if key is None else jax.random.split(key, self.config.members)
        return eqx.filter_vmap(score)(self.members, keys)


def find_pooling(head: AbstractHead) -> PooledHead | None:
    """The part of a head that pools by no parameter, if it does; of an ensemble, its members."""
    inner = head.members if isinstance(head, Ensemble) else head
    return inner if isinstance(inner, PooledHead) else None


def score_pooled(head: Any, pooled: Pooled, *, key: Key = None) -> Float[Array, " members"]:
    """Logits of what `find_pooling(head)` pools."""
    return head.score_pooled(pooled, key=key) if isinstance(head, Ensemble) else head.score(pooled, key=key)[None]


def wants_standardising(head: Any) -> bool:
    """Whether a head puts its inputs on one scale, and does not know the scale yet."""
    inner = find_pooling(head)
    return isinstance(inner, WindowMLP) and bool((inner.centre == 0).all() and (inner.scale == 1).all())


def standardise(head: Any, pooled: Float[np.ndarray, "n d_pooled"]) -> Any:
    """The head with the scale of what it pools of training proteins; see `wants_standardising`."""
    if isinstance(head, Ensemble):
        return eqx.tree_at(lambda head: head.members, head, head.members.standardise(pooled))
    return head.standardise(pooled)
