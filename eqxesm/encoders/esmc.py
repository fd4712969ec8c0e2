"""ESM-C, the protein language model."""

from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import PRNGKeyArray

from eqxesm.checkpoint.record import About
from eqxesm.encoders.attention import rotary_turns
from eqxesm.encoders.config import ESMCConfig
from eqxesm.encoders.language_model import AbstractLanguageModel
from eqxesm.encoders.layers import Block
from eqxesm.encoders.rows import ChainIds


class ESMC(AbstractLanguageModel):
    """ESM-C (ESM Team 2024, "ESM Cambrian") as a pure function of one protein.

    Precision is that of the parameters: `cast` the module. Norms, softmax and rotary embeddings run
    in float32 whatever it is.
    """

    config_type: ClassVar[Any] = ESMCConfig
    config: ESMCConfig = eqx.field(static=True)

    def __init__(self, config: ESMCConfig, *, key: PRNGKeyArray, about: About = About()):
        """Make an encoder with random weights."""
        super().__init__(config, Block, key=key, about=about)

    def shared(self, chains: ChainIds) -> tuple[Any, ...]:
        return rotary_turns(len(chains), self.config.d_head), chains

    def __repr__(self) -> str:
        c = self.config
        sizes = f"layers={c.layers}, d_model={c.d_model}, heads={c.heads}, d_ffn={c.d_ffn}"
        return f"ESMC({sizes}, lm_head={c.lm_head}, dtype={self.embedding.dtype})"
