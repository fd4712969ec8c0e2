"""Multi-head self-attention with rotary positions, for one protein."""

import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from equinox.nn import LayerNorm, Linear
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.encoders.config import ESMCConfig
from eqxesm.encoders.rows import NORM_EPS, ChainIds, Features, normalise, project, save
from heads.pooling import at_least_float32

HeadVectors = Float[Array, "heads length d_head"]
Turns = tuple[Float[Array, "length half"], Float[Array, "length half"]]
"""Cosine and sine of the angle by which each pair of a head's features is turned."""

ROTARY_BASE = 10000.0

FAR = -1e30
"""Score between chains: as good as minus infinity, and its product with zero is zero."""

LONG = 1024
"""Residues from which on attention goes by chunks of queries, in memory that is linear in the length."""

QUERIES = 256
"""Queries of a chunk."""

CUDNN_LONGEST = 16_384
"""Residues up to which cuDNN's mask, which is quadratic, is small."""


def rotary_turns(length: Any, d_head: int) -> Turns:
    """The turns of rotary embeddings. In a program that is exported, the length is a symbol."""
    # As torch computes them: a last digit of a frequency is 6e-5 radians at position 2,000.
    powers = ROTARY_BASE ** (np.arange(0, d_head, 2) / d_head)
    frequencies = np.float32(1) / powers.astype(np.float32)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * jnp.asarray(frequencies)[None, :]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: HeadVectors, turns: Turns) -> HeadVectors:
    """Turn queries or keys by their positions, pairing feature `i` with `i + d_head / 2`."""
    wide = at_least_float32(x)
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    cos, sin = (each.astype(wide)[None] for each in turns)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def attend(query: HeadVectors, key: HeadVectors, value: HeadVectors, chains: ChainIds) -> HeadVectors:
    """Scaled dot-product attention within each chain, in the way that suits device, precision and length."""
    if suits_cudnn(query):
        return jax.lax.platform_dependent(query, key, value, chains, cuda=attend_by_cudnn, default=attend_by_chunks)
    return attend_by_chunks(query, key, value, chains)


def suits_cudnn(query: HeadVectors) -> bool:
    """Whether cuDNN's flash attention takes it: half precision, on an NVIDIA GPU from Ampere on."""
    _, length, d_head = query.shape
    if jax.default_backend() != "gpu" or query.dtype.itemsize > 2:
        return False
    capability = jax.devices()[0].compute_capability.partition(".")[0]
    takes_shape = d_head % 8 == 0 and d_head <= 128 and length % 2 == 0 and length <= CUDNN_LONGEST
    return capability.isdigit() and int(capability) >= 8 and takes_shape


def attend_by_cudnn(
    query: HeadVectors,
    key: HeadVectors,
    value: HeadVectors,
    chains: ChainIds,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> HeadVectors:
    """By the library's own function. Memory is linear in the length but for the mask."""
    query, key, value = (rearrange(each, "heads length d -> length heads d") for each in (query, key, value))
    mask = (chains[:, None] == chains[None, :])[None]
    mixed = jax.nn.dot_product_attention(query, key, value, mask=mask, implementation=implementation)
    return rearrange(mixed, "length heads d -> heads length d")


def attend_by_chunks(query: HeadVectors, key: HeadVectors, value: HeadVectors, chains: ChainIds) -> HeadVectors:
    """By plain products, in chunks of queries if the protein is long, so that memory is linear in the length."""

    def attend_rows(rows: tuple[Float[Array, "heads rows d_head"], Int[Array, " rows"]]) -> Array:
        queries, own = rows
        scores = jnp.einsum("hqd,hkd->hqk", queries, key, preferred_element_type=wide)
        # Added rather than chosen by `where`, which costs more in the backward pass.
        scores += jnp.where(own[:, None] == chains[None, :], 0, FAR).astype(wide)[None]
        # A softmax whose division by the sum waits until after the product: that array is much smaller.
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
        mixed = jnp.einsum("hqk,hkd->hqd", weights.astype(value.dtype), value, preferred_element_type=wide)
        return (mixed / weights.sum(axis=-1, keepdims=True)).astype(value.dtype)

    wide, length = at_least_float32(query), query.shape[1]
    query = (query.astype(wide) / math.sqrt(query.shape[-1])).astype(query.dtype)
    if isinstance(length, int) and length < LONG:
        return attend_rows((query, chains))
    # The last chunk is filled up with queries of a chain that is there, so that their scores are finite.
    filled = -(-length // QUERIES) * QUERIES - length
    queries = jnp.pad(query, ((0, 0), (0, filled), (0, 0)))
    own = jnp.pad(chains, (0, filled), mode="edge")
    chunks = rearrange(queries, "h (n q) d -> n h q d", q=QUERIES), rearrange(own, "(n q) -> n q", q=QUERIES)
    # Scores are computed again in the backward pass, chunk by chunk.
    mixed = jax.lax.map(jax.checkpoint(attend_rows), chunks)
    return rearrange(mixed, "n h q d -> h (n q) d")[:, :length]


class Attention(eqx.Module):
    """Self-attention with normalised queries and keys and rotary positions."""

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

    def __call__(self, x: Features, turns: Turns, chains: ChainIds) -> Features:
        mixed = attend(*self._query_and_key(x, turns), self._split(project(self.value, x)), chains)
        return project(self.out, save(rearrange(mixed, "heads length d -> length (heads d)")))

    def weights(self, x: Features, turns: Turns, chains: ChainIds) -> Float[Array, "heads length length"]:
        """How much every position attends to every other."""
        query, key = (each.astype(jnp.float32) for each in self._query_and_key(x, turns))
        scores = jnp.einsum("hqd,hkd->hqk", query, key) / math.sqrt(query.shape[-1])
        same = jnp.broadcast_to((chains[:, None] == chains[None, :])[None], scores.shape)
        return jax.nn.softmax(scores, axis=-1, where=same)

    def _query_and_key(self, x: Features, turns: Turns) -> tuple[HeadVectors, HeadVectors]:
        # The norms span all heads, so they come before the split.
        query = self._split(normalise(self.query_norm, project(self.query, x)))
        key = self._split(normalise(self.key_norm, project(self.key, x)))
        return rotate(query, turns), rotate(key, turns)

    def _split(self, x: Features) -> HeadVectors:
        return rearrange(x, "length (heads d) -> heads length d", heads=self.heads)
