"""ESM-C, the protein language model."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox.nn import LayerNorm
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.alphabet import FIRST_RESIDUE, MASK, STANDARD_RESIDUES, VOCAB_SIZE, AnyArray
from eqxesm.checkpoint.folder import push_saved, save_folder
from eqxesm.checkpoint.format import load_leaves
from eqxesm.checkpoint.hub import Access, commit_of, fetch
from eqxesm.checkpoint.record import Record, read_record
from eqxesm.checkpoint.schema import (
    CONFIG,
    Base,
    Provenance,
    describe,
    parse_optional,
    parse_type,
    read_sections,
)
from eqxesm.checkpoint.tensors import SHARD_BYTES
from eqxesm.encoders.base import AbstractEncoder, Inputs, check_inputs, padding_mask, residue_mask
from eqxesm.encoders.config import ESMCConfig
from eqxesm.encoders.layers import NORM_EPS, Block, LMHead, rotary_angles
from eqxesm.encoders.stack import scan_blocks

SECTIONS = ("encoder", "provenance")
"""What `config.json` of an encoder says beside the versions."""


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
    `eqxesm.encoders.cast` changes it; norms, softmax and rotary embeddings run in float32. On
    recent GPUs JAX multiplies float32 matrices in TF32 unless told otherwise, as by
    `jax.default_matmul_precision("highest")`. Tokens outside of the vocabulary are not refused.
    """

    embedding: Float[Array, "vocab d_model"]
    blocks: Block
    norm: LayerNorm
    lm_head: LMHead | None
    config: ESMCConfig = eqx.field(static=True)
    provenance: Provenance | None = eqx.field(static=True)
    record: Record | None = eqx.field(static=True)
    base: Base | None = eqx.field(static=True)

    def __init__(
        self,
        config: ESMCConfig,
        *,
        key: PRNGKeyArray,
        provenance: Provenance | None = None,
        record: Record | None = None,
        base: Base | None = None,
    ):
        """Make an encoder with random weights.

        Args:
            config: the architecture; `eqxesm.encoders.PRESETS` holds the published ones.
            key: source of randomness.
            provenance: where the weights come from, if they come from anywhere.
            record: what was measured on them, such as the parity of a port.
            base: the repository that they were loaded from.
        """
        embedding, blocks, lm_head = jax.random.split(key, 3)
        self.embedding = 0.02 * jax.random.normal(embedding, (VOCAB_SIZE, config.d_model))
        self.blocks = eqx.filter_vmap(lambda key: Block(config, key=key))(
            jax.random.split(blocks, config.layers)
        )
        self.norm = LayerNorm(config.d_model, eps=NORM_EPS, use_bias=False)
        self.lm_head = LMHead(config.d_model, key=lm_head) if config.lm_head else None
        self.config = config
        self.provenance = provenance
        self.record = record
        self.base = base

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
    ) -> "ESMC":
        """Load an encoder that `conversion.port` or `save_pretrained` wrote.

        Args:
            source: a folder, or a repository on the Hugging Face Hub.
            revision: commit, tag or branch of the repository.
            token: of a login at the Hub; by default that of the environment or of `hf auth login`.
            cache_dir: where the Hub's files are kept; by default below `HF_HOME`.
            local_files_only: ask no Hub, and take what is kept.

        Returns:
            The encoder, in the precision it was saved in.

        Raises:
            InputError: there is no such checkpoint, or it is not exactly that of an encoder.
        """
        folder = fetch(source, revision, Access(token, cache_dir, local_files_only))
        return cls.from_folder(folder, None if folder == Path(source).expanduser() else str(source))

    @classmethod
    def from_folder(cls, folder: Path, repository: str | None = None) -> "ESMC":
        """Load an encoder from a folder of this machine; see `from_pretrained`.

        Args:
            folder: the checkpoint.
            repository: what it was fetched from, if it was.

        Returns:
            The encoder, in the precision it was saved in.

        Raises:
            InputError: it is not exactly the checkpoint of an encoder.
        """
        sections = read_sections(folder, SECTIONS)
        where = f"{folder / CONFIG}"
        config, _ = parse_type(TYPES, sections["encoder"], f"{where}: encoder")
        provenance = parse_optional(Provenance, sections["provenance"], f"{where}: provenance")
        record, commit = read_record(folder), commit_of(folder)
        base = Base(repository, commit) if repository and commit else None

        def make() -> ESMC:
            key = jax.random.key(0)
            return cls(config, key=key, provenance=provenance, record=record, base=base)

        return load_leaves(folder, eqx.filter_eval_shape(make))

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        record: Mapping[str, Any] | None = None,
        pictures: Mapping[str, bytes] | None = None,
        *,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """Write the encoder as a checkpoint folder, whole or not at all.

        Args:
            folder: where to; an earlier checkpoint there is replaced, but for what a person wrote
                into its card.
            record: what was measured on the encoder; by default what it was loaded with, if it is
                still the same.
            pictures: PNG files that the card shows, by name.
            shard_bytes: largest weights file.

        Raises:
            InputError: the folder holds something else, or cannot be written.
        """
        save_folder(
            folder,
            self,
            describe_encoder(self.config, self.provenance),
            self.record,
            record,
            pictures,
            shard_bytes=shard_bytes,
        )

    def push_to_hub(
        self, repository: str, *, shard_bytes: int = SHARD_BYTES, **options: Any
    ) -> str:
        """Publish the encoder on the Hugging Face Hub, in one commit.

        Args:
            repository: where to, such as `someone/esmc-300m-jax`; made if it is not there.
            shard_bytes: largest weights file.
            options: `token`, `private`, `revision`, `create_pr` and `commit_message`, as
                `eqxesm.checkpoint.publish.push` takes them.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            InputError: the login is missing or lacks the rights, or the Hub cannot be reached.
        """
        return push_saved(
            lambda folder: self.save_pretrained(folder, shard_bytes=shard_bytes),
            repository,
            **options,
        )

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
        check_inputs(inputs)
        if sequence_id is None:
            sequence_id = -padding_mask(inputs).astype(jnp.int32)
        sequence_id = jnp.asarray(sequence_id)
        mask = sequence_id[:, None] == sequence_id[None, :]
        angles = rotary_angles(inputs.shape[0], self.config.d_head)
        return scan_blocks(self.blocks, self._embed(inputs), angles, mask, chosen, remat)

    def pseudo_log_likelihood(
        self,
        tokens: Int[AnyArray, " length"],
        sequence_id: Int[AnyArray, " length"] | None = None,
        *,
        one_pass: bool = False,
        batch_size: int = 16,
    ) -> Float[Array, ""]:
        """Score how likely one protein is, residue by residue given all the others.

        Each residue is masked in turn, and the logarithms of the probabilities that the model
        gives to what stood there are added up (Salazar et al. 2020, arXiv:1910.14659). That takes
        a pass per residue; the approximation reads all of them off one pass without masks, and
        overrates a protein, since the model sees what it is asked for.

        Args:
            tokens: one protein `[length]`.
            sequence_id: chain of each position, -1 at padding; see `__call__`.
            one_pass: take the approximation.
            batch_size: residues that are masked at once, each in a copy of its own.

        Returns:
            The sum over residues, in nats, float32; `exp(-sum / residues)` is the
            pseudo-perplexity.

        Raises:
            ValueError: the encoder has no LM head.
        """
        tokens = jnp.asarray(tokens)

        def log_probabilities(tokens: Int[Array, " length"]) -> Float[Array, "length vocab"]:
            return jax.nn.log_softmax(self._logits(tokens, sequence_id).astype(jnp.float32))

        def masked(position: Int[Array, ""]) -> Float[Array, ""]:
            hidden = tokens.at[position].set(MASK)
            return log_probabilities(hidden)[position, tokens[position]]

        positions = jnp.arange(len(tokens))
        if one_pass:
            scores = log_probabilities(tokens)[positions, tokens]
        else:
            scores = jax.lax.map(masked, positions, batch_size=batch_size)
        letters = residue_mask(tokens) & (tokens != MASK)
        return jnp.where(letters, scores, 0).sum()

    def fill(
        self,
        tokens: Int[AnyArray, " length"],
        sequence_id: Int[AnyArray, " length"] | None = None,
    ) -> Int[Array, " length"]:
        """Put the likeliest standard residue in the place of every mask, all in one pass.

        Args:
            tokens: one protein `[length]`, with `<mask>` where something shall be filled in.
            sequence_id: chain of each position, -1 at padding; see `__call__`.

        Returns:
            The tokens without masks `[length]`.

        Raises:
            ValueError: the encoder has no LM head.
        """
        tokens = jnp.asarray(tokens)
        standard = slice(FIRST_RESIDUE, FIRST_RESIDUE + len(STANDARD_RESIDUES))
        likeliest = self._logits(tokens, sequence_id)[:, standard].argmax(axis=-1) + FIRST_RESIDUE
        return jnp.where(tokens == MASK, likeliest.astype(tokens.dtype), tokens)

    def _logits(
        self, tokens: Int[Array, " length"], sequence_id: Int[AnyArray, " length"] | None
    ) -> Float[Array, "length vocab"]:
        logits = self(tokens, sequence_id).logits
        if logits is None:
            raise ValueError("the encoder has no LM head: port a checkpoint that has one")
        return logits

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


TYPES = {"esmc": (ESMCConfig, ESMC)}


def describe_encoder(config: ESMCConfig, provenance: Provenance | None) -> dict[str, Any]:
    """Write the sections of an encoder's `config.json`.

    Args:
        config: its architecture.
        provenance: where its weights come from.

    Returns:
        The sections by name.
    """
    return {
        "encoder": describe(TYPES, config),
        "provenance": None if provenance is None else dataclasses.asdict(provenance),
    }
