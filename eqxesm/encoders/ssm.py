"""A state-space encoder: blocks of a selective recurrence in both directions, linear in the length.

The recurrence is that of Mamba-2, with one decay for a head and position (Dao & Gu 2024, arXiv:2405.21060).
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from einops import rearrange
from equinox.nn import LayerNorm, Linear
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.checkpoint.record import About
from eqxesm.encoders.attention import FAR
from eqxesm.encoders.config import SSMConfig
from eqxesm.encoders.language_model import AbstractLanguageModel
from eqxesm.encoders.rows import NORM_EPS, ChainIds, Features, normalise, project, repeat, save
from heads.pooling import at_least_float32

CHUNK = 32
"""Positions of a chunk: within one, the recurrence is worked out by products; between them, by a scan."""

TAPS = 3
"""Positions that a convolution sees: its own and its neighbours."""

SLOWEST, FASTEST = 1e-3, 0.1
"""Range of the steps by which a new block moves on."""

Mixed = Float[Array, "length d_inner"]


def scan_states(
    values: Float[Array, "length heads d_head"],
    steps: Float[Array, "length heads"],
    decay: Float[Array, "length heads"],
    write: Float[Array, "length d_state"],
    read: Float[Array, "length d_state"],
    chains: ChainIds,
) -> Float[Array, "length heads d_head"]:
    """Run `state = exp(decay) * state + steps * values ⊗ write` along every chain, and return `state @ read`.

    A chain is a run of equal ids; each begins from a state of zero. `decay` must not be positive.
    """
    length, heads, _ = values.shape
    filled = -(-length // CHUNK) * CHUNK - length

    def cut(x: Array) -> Array:
        padded = jnp.pad(x, ((0, filled), *((0, 0),) * (x.ndim - 1)), mode="edge")
        return rearrange(padded, "(n q) ... -> n q ...", q=CHUNK)

    values, steps, decay, write, read, chains = map(cut, (values, steps, decay, write, read, chains))
    last = chains[:, -1:]
    # No chain has the id below that of the first.
    last_before = jnp.concatenate([chains[:1, :1] - 1, last[:-1]])
    decayed = jnp.cumsum(decay, axis=1)

    # Within a chunk: what each position reads of those before it.
    sees = (chains[:, :, None] == chains[:, None, :]) & jnp.tri(CHUNK, dtype=bool)[None]
    by_head = jnp.swapaxes(decayed, 1, 2)
    kept = jnp.exp(jnp.where(sees[:, None], by_head[..., :, None] - by_head[..., None, :], FAR))
    weights = kept * jnp.einsum("nqs,nks->nqk", read, write)[:, None] * jnp.swapaxes(steps, 1, 2)[..., None, :]
    mixed = jnp.swapaxes(jnp.einsum("nhqk,nhkd->nhqd", weights, jnp.swapaxes(values, 1, 2)), 1, 2)

    # Between chunks: the state that each leaves, and what is still of it further on.
    left = jnp.where((chains == last)[..., None], jnp.exp(decayed[:, -1:] - decayed), 0) * steps
    states = jnp.einsum("nke,nks->nse", _flatten(values * left[..., None]), write)
    passed = jnp.where(last == last_before, jnp.exp(decayed[:, -1]), 0)
    states = rearrange(states, "n s (h d) -> n s h d", h=heads)
    before = _pass_on(passed, states)
    reached = jnp.where((chains == last_before)[..., None], jnp.exp(decayed), 0)
    passed_on = jnp.einsum("nqs,nse->nqe", read, _flatten(before))
    mixed += rearrange(passed_on, "n q (h d) -> n q h d", h=heads) * reached[..., None]
    return rearrange(mixed, "n q h d -> (n q) h d")[:length]


def _flatten(x: Float[Array, "n rows heads d_head"]) -> Float[Array, "n rows d_inner"]:
    """All heads side by side, as one product takes them."""
    return rearrange(x, "n rows heads d_head -> n rows (heads d_head)")


def _pass_on(
    passed: Float[Array, "n heads"], states: Float[Array, "n d_state heads d_head"]
) -> Float[Array, "n d_state heads d_head"]:
    """The state before each chunk."""
    if isinstance(states.shape[0], int):
        _, states = jax.lax.associative_scan(_join, (passed, states))
        return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
    # In a program that is exported, the length is a symbol, which an associative scan does not take.
    return jax.lax.scan(
        lambda before, chunk: (before * chunk[0][None, :, None] + chunk[1], before),
        jnp.zeros_like(states[0]),
        (passed, states),
    )[1]


def _join(
    first: tuple[Float[Array, "n heads"], Float[Array, "n d_state heads d_head"]],
    second: tuple[Float[Array, "n heads"], Float[Array, "n d_state heads d_head"]],
) -> tuple[Float[Array, "n heads"], Float[Array, "n d_state heads d_head"]]:
    """Two stretches in a row as one: how much of a state passes both, and the state that they leave."""
    (passed, states), (next_passed, next_states) = first, second
    return passed * next_passed, states * next_passed[:, None, :, None] + next_states


def convolve(x: Mixed, taps: Float[Array, "taps d_inner"], chains: ChainIds) -> Mixed:
    """Add up each position and its neighbours in its chain, weighted, each feature by itself."""
    reach = len(taps) // 2
    padded = jnp.pad(x, ((reach, reach), (0, 0)))
    ids = jnp.pad(chains, (reach, reach), mode="edge")
    y = jnp.zeros_like(x)
    for start, row in enumerate(taps):
        near = slice(start, start + x.shape[0])
        y += jnp.where((ids[near] == chains)[:, None], padded[near], 0) * repeat(row, x)
    return y


class Direction(eqx.Module):
    """The recurrence in one direction: what each position writes, reads and forgets depends on its features."""

    select: Linear
    step_bias: Float[Array, " heads"]
    log_rate: Float[Array, " heads"]
    d_state: int = eqx.field(static=True)

    def __init__(self, config: SSMConfig, *, key: PRNGKeyArray):
        select, step, rate = jax.random.split(key, 3)
        self.select = Linear(config.d_inner, 2 * config.d_state + config.heads, use_bias=False, key=select)
        steps = jnp.exp(jax.random.uniform(step, (config.heads,), minval=jnp.log(SLOWEST), maxval=jnp.log(FASTEST)))
        self.step_bias = jnp.log(jnp.expm1(steps))  # the inverse of softplus
        self.log_rate = jnp.log(jax.random.uniform(rate, (config.heads,), minval=1.0, maxval=16.0))
        self.d_state = config.d_state

    def __call__(self, x: Mixed, chains: ChainIds) -> Mixed:
        selected = project(self.select, x).astype(at_least_float32(x))
        write, read, steps = jnp.split(selected, (self.d_state, 2 * self.d_state), axis=-1)
        steps = jax.nn.softplus(steps + repeat(self.step_bias.astype(steps.dtype), steps))
        decay = -steps * repeat(jnp.exp(self.log_rate.astype(steps.dtype)), steps)
        values = rearrange(x.astype(steps.dtype), "length (heads d) -> length heads d", heads=len(self.log_rate))
        mixed = scan_states(values, steps, decay, write, read, chains)
        return rearrange(mixed, "length heads d -> length (heads d)").astype(x.dtype)


class StateSpaceBlock(eqx.Module):
    """Pre-norm block: a short convolution, the recurrence in both directions, a gate and a norm."""

    norm: LayerNorm
    gate: Linear
    up: Linear
    taps: Float[Array, "taps d_inner"]
    bias: Float[Array, " d_inner"]
    forward: Direction
    backward: Direction
    skip: Float[Array, " d_inner"]
    mixed_norm: LayerNorm
    down: Linear

    def __init__(self, config: SSMConfig, *, key: PRNGKeyArray):
        gate, up, taps, forward, backward, down = jax.random.split(key, 6)
        self.norm = LayerNorm(config.d_model, eps=NORM_EPS)
        self.gate = Linear(config.d_model, config.d_inner, use_bias=False, key=gate)
        self.up = Linear(config.d_model, config.d_inner, use_bias=False, key=up)
        bound = TAPS**-0.5
        self.taps = jax.random.uniform(taps, (TAPS, config.d_inner), minval=-bound, maxval=bound)
        self.bias = jnp.zeros(config.d_inner)
        self.forward = Direction(config, key=forward)
        self.backward = Direction(config, key=backward)
        self.skip = jnp.ones(config.d_inner)
        self.mixed_norm = LayerNorm(config.d_inner, eps=NORM_EPS, use_bias=False)
        self.down = Linear(config.d_inner, config.d_model, use_bias=False, key=down)

    def __call__(self, x: Features, chains: ChainIds) -> Features:
        normed = normalise(self.norm, x)
        wide = project(self.up, normed)
        wide = jax.nn.silu(convolve(wide, self.taps, chains) + repeat(self.bias, wide))
        mixed = save(self.forward(wide, chains) + self.backward(wide[::-1], chains[::-1])[::-1])
        gated = (mixed + wide * repeat(self.skip, wide)) * jax.nn.silu(project(self.gate, normed))
        return x + project(self.down, normalise(self.mixed_norm, gated))


class SSM(AbstractLanguageModel):
    """A bidirectional state-space encoder as a pure function of one protein.

    Time and memory are linear in the length. Precision is that of the parameters; norms and the
    recurrence run in at least float32.
    """

    config_type: ClassVar[Any] = SSMConfig
    config: SSMConfig = eqx.field(static=True)

    def __init__(self, config: SSMConfig, *, key: PRNGKeyArray, about: About = About()):
        """Make an encoder with random weights."""
        super().__init__(config, StateSpaceBlock, key=key, about=about)

    def shared(self, chains: ChainIds) -> tuple[Int[Array, " length"]]:
        # By number: an id that comes back after another chain is a chain of its own.
        borders = jnp.concatenate([jnp.zeros(1, bool), chains[1:] != chains[:-1]])
        return (jnp.cumsum(borders),)

    def __repr__(self) -> str:
        c = self.config
        sizes = f"layers={c.layers}, d_model={c.d_model}, heads={c.heads}, d_state={c.d_state}, expand={c.expand}"
        return f"SSM({sizes}, lm_head={c.lm_head}, dtype={self.embedding.dtype})"
