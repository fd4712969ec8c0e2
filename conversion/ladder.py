"""Our side of a parity check: the encoder, taken from torch through dlpack, rung by rung."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from conversion.dlpack import to_jax
from conversion.originals import Original, Rungs
from conversion.panel import Case
from eqxesm.checkpoint.leaves import fill_leaves
from eqxesm.encoders import ESMC, ESMCConfig
from eqxesm.encoders.published.layouts import Layout
from eqxesm.encoders.published.table import TABLE, Row
from eqxesm.encoders.rows import normalise


def share_weights(original: Original, config: ESMCConfig) -> tuple[ESMC, int]:
    """Port an original through dlpack, on its device. Returns the number of shared tensors too."""
    shared = {name: to_jax(tensor) for name, tensor in original.module.state_dict().items()}
    layout = Layout(original.layout)

    def leaf(row: Row) -> Array:
        part = row.part(layout.name)
        rows = []
        for layer in range(config.layers if row.is_stacked else 1):
            whole = shared[layout.tensor(row, layer)]
            rows.append(whole[part.rows(whole.shape[0])])
        return jnp.stack(rows) if row.is_stacked else rows[0]

    skeleton = eqx.filter_eval_shape(lambda: ESMC(config, key=jax.random.key(0)))
    return fill_leaves(skeleton, {row.ours: leaf(row) for row in TABLE}), len(shared)


@eqx.filter_jit
def climb(
    encoder: ESMC, tokens: Int[Array, "batch length"], sequence_id: Int[Array, "batch length"]
) -> dict[str, Float[Array, "batch length _"]]:
    """Every rung of ours; the counterpart of `Original.run`."""
    layers, lm_head = encoder.config.layers, encoder.lm_head
    if lm_head is None:
        raise ValueError("parity needs an encoder with its LM head")

    def run(tokens: Int[Array, " length"], sequence_id: Int[Array, " length"]) -> dict[str, Float[Array, "length _"]]:
        last, kept = encoder.run_blocks(tokens, sequence_id, tuple(range(layers)), False)
        embedding = normalise(encoder.norm, last)
        rungs = {f"block {number}": kept[number] for number in range(layers)}
        return rungs | {f"block {layers}": last, "embedding": embedding, "logits": lm_head(embedding)}

    return jax.vmap(run)(tokens, sequence_id)


def run_ours(encoder: ESMC, case: Case) -> Rungs:
    """Every rung of a case, in float32 on the CPU."""
    rungs = climb(encoder, jnp.asarray(case.tokens), jnp.asarray(case.sequence_id))
    return {name: np.asarray(rung.astype(jnp.float32)) for name, rung in rungs.items()}
