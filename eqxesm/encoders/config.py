"""The sizes of ESM-C."""

from dataclasses import dataclass

D_HEAD = 64
"""Width of one attention head, the same in every ESM-C."""


@dataclass(frozen=True)
class ESMCConfig:
    """The architecture of an ESM-C encoder.

    Args:
        layers: number of transformer blocks.
        d_model: width of the residual stream.
        heads: number of attention heads; each is `d_model / heads` wide.
        d_ffn: width of the SwiGLU feed-forward layer.
        lm_head: whether the encoder carries its masked-language-model head.

    Raises:
        ValueError: a size is below 1, or `d_model` is no even multiple of `heads`.
    """

    layers: int
    d_model: int
    heads: int
    d_ffn: int
    lm_head: bool = True

    def __post_init__(self):
        for name in ("layers", "d_model", "heads", "d_ffn"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.d_model % (2 * self.heads):
            raise ValueError(
                f"d_model {self.d_model} is not an even multiple of heads {self.heads}: "
                "rotary embeddings turn pairs within a head"
            )

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.heads

    @property
    def residue_scale(self) -> float:
        """The divisor of every residual branch, `sqrt(layers / 36)`."""
        return (self.layers / 36) ** 0.5


PRESETS: dict[str, ESMCConfig] = {
    "esmc_300m": ESMCConfig(layers=30, d_model=960, heads=15, d_ffn=2560),
    "esmc_600m": ESMCConfig(layers=36, d_model=1152, heads=18, d_ffn=3072),
    "esmc_6b": ESMCConfig(layers=80, d_model=2560, heads=40, d_ffn=6912),
}
"""The published sizes, by the names they go by everywhere in this library."""
