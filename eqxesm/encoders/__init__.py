"""Encoders: from one protein to one feature vector per position."""

from collections.abc import Callable

from eqxesm.encoders.base import AbstractEncoder, Inputs, as_probabilities, cast, padding_mask, residue_mask
from eqxesm.encoders.config import PRESETS, EncoderConfig, ESMCConfig, OneHotConfig
from eqxesm.encoders.esmc import ESMC, ESMCOutput
from eqxesm.encoders.onehot import OneHot

ENCODERS: dict[type, Callable[..., AbstractEncoder]] = {ESMCConfig: ESMC, OneHotConfig: OneHot}
"""The encoder that each configuration builds. A new encoder is registered here."""

__all__ = [
    "ENCODERS",
    "ESMC",
    "PRESETS",
    "AbstractEncoder",
    "ESMCConfig",
    "ESMCOutput",
    "EncoderConfig",
    "Inputs",
    "OneHot",
    "OneHotConfig",
    "as_probabilities",
    "cast",
    "padding_mask",
    "residue_mask",
]
