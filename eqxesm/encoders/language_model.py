"""What every language model of proteins has: an embedding, a stack of blocks, a head, and a checkpoint."""

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox.nn import LayerNorm
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.alphabet import FIRST_RESIDUE, MASK, STANDARD, VOCAB_SIZE, AnyArray, check_tokens
from eqxesm.checkpoint.folder import CONFIG, read_config, save_checkpoint
from eqxesm.checkpoint.leaves import load_leaves
from eqxesm.checkpoint.record import About, Base, Provenance, read_record, with_about
from eqxesm.checkpoint.tensors import SHARD_BYTES
from eqxesm.config import configuration, describe, parse
from eqxesm.encoders.base import (
    AbstractEncoder,
    Inputs,
    SequenceId,
    check_inputs,
    in_vocabulary,
    padding_mask,
    residue_mask,
)
from eqxesm.encoders.config import LanguageModelConfig
from eqxesm.encoders.layers import LMHead
from eqxesm.encoders.rows import NORM_EPS, ChainIds, Features, normalise
from eqxesm.encoders.stack import scan_blocks
from eqxesm.errors import InputError
from eqxesm.hub.download import Access, commit_of, find_checkpoint, repository_of
from eqxesm.hub.upload import push_saved
from heads.pooling import at_least_float32

Model = TypeVar("Model", bound="AbstractLanguageModel")


@configuration
class EncoderSections:
    """What `config.json` of an encoder says."""

    encoder: LanguageModelConfig
    provenance: Provenance | None


def read_encoder_sections(folder: Path) -> EncoderSections:
    """Read `config.json` of an encoder."""
    return parse(EncoderSections, read_config(folder), folder / CONFIG)


class ESMCOutput(NamedTuple):
    """What ESM-C, or another language model, computes for one protein.

    `embedding` is the output after the final norm; `logits` are None without an LM head;
    `hidden_states` and `attentions` are the layers that were asked for, in that order.
    """

    embedding: Float[Array, "length d_model"]
    logits: Float[Array, "length vocab"] | None
    hidden_states: Float[Array, "chosen length d_model"]
    attentions: Float[Array, "blocks heads length length"] | None = None


def find_chains(inputs: Inputs, sequence_id: SequenceId) -> ChainIds:
    """The chain of every position, which by default is one."""
    if sequence_id is None:
        return -padding_mask(inputs).astype(jnp.int32)
    sequence_id = jnp.asarray(sequence_id)
    if sequence_id.shape != inputs.shape[:1] or not jnp.issubdtype(sequence_id.dtype, jnp.integer):
        got = f"{sequence_id.dtype} {list(sequence_id.shape)}"
        raise InputError(f"sequence_id is {got}, expected integers {list(inputs.shape[:1])}")
    return sequence_id


