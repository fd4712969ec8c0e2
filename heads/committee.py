"""Heads of several kinds, each on its own columns of the features, as one."""

from typing import Annotated, Any, Literal, Union

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Lt, MaxLen, MinLen
from jaxtyping import Array, Float, PRNGKeyArray
from pydantic import Field, Strict, model_validator

from heads.base import AbstractHead, Features, Key, Logit, Logits, Mask, Pooled
from heads.ensemble import MEMBERS, Ensemble, EnsembleConfig
from heads.fields import Width, configuration

PARTS: dict[type, Any] = {**MEMBERS, EnsembleConfig: Ensemble}
"""The head that each configuration builds, committees aside."""

PartHeadConfig: Any = Annotated[Union[tuple(PARTS)], Field(discriminator="type")]  # noqa: UP007  # ty: ignore[invalid-type-form]


@configuration
class PartConfig:
    """A head, and the columns of the features that it takes: from `start` up to, not including, `stop`.

    The `d_model` of `head` may be left out of JSON and TOML.
    """

    start: Annotated[int, Ge(0), Lt(2**20)]
    stop: Width
    head: PartHeadConfig

    @model_validator(mode="before")
    @classmethod
    def _pass_width_on(cls, values: Any) -> Any:
        match values:
            case {"start": int(start), "stop": int(stop), "head": dict(head)}:
                return {**values, "head": {"d_model": stop - start, **head}}
        return values

    def __post_init__(self):
        if self.head.d_model != self.stop - self.start:
            raise ValueError(f"head.d_model {self.head.d_model} is not stop - start, {self.stop - self.start}")


@configuration
class CommitteeConfig:
    """The heads of a `Committee`."""

    d_model: Width
    parts: Annotated[tuple[PartConfig, ...], Strict(False), MinLen(1), MaxLen(64)]
    type: Literal["committee"] = "committee"

    def __post_init__(self):
        if (last := max(part.stop for part in self.parts)) > self.d_model:
            raise ValueError(f"a part takes columns up to {last}, and d_model is {self.d_model}")
        if len({part.head.outputs for part in self.parts}) > 1:
            raise ValueError("the parts differ in their outputs")

    @property
    def outputs(self) -> int | None:
        return self.parts[0].head.outputs


class Committee(AbstractHead):
    """Heads of several kinds; the logit is the mean over the members of all. Each member has a loss of its own."""

    heads: tuple[Any, ...]
    config: CommitteeConfig = eqx.field(static=True)

    def __init__(self, config: CommitteeConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(config.parts))
        self.heads = tuple(
            PARTS[type(part.head)](part.head, key=key) for part, key in zip(config.parts, keys, strict=True)
        )
        self.config = config

    def __call__(self, features: Features, mask: Mask, *, key: Key = None) -> Logit:
        return self.logits(features, mask, key=key).mean(axis=0)

    @property
    def pooling(self) -> str | None:
        names = [head.pooling for head in self.heads]
        columns = [f"{part.start} to {part.stop}" for part in self.config.parts]
        return None if None in names else "; ".join(f"{c}: {name}" for c, name in zip(columns, names, strict=True))

    @property
    def wants_standardising(self) -> bool:
        return any(head.wants_standardising for head in self.heads)

    def logits(self, features: Features, mask: Mask, *, key: Key = None) -> Logits:
        scored = zip(self.heads, self._columns(features), self._split_key(key), strict=True)
        return jnp.concatenate([head.logits(own, mask, key=key) for head, own, key in scored])

    def pool(self, features: Features, mask: Mask) -> Pooled:
        """What the heads score, if all of them pool by no parameter."""
        pooled = zip(self.heads, self._columns(features), strict=True)
        return jnp.concatenate([head.pool(own, mask) for head, own in pooled])

    def score_members(self, pooled: Pooled, *, key: Key = None) -> Logits:
        """The logits of members, of what `pool` makes."""
        scored = zip(self.heads, jnp.split(pooled, self.pooled_ends), self._split_key(key), strict=True)
        return jnp.concatenate([head.score_members(own, key=key) for head, own, key in scored])

    def standardise(self, pooled: Float[np.ndarray, "n d_pooled"]) -> "Committee":
        """The committee with the scale of what it pools of training proteins; see `wants_standardising`."""
        own = zip(self.heads, np.split(pooled, self.pooled_ends, axis=1), strict=True)
        heads = tuple(head.standardise(rows) if head.wants_standardising else head for head, rows in own)
        return eqx.tree_at(lambda committee: committee.heads, self, heads)

    def _columns(self, features: Features) -> list[Array]:
        return [features[:, part.start : part.stop] for part in self.config.parts]

    def _split_key(self, key: Key) -> Any:
        return [None] * len(self.heads) if key is None else jax.random.split(key, len(self.heads))

    @property
    def pooled_ends(self) -> list[int]:
        """Where what one head pools ends and that of the next begins."""
        one = jax.ShapeDtypeStruct((1, self.config.d_model), jnp.float32)
        shapes = [
            eqx.filter_eval_shape(head.pool, own, jax.ShapeDtypeStruct((1,), bool))
            for head, own in zip(self.heads, eqx.filter_eval_shape(self._columns, one), strict=True)
        ]
        return np.cumsum([shape.shape[0] for shape in shapes])[:-1].tolist()
