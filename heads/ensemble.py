"""Several heads of one kind, as one."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

import equinox as eqx
import jax
import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Array, Float, PRNGKeyArray
from pydantic import Field, model_validator

from heads.base import AbstractHead, Features, Key, Logit, Logits, Mask, Pooled
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

    @property
    def outputs(self) -> int | None:
        return self.member.outputs


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
        return self.logits(features, mask, key=key).mean(axis=0)

    @property
    def pooling(self) -> str | None:
        return self.members.pooling

    @property
    def wants_standardising(self) -> bool:
        return self.members.wants_standardising

    def logits(self, features: Features, mask: Mask, *, key: Key = None) -> Logits:
        if self.pooling is None:
            return self._map(lambda member, key: member(features, mask, key=key), key)
        return self.score_members(self.pool(features, mask), key=key)

    def pooling_weights(self, features: Features, mask: Mask) -> Float[Array, " length"] | None:
        """The mean of the members' weights."""
        found = eqx.filter_vmap(lambda member: member.pooling_weights(features, mask))(self.members)
        return None if found is None else found.mean(axis=0)

    def pool(self, features: Features, mask: Mask) -> Pooled:
        """What the members score, if they pool by no parameter: it is the same for all."""
        return self.members.pool(features, mask)

    def score_members(self, pooled: Pooled, *, key: Key = None) -> Logits:
        """The logits of members that pool alike, of what they pool."""
        return self._map(lambda member, key: member.score(pooled, key=key), key)

    def standardise(self, pooled: Float[np.ndarray, "n d_pooled"]) -> "Ensemble":
        """The ensemble with the scale of what it pools of training proteins; see `wants_standardising`."""
        return eqx.tree_at(lambda head: head.members, self, self.members.standardise(pooled))

    def _map(self, score: Callable[[Any, Key], Logit], key: Key) -> Logits:
        keys = None if key is None else jax.random.split(key, self.config.members)
        return eqx.filter_vmap(score)(self.members, keys)
