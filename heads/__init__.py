"""Heads: from the features of one protein, and a mask, to a logit, or to several.

A head does not know where its features come from, so the same heads serve every encoder.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Union

from pydantic import Field

from heads.base import FIXED, AbstractHead, PooledHead
from heads.committee import PARTS, Committee, CommitteeConfig, PartConfig
from heads.composition import CompositionMLP, CompositionMLPConfig
from heads.conv import Convolution, ConvolutionConfig
from heads.ensemble import Ensemble, EnsembleConfig
from heads.mlp import AttentionPoolMLP, AttentionPoolMLPConfig, MeanPoolMLP, MeanPoolMLPConfig
from heads.residue import ResidueConvolution, ResidueConvolutionConfig
from heads.windows import WindowMLP, WindowMLPConfig

HEADS: dict[type, Callable[..., AbstractHead]] = {
    **PARTS,
    CommitteeConfig: Committee,
    ResidueConvolutionConfig: ResidueConvolution,
}
"""The head that each configuration builds."""

HeadConfig: Any = Annotated[Union[tuple(HEADS)], Field(discriminator="type")]  # noqa: UP007  # ty: ignore[invalid-type-form]
"""Any head's configuration, told by its `type`."""


def with_outputs(config: Any, outputs: int) -> Any:
    """A head's configuration with so many outputs."""
    if isinstance(config, EnsembleConfig):
        return replace(config, member=with_outputs(config.member, outputs))
    if isinstance(config, CommitteeConfig):
        parts = (replace(part, head=with_outputs(part.head, outputs)) for part in config.parts)
        return replace(config, parts=tuple(parts))
    return replace(config, outputs=outputs)


__all__ = [
    "FIXED",
    "HEADS",
    "AbstractHead",
    "AttentionPoolMLP",
    "AttentionPoolMLPConfig",
    "Committee",
    "CommitteeConfig",
    "CompositionMLP",
    "CompositionMLPConfig",
    "Convolution",
    "ConvolutionConfig",
    "Ensemble",
    "EnsembleConfig",
    "HeadConfig",
    "MeanPoolMLP",
    "MeanPoolMLPConfig",
    "PartConfig",
    "PooledHead",
    "ResidueConvolution",
    "ResidueConvolutionConfig",
    "WindowMLP",
    "WindowMLPConfig",
    "with_outputs",
]
