"""ESM-C, the protein language model."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox.nn import LayerNorm
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.alphabet import VOCAB_SIZE, AnyArray
from eqxesm.encoders.base import AbstractEncoder, Inputs, padding_mask
from eqxesm.encoders.config import ESMCConfig
from eqxesm.encoders.layers import NORM_EPS, Block, LMHead, rotary_angles


class ESMCOutput(NamedTuple):
    """What ESM-C says about one protein.

    Attributes:
        embedding: the residual stream after the final norm `[length d_model]`.
        logits: scores over the vocabulary `[length vocab]`, or None without an LM head.
        hidden_states: the chosen layers, in the order they were asked for
            `[chosen length d_model]`.
    """

    embedding: Float[Array, "length d_model"]
    logits: Float[Array, "length vocab"] | None
    hidden_states: Float[Array, "chosen length d_model"]


class ESMC(AbstractEncoder):
    """ESM-C (ESM Team 2024, "ESM Cambrian") as a pure function of one protein.

    The blocks are stacked along a leading axis and scanned. Precision is that of the parameters:
    `eqxesm.encoders.cast` changes it; norms, softmax and rotary embeddings run in float32.
    """

    embedding: Float[Array, "vocab d_model"]
    blocks: Block
    norm: LayerNorm
    lm_head: LMHead | None
    config: ESMCConfig = eqx.field(static=True)

    def __init__(self, config: ESMCConfig, *, key: PRNGKeyArray):
        """Make an encoder with random weights.

        Args:
            config: the architecture; `eqxesm.encoders.PRESETS` holds the published ones.
            key: source of randomness.
        """
        embedding, blocks, lm_head = jax.random.split(key, 3)
        self.embedding = 0.02 * jax.random.normal(embedding, (VOCAB_SIZE, config.d_model))
        self.blocks = eqx.filter_vmap(lambda key: Block(config, key=key))(
            jax.random.split(blocks, config.layers)
        )
        self.norm = LayerNorm(config.d_model, eps=NORM_EPS, use_bias=False)
        self.lm_head = LMHead(config.d_model, key=lm_head) if config.lm_head else None
        self.config = config

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.config.d_model

    def __call__(
        self,
        inputs: Inputs,
        sequence_id: Int[AnyArray, " length"] | None = None,
        *,
        hidden_states: Sequence[int] = (),
        remat: bool = False,
    ) -> ESMCOutput:
        """Encode one protein; `jax.vmap` makes it a batch.

        Args:
            inputs: tokens `[length]`, or probabilities `[length vocab]` that stand for the
                expected embedding at each position.
            sequence_id: chain of each position, -1 at padding; positions attend within their
                chain only. By default everything but padding is one chain, as in the torch
                originals; `Tokenizer.sequence_id` tells chains apart.
            hidden_states: layers to return, numbered as in transformers: 0 is the embedding, `n`
                the output of block `n`, and `layers` the last one after the final norm.
                Negative numbers count from the end.
            remat: recompute the blocks in the backward pass instead of keeping their activations.

        Returns:
            Embedding, logits and the chosen hidden states.

        Raises:
            ValueError: a hidden state is asked for twice or does not exist.
        """
        chosen = self._layer_numbers(hidden_states)
        last, kept = self.run_blocks(inputs, sequence_id, chosen, remat)
        embedding = jax.vmap(self.norm)(last)
        if self.config.layers in chosen:
            kept = kept.at[chosen.index(self.config.layers)].set(embedding)
        logits = None if self.lm_head is None else jax.vmap(self.lm_head)(embedding)
        return ESMCOutput(embedding, logits, kept)

    def features(
        self,
        inputs: Inputs,
        sequence_id: Int[AnyArray, " length"] | None = None,
        *,
        remat: bool = False,
    ) -> Float[Array, "length d_model"]:
        """Give the embedding alone; see `AbstractEncoder.features`.

        Args:
            inputs: tokens `[length]` or probabilities `[length vocab]`.
            sequence_id: chain of each position, -1 at padding.
            remat: recompute the blocks in the backward pass.

        Returns:
            Embedding `[length d_model]`, after the final norm.
        """
        return jax.vmap(self.norm)(self.run_blocks(inputs, sequence_id, (), remat)[0])

    def run_blocks(
        self,
        inputs: Inputs,
        sequence_id: Int[AnyArray, " length"] | None,
        chosen: tuple[int, ...],
        remat: bool,
    ) -> tuple[Float[Array, "length d_model"], Float[Array, "chosen length d_model"]]:
        """Run the stack up to, not through, the final norm.

        Args:
            inputs: tokens `[length]` or probabilities `[length vocab]`.
            sequence_id: chain of each position, -1 at padding, or None for one chain.
            chosen: layers to keep, from 0, the embedding, to `layers`.
            remat: recompute the blocks in the backward pass.

        Returns:
            The output of the last block `[length d_model]`, and the chosen layers
            `[chosen length d_model]`, zero where `layers` itself was chosen.
        """
        if sequence_id is None:
            sequence_id = -padding_mask(inputs).astype(jnp.int32)
        mask = sequence_id[:, None] == sequence_id[None, :]
        angles = rotary_angles(inputs.shape[0], self.config.d_head)
        arrays, structure = eqx.partition(self.blocks, eqx.is_array)

        def block(
            arrays: Block, x: Float[Array, "length d_model"]
        ) -> Float[Array, "length d_model"]:
            return eqx.combine(arrays, structure)(x, angles, mask)

        run = jax.checkpoint(block) if remat else block

        def step(carry, layer):
            x, kept = carry
            arrays, slot = layer
            x = run(arrays, x)
            return (x, kept.at[slot].set(x)), None

        # The extra row takes what nobody chose.
        nowhere = len(chosen)
        x = self._embed(inputs)
        kept = jnp.zeros((nowhere + 1, *x.shape), x.dtype)
        if 0 in chosen:
            kept = kept.at[chosen.index(0)].set(x)
        slots = [
            chosen.index(layer) if layer in chosen and layer < self.config.layers else nowhere
            for layer in range(1, self.config.layers + 1)
        ]
        (x, kept), _ = jax.lax.scan(step, (x, kept), (arrays, jnp.array(slots, jnp.int32)))
        return x, kept[:nowhere]

    def _embed(self, inputs: Inputs) -> Float[Array, "length d_model"]:
        if jnp.issubdtype(inputs.dtype, jnp.integer):
            return self.embedding[inputs]
        return jnp.asarray(inputs).astype(self.embedding.dtype) @ self.embedding

    def _layer_numbers(self, hidden_states: Sequence[int]) -> tuple[int, ...]:
        count = self.config.layers + 1
        outside = [layer for layer in hidden_states if not -count <= layer < count]
        if outside:
            raise ValueError(
                f"hidden state {outside[0]} does not exist: they run from 0 to {count - 1}"
            )
        chosen = tuple(layer % count for layer in hidden_states)
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"hidden states {tuple(hidden_states)} name one layer twice")
        return chosen
