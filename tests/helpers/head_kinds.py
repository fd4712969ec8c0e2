"""Configurations of every kind of head."""

from typing import Any

from heads import HEADS, CommitteeConfig, EnsembleConfig, PartConfig, WindowMLPConfig


def head_config(kind: str, d_model: int, **options: Any) -> Any:
    """The configuration of a kind of head; `options` of an ensemble or a committee are those of its members."""
    if kind == "ensemble":
        return EnsembleConfig(d_model, WindowMLPConfig(d_model, **options), 3)
    if kind == "committee":
        half = d_model // 2
        first = WindowMLPConfig(half + 1, quantiles=(0.1, 0.75), **options)
        second = EnsembleConfig(d_model - half, WindowMLPConfig(d_model - half, **options), 2)
        return CommitteeConfig(d_model, (PartConfig(0, half + 1, first), PartConfig(half, d_model, second)))
    return next(config for config in HEADS if config.type == kind)(d_model, **options)
