"""Our side of a parity run: the encoder, taken from torch through dlpack, rung by rung."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from conversion.dlpack import to_jax
from conversion.layouts import Layout
from conversion.names import TABLE
from conversion.originals import Original, Rungs
from conversion.panel import Case
from eqxesm.checkpoint.format import fill
from eqxesm.encoders import ESMC, ESMCConfig


def bridge(original: Original, config: ESMCConfig) -> tuple[ESMC, int]:
    """Port an original through dlpack, on the device that it is on.

    Args:
        original: with its weights.
        config: its architecture.

    Returns:
        Our encoder, and how many tensors crossed; each of them shared its memory, or this fails.

    Raises:
        InputError: a tensor could not cross without a copy.
    """
    shared = {name: to_jax(tensor) for name, tensor in original.module.state_dict().items()}
    layout = Layout(original.layout)

    def leaf(ours: str) -> Array:
        row = next(row for row in TABLE if row.ours == ours)
        part = row.part(layout.name)
        rows = []
        for layer in range(config.layers if ours.startswith("blocks.") else 1):
            whole = shared[layout.tensor(row, layer)]
            height = whole.shape[0] // part.of
            rows.append(whole[part.index * height : (part.index + 1) * height])
        return jnp.stack(rows) if ours.startswith("blocks.") else rows[0]

    skeleton = eqx.filter_eval_shape(lambda: ESMC(config, key=jax.random.key(0)))
    return fill(skeleton, {row.ours: leaf(row.ours) for row in TABLE}), len(shared)


@eqx.filter_jit
def climb(
    encoder: ESMC, tokens: Int[Array, "batch length"], sequence_id: Int[Array, "batch length"]
) -> dict[str, Float[Array, "batch length _"]]:
    """Climb the ladder with ours; the counterpart of `Original.run`.

    Args:
        encoder: ours.
        tokens: a padded batch.
        sequence_id: chain of each position, -1 at padding.

    Returns:
        Every block's output, the embedding after the final norm, and the logits.
    """
    layers, lm_head = encoder.config.layers, encoder.lm_head
    if lm_head is None:
        raise ValueError("parity wants an encoder with its LM head")

    def run(
        tokens: Int[Array, " length"], sequence_id: Int[Array, " length"]
    ) -> dict[str, Float[Array, "length _"]]:
        last, kept = encoder.run_blocks(tokens, sequence_id, tuple(range(layers)), False)
        embedding = jax.vmap(encoder.norm)(last)
        rungs = {f"block {number}": kept[number] for number in range(layers)}
        return rungs | {
            f"block {layers}": last,
            "embedding": embedding,
            "logits": jax.vmap(lm_head)(embedding),
        }

    return jax.vmap(run)(tokens, sequence_id)


def run_ours(encoder: ESMC, case: Case) -> Rungs:
    """Run a case and bring what comes out to float32 on the CPU.

    Args:
        encoder: ours.
        case: the proteins.

    Returns:
        Rungs by name.
    """
    rungs = climb(encoder, jnp.asarray(case.tokens), jnp.asarray(case.sequence_id))
    return {name: np.asarray(rung.astype(jnp.float32)) for name, rung in rungs.items()}
