"""The layers of ESM-C, each for one protein."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from equinox.nn import LayerNorm, Linear
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from eqxesm.alphabet import VOCAB_SIZE
from eqxesm.encoders.config import ESMCConfig

ROTARY_BASE = 10000.0
NORM_EPS = 1e-5


def rotary_angles(length: int, d_head: int) -> Float[Array, "length half"]:
    """Angles by which rotary embeddings turn each pair of a head's features.

    Position `p` turns pair `i` by `p * 10000^(-2i / d_head)`, in float32 as the torch original
    computes it (Su et al. 2021, arXiv:2104.09864).

    Args:
        length: number of positions.
        d_head: width of a head.

    Returns:
        Angles in radians, float32 `[length d_head/2]`.
    """
    # torch's powers are correctly rounded and inverted in float32; one last digit of a frequency
    # is 6e-5 radians at position 2,000.
    powers = ROTARY_BASE ** (np.arange(0, d_head, 2) / d_head)
    frequencies = np.float32(1) / powers.astype(np.float32)
    return jnp.arange(length, dtype=jnp.float32)[:, None] * jnp.asarray(frequencies)[None, :]


def rotate(
    x: Float[Array, "heads length d_head"], angles: Float[Array, "length half"]
) -> Float[Array, "heads length d_head"]:
    """Turn queries or keys by their positions, pairing feature `i` with `i + d_head / 2`.

    Args:
        x: queries or keys `[heads length d_head]`.
        angles: what `rotary_angles` gives, `[length d_head/2]`.

    Returns:
        The rotated array in the dtype of `x`; the rotation runs in float32.
    """
    wide = at_least_float32(x)
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    cos, sin = jnp.cos(angles).astype(wide)[None], jnp.sin(angles).astype(wide)[None]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def at_least_float32(x: Float[Array, "..."]) -> jnp.dtype:
    """Choose the precision of what must not run in half: norms, softmax and rotary embeddings.

    Args:
        x: the input.

    Returns:
        float32, or the dtype of `x` where that is wider.
    """
    return max(x.dtype, jnp.dtype(jnp.float32), key=lambda dtype: dtype.itemsize)


def attend(
    query: Float[Array, "heads length d_head"],
    key: Float[Array, "heads length d_head"],
    value: Float[Array, "heads length d_head"],
    mask: Bool[Array, "length length"],
) -> Float[Array, "heads length d_head"]:
    """Scaled dot-product attention with the softmax in float32.

    Args:
        query: queries `[heads length d_head]`.
        key: keys `[heads length d_head]`.
        value: values `[heads length d_head]`.
        mask: True where the query of a row may attend to the key of a column.

    Returns:
        Attended values `[heads length d_head]`.
    """
    scores = jnp.einsum("hqd,hkd->hqk", query, key, preferred_element_type=at_least_float32(query))
    scores = jnp.where(mask[None], scores / math.sqrt(query.shape[-1]), -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("hqk,hkd->hqd", weights, value)


class Attention(eqx.Module):
    """Multi-head self-attention with normalised queries and keys and rotary positions."""

    query: Linear
    key: Linear
    value: Linear
    query_norm: LayerNorm
    key_norm: LayerNorm
    out: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, config: ESMCConfig, *, key: PRNGKeyArray):
        def linear(key: PRNGKeyArray) -> Linear:
            return Linear(config.d_model, config.d_model, use_bias=False, key=key)

        self.query, self.key, self.value, self.out = map(linear, jax.random.split(key, 4))
        self.query_norm = LayerNorm(config.d_model, eps=NORM_EPS, use_bias=False)
        self.key_norm = LayerNorm(config.d_model, eps=NORM_EPS, use_bias=False)
        self.heads = config.heads

    def __call__(
        self,
        x: Float[Array, "length d_model"],
        angles: Float[Array, "length half"],
        mask: Bool[Array, "length length"],
    ) -> Float[Array, "length d_model"]:
        """Mix the positions of one protein.

        Args:
            x: normalised residual stream `[length d_model]`.
            angles: rotary angles `[length d_head/2]`.
            mask: True where a row may attend to a column.

        Returns:
            The update of the residual stream `[length d_model]`.
        """

        def split(x: Float[Array, "length d_model"]) -> Float[Array, "heads length d_head"]:
            return rearrange(x, "length (heads d) -> heads length d", heads=self.heads)

        query = split(jax.vmap(self.query_norm)(jax.vmap(self.query)(x)))
        key = split(jax.vmap(self.key_norm)(jax.vmap(self.key)(x)))
        value = split(jax.vmap(self.value)(x))
        mixed = attend(rotate(query, angles), rotate(key, angles), value, mask)
        return jax.vmap(self.out)(rearrange(mixed, "heads length d -> length (heads d)"))


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

    def __call__(self, x: Float[Array, " d_model"]) -> Float[Array, " d_model"]:
        """Transform one position.

        Args:
            x: normalised residual stream at one position `[d_model]`.

        Returns:
            Its update `[d_model]`.
        """
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class Block(eqx.Module):
    """One pre-norm transformer block, both branches divided by `sqrt(layers / 36)`."""

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

    def __call__(
        self,
        x: Float[Array, "length d_model"],
        angles: Float[Array, "length half"],
        mask: Bool[Array, "length length"],
    ) -> Float[Array, "length d_model"]:
        """Pass the residual stream through the block.

        Args:
            x: residual stream `[length d_model]`.
            angles: rotary angles `[length d_head/2]`.
            mask: True where a row may attend to a column.

        Returns:
            The residual stream after the block `[length d_model]`.
        """
        update = self.attention(jax.vmap(self.attention_norm)(x), angles, mask)
        x = x + update / self.residue_scale
        update = jax.vmap(self.ffn)(jax.vmap(self.ffn_norm)(x))
        return x + update / self.residue_scale


class LMHead(eqx.Module):
    """Maps an embedding to logits over the vocabulary: linear, exact GELU, norm, linear."""

    dense: Linear
    norm: LayerNorm
    decoder: Linear

    def __init__(self, d_model: int, *, key: PRNGKeyArray):
        dense, decoder = jax.random.split(key)
        self.dense = Linear(d_model, d_model, key=dense)
        self.norm = LayerNorm(d_model, eps=NORM_EPS)
        self.decoder = Linear(d_model, VOCAB_SIZE, key=decoder)

    def __call__(self, x: Float[Array, " d_model"]) -> Float[Array, " vocab"]:
        """Score the vocabulary at one position.

        Args:
            x: embedding of the position `[d_model]`.

        Returns:
            Logits `[vocab]`.
        """
        return self.decoder(self.norm(jax.nn.gelu(self.dense(x), approximate=False)))