class AbstractLanguageModel(AbstractEncoder):
    """A stack of blocks between an embedding and a language-model head, as a pure function of one protein.

    Precision is that of the parameters: `cast` the module. Norms and the like run in float32 whatever
    it is.
    """

    config_type: ClassVar[Any]
    embedding: Float[Array, "vocab d_model"]
    blocks: eqx.Module
    norm: LayerNorm
    lm_head: LMHead | None
    config: Any = eqx.field(static=True)
    about: About

    def __init__(self, config: Any, block: Callable[..., eqx.Module], *, key: PRNGKeyArray, about: About):
        """Make an encoder of blocks with random weights."""
        embedding, blocks, lm_head = jax.random.split(key, 3)
        self.embedding = 0.02 * jax.random.normal(embedding, (VOCAB_SIZE, config.d_model))
        keys = jax.random.split(blocks, config.layers)
        self.blocks = eqx.filter_vmap(lambda key: block(config, key=key))(keys)
        self.norm = LayerNorm(config.d_model, eps=NORM_EPS, use_bias=False)
        self.lm_head = LMHead(config.d_model, key=lm_head) if config.lm_head else None
        self.config = config
        self.about = about

    @abstractmethod
    def shared(self, chains: ChainIds) -> tuple[Any, ...]:
        """What every block takes besides its features, made once for all."""

    @classmethod
    def from_pretrained(
        cls: type[Model],
        source: str | os.PathLike,
        *,
        revision: str | None = None,
        dtype: DTypeLike | None = None,
        **access: Any,
    ) -> Model:
        """Load an encoder that `conversion.port`, `eqxesm pretrain` or `save_pretrained` wrote, or a published ESM-C.

        On a CPU weights of ours are mapped from their file, which must not be truncated while they are in use.
        Published ones are read in any of their layouts (see `encoders.published`), and take longer.

        Args:
            source: a folder, a repository of the Hugging Face Hub, or a published size such as `"esmc_300m"`.
            revision: commit, tag or branch of the repository; by default that of `hub.releases`, if it is there.
            dtype: precision to cast the weights to, such as `"bfloat16"`; by default they stay as they are stored.
            token: Hub token; by default that of the environment or of `hf auth login`.
            cache_dir: cache of the Hub client; by default below `HF_HOME`.
            local_files_only: use the cache alone.
        """
        folder = find_checkpoint(source, revision, Access(**access))
        return cls.from_folder(folder, repository_of(source, folder), dtype)

    @classmethod
    def from_folder(
        cls: type[Model], folder: Path, repository: str | None = None, dtype: DTypeLike | None = None
    ) -> Model:
        """Load an encoder from a folder, the snapshot of `repository` if that is given."""
        sections = read_encoder_sections(folder)
        kind = cls.config_type
        if not isinstance(sections.encoder, kind):
            raise InputError(f"{folder}: holds an encoder of type {sections.encoder.type}, not {kind.type}")
        commit = commit_of(folder)
        base = Base(repository, commit) if repository and commit else None
        about = About(sections.provenance, base, read_record(folder))
        make: Any = cls
        skeleton = eqx.filter_eval_shape(lambda: make(sections.encoder, key=jax.random.key(0)))
        return with_about(load_leaves(folder, skeleton, dtype=dtype), about)

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        facts: Mapping[str, Any] | None = None,
        pictures: Mapping[str, bytes] | None = None,
        *,
        about: About | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """Write the encoder as a checkpoint folder, whole or not at all.

        Args:
            facts: a new record for the card, with its pictures.
            about: its provenance; by default that of the encoder (see `About`).
            shard_bytes: largest weights file.
        """
        about = about or self.about
        sections = describe(EncoderSections(self.config, about.provenance))
        save_checkpoint(folder, self, sections, about.record, facts, pictures, shard_bytes=shard_bytes)

    def push_to_hub(self, repository: str, *, shard_bytes: int = SHARD_BYTES, **options: Any) -> str:
        """Publish the encoder on the Hugging Face Hub; see `SolubilityModel.push_to_hub`."""
        return push_saved(lambda folder: self.save_pretrained(folder, shard_bytes=shard_bytes), repository, **options)

    @property
    def d_model(self) -> int:
        return self.config.d_model

    def __call__(
        self, inputs: Inputs, sequence_id: SequenceId = None, *, hidden_states: Sequence[int] = (), remat: bool = False
    ) -> ESMCOutput:
        """Encode one protein. Use `jax.vmap` for batches.

        Args:
            sequence_id: see `AbstractEncoder.features`.
            hidden_states: layers to return, as transformers numbers them: 0 is the embedded
                sequence, `n` the output of block `n`, and the last, also -1, comes after the final
                norm.
            remat: recompute the blocks in the backward pass, to save memory.
        """
        chosen = self._layer_numbers(hidden_states)
        last, kept = self.run_blocks(inputs, sequence_id, chosen, remat)
        embedding = normalise(self.norm, last)
        if self.config.layers in chosen:
            kept = kept.at[chosen.index(self.config.layers)].set(embedding)
        logits = None if self.lm_head is None else self.lm_head(embedding)
        return ESMCOutput(embedding, logits, kept)

    def features(self, inputs: Inputs, sequence_id: SequenceId = None, *, remat: bool = False) -> Features:
        """The embedding alone; see `AbstractEncoder.features`."""
        return normalise(self.norm, self.run_blocks(inputs, sequence_id, (), remat)[0])

    def logits(
        self, inputs: Inputs, sequence_id: SequenceId = None, *, remat: bool = False
    ) -> Float[Array, "length vocab"]:
        """Logits of the language-model head; for `remat` see `AbstractEncoder.features`."""
        if self.lm_head is None:
            raise InputError("the encoder has no LM head. Port a checkpoint that has one.")
        return self.lm_head(self.features(inputs, sequence_id, remat=remat))

    def log_probabilities(self, inputs: Inputs, sequence_id: SequenceId = None) -> Float[Array, "length vocab"]:
        """Logarithms of what the language-model head expects at each position, in at least float32."""
        logits = self.logits(inputs, sequence_id)
        return jax.nn.log_softmax(logits.astype(at_least_float32(logits)))

    def run_blocks(
        self, inputs: Inputs, sequence_id: SequenceId, chosen: tuple[int, ...], remat: bool
    ) -> tuple[Features, Float[Array, "chosen length d_model"]]:
        """Run the stack up to the final norm; see `scan_blocks`."""
        check_inputs(inputs)
        shared = self.shared(find_chains(inputs, sequence_id))
        return scan_blocks(self.blocks, self._embed(inputs), shared, chosen, remat)

    def pseudo_log_likelihood(
        self,
        tokens: Int[AnyArray, " length"],
        sequence_id: SequenceId = None,
        *,
        one_pass: bool = False,
        batch_size: int = 16,
    ) -> Float[Array, ""]:
        """Sum over residues of the log-probability of each, given all the others, in nats.

        Every residue is masked in turn, `batch_size` at a time (Salazar et al. 2020,
        arXiv:1910.14659). With `one_pass` nothing is masked, which is faster and overestimates.
        """
        check_tokens(tokens)
        tokens = jnp.asarray(tokens)

        def masked(position: Int[Array, ""]) -> Float[Array, ""]:
            hidden = tokens.at[position].set(MASK)
            return self.log_probabilities(hidden, sequence_id)[position, tokens[position]]

        positions = jnp.arange(len(tokens))
        if one_pass:
            scores = self.log_probabilities(tokens, sequence_id)[positions, tokens]
        else:
            scores = jax.lax.map(masked, positions, batch_size=batch_size)
        letters = residue_mask(tokens) & (tokens != MASK)
        return jnp.where(letters, scores, 0).sum()

    def fill(self, tokens: Int[AnyArray, " length"], sequence_id: SequenceId = None) -> Int[Array, " length"]:
        """Replace every mask by its likeliest standard residue, all in one pass."""
        check_tokens(tokens)
        tokens = jnp.asarray(tokens)
        logits = self.logits(tokens, sequence_id)[:, STANDARD]
        likeliest = (logits.argmax(axis=-1) + FIRST_RESIDUE).astype(tokens.dtype)
        # A token outside the vocabulary makes NaN of the logits.
        return jnp.where((tokens == MASK) & jnp.isfinite(logits).all(axis=-1), likeliest, tokens)

    def _embed(self, inputs: Inputs) -> Float[Array, "length d_model"]:
        if jnp.issubdtype(inputs.dtype, jnp.integer):
            # Blocks spread the NaN to the whole chain.
            return jnp.where(in_vocabulary(inputs)[:, None], self.embedding[inputs], jnp.nan)
        return jnp.asarray(inputs).astype(self.embedding.dtype) @ self.embedding

    def _layer_numbers(self, hidden_states: Sequence[int]) -> tuple[int, ...]:
        count = self.config.layers + 1
        try:
            layers = tuple(index(layer) for layer in hidden_states)
        except TypeError as error:
            raise InputError(f"hidden_states is {hidden_states!r}, expected numbers of layers, as (0, -1)") from error
        if outside := [layer for layer in layers if not -count <= layer < count]:
            raise InputError(f"hidden state {outside[0]} does not exist, expected 0 to {count - 1}")
        chosen = tuple(layer % count for layer in layers)
        if len(set(chosen)) < len(chosen):
            raise InputError(f"hidden states {layers} name a layer twice")
        return chosen
