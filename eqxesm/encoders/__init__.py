"""Encoders: from one protein to one feature vector per position."""

from pathlib import Path
from typing import Any

from jax.typing import DTypeLike
from jaxtyping import PRNGKeyArray

from eqxesm.encoders.base import AbstractEncoder, Inputs, as_probabilities, cast, chain_ids, padding_mask, residue_mask
from eqxesm.encoders.config import (
    PRESETS,
    EncoderConfig,
    ESMCConfig,
    LanguageModelConfig,
    OneHotConfig,
    SSMConfig,
    WithPropertiesConfig,
)
from eqxesm.encoders.esmc import ESMC
from eqxesm.encoders.language_model import AbstractLanguageModel, ESMCOutput, read_encoder_sections
from eqxesm.encoders.onehot import OneHot
from eqxesm.encoders.properties import WithProperties
from eqxesm.encoders.published.loader import is_published
from eqxesm.encoders.ssm import SSM


def _make_with_properties(config: WithPropertiesConfig, *, key: PRNGKeyArray) -> WithProperties:
    return WithProperties(ENCODERS[type(config.encoder)](config.encoder, key=key))


ENCODERS: dict[type, Any] = {
    ESMCConfig: ESMC,
    SSMConfig: SSM,
    OneHotConfig: OneHot,
    WithPropertiesConfig: _make_with_properties,
}
"""The encoder that each configuration builds. A new encoder is registered here."""


def load_encoder(folder: Path, repository: str | None = None, dtype: DTypeLike | None = None) -> AbstractLanguageModel:
    """Load an encoder of whatever kind its folder holds; see `AbstractLanguageModel.from_folder`."""
    kind = ESMC if is_published(folder) else ENCODERS[type(read_encoder_sections(folder).encoder)]
    return kind.from_folder(folder, repository, dtype)


__all__ = [
    "ENCODERS",
    "ESMC",
    "PRESETS",
    "SSM",
    "AbstractEncoder",
    "AbstractLanguageModel",
    "ESMCConfig",
    "ESMCOutput",
    "EncoderConfig",
    "Inputs",
    "LanguageModelConfig",
    "OneHot",
    "OneHotConfig",
    "SSMConfig",
    "WithProperties",
    "WithPropertiesConfig",
    "as_probabilities",
    "cast",
    "chain_ids",
    "is_published",
    "load_encoder",
    "padding_mask",
    "residue_mask",
]
