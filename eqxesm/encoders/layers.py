"""The layers of ESM-C."""

import equinox as eqx
import jax
from equinox.nn import LayerNorm, Linear
from jaxtyping import Array, Float, PRNGKeyArray

from eqxesm.alphabet import VOCAB_SIZE
from eqxesm.encoders.attention import Attention, Turns
from eqxesm.encoders.config import ESMCConfig
from eqxesm.encoders.rows import NORM_EPS, ChainIds, Features, normalise, project


class SwiGLU(eqx.Module):
    """Gated feed-forward layer, `down(silu(gate(x)) * up(x))` (Shazeer 2020, arXiv:2002.05202)."""

    gate: Linear
    up: Linear
    down: Linear

    def __init__(self, config: ESMCConfig, *, key: PRNGKeyArray):
        gate, up, down = jax.random.split(key, 3)
        self.gate = Linear(config.d_model, config.d_ffn, use_bias=False, key=gate)
        self.up = Linear(config.d_model, config.d_ffn, use_bias=False, key=up)
        self.down = Linear(config.d_ffn, config.d_model, use_bias=False, key=down)

    def __call__(self, x: Features) -> Features:
        return project(self.down, jax.nn.silu(project(self.gate, x)) * project(self.up, x))


class Block(eqx.Module):
    """Pre-norm transformer block. Both branches are divided by `sqrt(layers / 36)`."""

    attention_norm: LayerNorm
    attention: Attention
    ffn_norm: LayerNorm
    ffn: SwiGLU
    residue_scale: float = eqx.field(static=True)

    def __init__(self, config: ESMCConfig, *, key: PRNGKeyArray):
        attention, ffn = jax.random.split(key)
        self.attention_norm = LayerNorm(config.d_model, eps=NORM_EPS)
        self.attention = Attention(config, key=attention)
        self.ffn_norm = LayerNorm(config.d_model, eps=NORM_EPS)
        self.ffn = SwiGLU(config, key=ffn)
        self.residue_scale = config.residue_scale

    def __call__(self, x: Features, turns: Turns, chains: ChainIds) -> Features:
        update = self.attention(normalise(self.attention_norm, x), turns, chains)
        x = x + update / self.residue_scale
        update = self.ffn(normalise(self.ffn_norm, x))
        return x + update / self.residue_scale


class LMHead(eqx.Module):
    """Maps embeddings to logits over the vocabulary: linear, exact GELU, norm, linear."""

    dense: Linear
    norm: LayerNorm
    decoder: Linear

    def __init__(self, d_model: int, *, key: PRNGKeyArray):
        dense, decoder = jax.random.split(key)
        self.dense = Linear(d_model, d_model, key=dense)
        self.norm = LayerNorm(d_model, eps=NORM_EPS)
        self.decoder = Linear(d_model, VOCAB_SIZE, key=decoder)

    def __call__(self, x: Features) -> Float[Array, "length vocab"]:
        # The original uses erf; jax.nn.gelu defaults to tanh.
        return project(self.decoder, normalise(self.norm, jax.nn.gelu(project(self.dense, x), approximate=False)))
