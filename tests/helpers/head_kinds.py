"""Configurations of every kind of head."""

from typing import Any

from heads import HEADS, EnsembleConfig, WindowMLPConfig


def head_config(kind: str, d_model: int, **options: Any) -> Any:
    """The configuration of a kind of head; `options` of an ensemble are those of its members."""
    if kind == "ensemble":
        return EnsembleConfig(d_model, WindowMLPConfig(d_model, **options), 3)
    return next(config for config in HEADS if config.type == kind)(d_model, **options)
