"""Configurations of the encoders."""

from typing import Annotated, Any, Literal

from pydantic import Field

from eqxesm.config import configuration
from heads.fields import Width

D_HEAD = 64
"""Width of an attention head in every published ESM-C."""


@configuration
class ESMCConfig:
    """The architecture of an ESM-C encoder."""

    layers: Width
    d_model: Width
    heads: Width
    d_ffn: Width
    lm_head: bool = True
    type: Literal["esmc"] = "esmc"

    def __post_init__(self):
        if self.d_model % (2 * self.heads):
            raise ValueError(f"d_model {self.d_model} must be an even multiple of heads {self.heads}")

    @property
    def d_head(self) -> int:
        """Width of an attention head."""
        return self.d_model // self.heads

    @property
    def residue_scale(self) -> float:
        """Divisor of every residual branch, `sqrt(layers / 36)`."""
        return (self.layers / 36) ** 0.5


@configuration
class SSMConfig:
    """The architecture of a state-space encoder."""

    layers: Width
    d_model: Width
    heads: Width
    d_state: Width = 16
    expand: Width = 2
    lm_head: bool = True
    type: Literal["ssm"] = "ssm"

    def __post_init__(self):
        if self.d_inner % self.heads:
            raise ValueError(f"expand * d_model, {self.d_inner}, must be a multiple of heads {self.heads}")

    @property
    def d_inner(self) -> int:
        """Width of what a block mixes along the protein."""
        return self.expand * self.d_model


@configuration
class OneHotConfig:
    """The one-hot encoder has no settings."""

    type: Literal["one_hot"] = "one_hot"


LanguageModelConfig: Any = Annotated[ESMCConfig | SSMConfig, Field(discriminator="type")]
"""The configuration of an encoder with a language-model head, told by its `type`."""


@configuration
class WithPropertiesConfig:
    """An encoder with the properties of residues before its features."""

    encoder: Annotated[ESMCConfig | SSMConfig | OneHotConfig, Field(discriminator="type")]
    type: Literal["with_properties"] = "with_properties"


EncoderConfig: Any = Annotated[
    ESMCConfig | SSMConfig | OneHotConfig | WithPropertiesConfig, Field(discriminator="type")
]
"""Any encoder's configuration, told by its `type`."""

PRESETS: dict[str, ESMCConfig] = {
    "esmc_300m": ESMCConfig(layers=30, d_model=960, heads=15, d_ffn=2560),
    "esmc_600m": ESMCConfig(layers=36, d_model=1152, heads=18, d_ffn=3072),
    "esmc_6b": ESMCConfig(layers=80, d_model=2560, heads=40, d_ffn=6912),
}
"""The published sizes of ESM-C."""
