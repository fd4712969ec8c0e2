"""ESM-C, the protein language model."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from eqxesm.checkpoint.leaves import check_floating, fill_leaves
from eqxesm.checkpoint.record import About, Base, with_about
from eqxesm.encoders.attention import rotary_turns
from eqxesm.encoders.base import Inputs, SequenceId
from eqxesm.encoders.config import ESMCConfig
from eqxesm.encoders.language_model import AbstractLanguageModel, ESMCOutput, find_chains
from eqxesm.encoders.layers import Block
from eqxesm.encoders.published.loader import is_published, load_published
from eqxesm.encoders.rows import ChainIds, normalise
from eqxesm.errors import InputError


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

    @classmethod
    def from_folder(cls, folder: Path, repository: str | None = None, dtype: DTypeLike | None = None) -> "ESMC":
        """Load an encoder from a folder of ours, or in any published layout."""
        if not is_published(folder):
            return super().from_folder(folder, repository, dtype)
        found = load_published(folder, repository, None if dtype is None else check_floating(dtype))
        commit = found.provenance.revision
        base = Base(repository, commit) if repository and commit else None
        skeleton = eqx.filter_eval_shape(lambda: cls(found.config, key=jax.random.key(0)))
        return with_about(fill_leaves(skeleton, found.leaves), About(found.provenance, base))

    def shared(self, chains: ChainIds) -> tuple[Any, ...]:
        return rotary_turns(chains.shape[0], self.config.d_head), chains

    def __call__(
        self,
        inputs: Inputs,
        sequence_id: SequenceId = None,
        *,
        hidden_states: Sequence[int] = (),
        attentions: Sequence[int] = (),
        remat: bool = False,
    ) -> ESMCOutput:
        """Encode one protein; see `AbstractLanguageModel.__call__`.

        Args:
            attentions: blocks whose attention weights to return, from 0, as transformers numbers them.
        """
        blocks = self._block_numbers(attentions)
        asked = tuple(dict.fromkeys([*self._layer_numbers(hidden_states), *blocks]))
        output = super().__call__(inputs, sequence_id, hidden_states=asked, remat=remat)
        if not blocks:
            return output
        shared = self.shared(find_chains(inputs, sequence_id))

        def weights(block: int) -> Float[Array, "heads length length"]:
            own: Any = jax.tree.map(lambda leaf: leaf[block] if eqx.is_array(leaf) else leaf, self.blocks)
            x = output.hidden_states[asked.index(block)]
            return own.attention.weights(normalise(own.attention_norm, x), *shared)

        kept = output.hidden_states[: len(hidden_states)]
        return output._replace(hidden_states=kept, attentions=jnp.stack([weights(block) for block in blocks]))

    def _block_numbers(self, attentions: Sequence[int]) -> list[int]:
        count = self.config.layers
        if outside := [block for block in attentions if not -count <= block < count]:
            raise InputError(f"block {outside[0]} has no attentions, expected 0 to {count - 1}")
        return [block % count for block in attentions]

    def truncate(self, layers: int) -> "ESMC":
        """The encoder of the first blocks alone, with the final norm. It has no LM head, which reads the last block."""
        if not 1 <= layers <= self.config.layers:
            raise InputError(f"layers is {layers}, expected 1 to {self.config.layers}")
        config = dataclasses.replace(self.config, layers=layers, lm_head=False)
        # Every branch is divided by a scale that the number of layers sets.
        factor = config.residue_scale / self.config.residue_scale

        def last_weights(model: ESMC) -> Any:
            blocks: Any = model.blocks
            return blocks.attention.out.weight, blocks.ffn.down.weight

        first = jax.tree.map(lambda leaf: leaf[:layers] if eqx.is_array(leaf) else leaf, self.blocks)
        cut = eqx.tree_at(lambda model: (model.blocks, model.lm_head), self, (first, None))
        cut = eqx.tree_at(last_weights, cut, tuple(weight * factor for weight in last_weights(cut)))
        skeleton = eqx.filter_eval_shape(lambda: ESMC(config, key=jax.random.key(0)))
        short = jax.tree.unflatten(jax.tree.structure(skeleton), jax.tree.leaves(cut))
        origin = self.about.provenance
        source = origin and dataclasses.replace(origin, source=f"the first {layers} blocks of {origin.source}")
        return with_about(short, About(source))

    def __repr__(self) -> str:
        c = self.config
        sizes = f"layers={c.layers}, d_model={c.d_model}, heads={c.heads}, d_ffn={c.d_ffn}"
        return f"ESMC({sizes}, lm_head={c.lm_head}, dtype={self.embedding.dtype})"
