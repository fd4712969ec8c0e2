"""Loss terms over soft sequences, as JAX tools for protein design take them.

A term is called as `term(sequence, key=key)`, with probabilities `[length 20]` in the order of `ORDER`, and returns a
loss, of which less is better, and a dictionary of scalars. So does escalante-bio/mosaic.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from eqxesm.alphabet import CLS, EOS, MASK, VOCAB_SIZE, VOCABULARY
from eqxesm.encoders import AbstractLanguageModel
from eqxesm.errors import InputError
from eqxesm.model import SolubilityModel

ORDER = "ARNDCQEGHILKMFPSTWYV"
"""Columns of a soft sequence, in the order of the three-letter names."""

_COLUMNS = np.array([VOCABULARY.index(letter) for letter in ORDER], np.int32)

Sequence = Float[Array, "length 20"]
Scalars = dict[str, Float[Array, ""]]


def place(sequence: Sequence) -> Float[Array, "tokens vocab"]:
    """A soft sequence as an encoder takes it: over the whole vocabulary, between <cls> and <eos>."""
    wide = jnp.zeros((len(sequence), VOCAB_SIZE), sequence.dtype).at[:, _COLUMNS].set(sequence)
    first, last = (jax.nn.one_hot(np.array([token]), VOCAB_SIZE, dtype=sequence.dtype) for token in (CLS, EOS))
    return jnp.concatenate([first, wide, last])


class SolubilityTerm(eqx.Module):
    """The negative logit of a model. Nothing is stripped from the sequence."""

    model: SolubilityModel

    def __call__(self, sequence: Sequence, key: PRNGKeyArray | None = None) -> tuple[Float[Array, ""], Scalars]:
        del key
        soft = place(sequence)
        logit = self.model(soft)
        return -logit, {"solubility_logit": logit, "solubility": self.model.probability(soft)}


class PseudoLikelihoodTerm(eqx.Module):
    """The mean negative log-likelihood of residues by a language model that does not see them, in nats.

    Exact, every position is masked in turn, `chunk` at a time. Memory grows with `chunk`; the backward pass computes it
    again. With `samples`, a random `fraction` of positions is masked that many times, and the rest is seen as the
    likeliest residues, with the gradient of the soft ones (straight through).
    """

    encoder: AbstractLanguageModel
    samples: int | None = eqx.field(static=True)
    fraction: float = eqx.field(static=True)
    chunk: int = eqx.field(static=True)
    context_gradient: bool = eqx.field(static=True)

    def __init__(
        self,
        encoder: AbstractLanguageModel,
        *,
        samples: int | None = None,
        fraction: float = 0.15,
        chunk: int = 16,
        context_gradient: bool = True,
    ):
        """Make one. Without `context_gradient`, what the language model sees counts as fixed."""
        if encoder.lm_head is None:
            raise InputError("the encoder has no LM head. Load a checkpoint that has one.")
        if samples is not None and samples < 1:
            raise InputError(f"samples is {samples}, expected at least 1")
        if not 0 < fraction < 1:
            raise InputError(f"fraction is {fraction}, expected a number between 0 and 1")
        self.encoder = encoder
        self.samples = samples
        self.fraction = fraction
        self.chunk = chunk
        self.context_gradient = context_gradient

    def __call__(self, sequence: Sequence, key: PRNGKeyArray | None = None) -> tuple[Float[Array, ""], Scalars]:
        if self.samples is None:
            loss = self._exact(sequence)
        elif key is None:
            raise InputError("samples need a key: call term(sequence, key=key)")
        else:
            loss = self._sampled(sequence, jax.random.split(key, self.samples))
        return loss, {"pseudo_log_likelihood": -loss * len(sequence), "pseudo_perplexity": jnp.exp(loss)}

    def _exact(self, sequence: Sequence) -> Float[Array, ""]:
        positions = jnp.arange(len(sequence), dtype=jnp.int32)

        @jax.checkpoint
        def one(position: Array) -> Float[Array, ""]:
            return self._losses(sequence, sequence, positions == position)[position]

        return jax.lax.map(one, positions, batch_size=self.chunk).mean()

    def _sampled(self, sequence: Sequence, keys: Array) -> Float[Array, ""]:
        hard = jax.nn.one_hot(sequence.argmax(axis=-1), len(ORDER), dtype=sequence.dtype)
        seen = sequence + jax.lax.stop_gradient(hard - sequence)

        @jax.checkpoint
        def one(key: PRNGKeyArray) -> Float[Array, ""]:
            # At least one position, whatever is drawn.
            drawn = jax.random.uniform(key, (len(sequence),))
            hidden = drawn <= jnp.maximum(jnp.asarray(self.fraction, drawn.dtype), drawn.min())
            total = jnp.where(hidden, self._losses(sequence, seen, hidden), 0).sum()
            return total / hidden.sum().astype(total.dtype)

        return jax.lax.map(one, keys, batch_size=self.chunk).mean()

    def _losses(self, sequence: Sequence, seen: Sequence, hidden: Any) -> Float[Array, " length"]:
        """Cross-entropy of every position to what the language model expects there."""
        if not self.context_gradient:
            seen = jax.lax.stop_gradient(seen)
        soft = place(seen)
        mask = jax.nn.one_hot(MASK, VOCAB_SIZE, dtype=soft.dtype)[None]
        soft = jnp.where(jnp.pad(hidden, 1)[:, None], mask, soft)
        expected = self.encoder.log_probabilities(soft)[1:-1, _COLUMNS]
        return -(sequence.astype(expected.dtype) * expected).sum(axis=-1)
