"""Memory per device for joint training, on paper: from shapes alone, nothing is allocated.

    python benchmarks/memory_plan.py --out benchmarks/results/memory_plan.json

Parameters, gradients and the state of AdamW are float32 and split as `eqxesm.training.devices`
splits them. Activations are a closed form, an estimate: for a small model on the CPU it is within
3% of what XLA plans, as the tests check. Fragmentation and buffers of communication come on top.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from eqxesm import ESMC, ESMCConfig, SolubilityModel
from eqxesm.encoders import PRESETS
from eqxesm.encoders.attention import LONG, QUERIES
from eqxesm.training.config import TrainConfig
from eqxesm.training.devices import partition_spec
from eqxesm.training.filters import prepare, trainable
from eqxesm.training.optimiser import make_optimiser
from eqxesm.training.step import TrainState, init_state
from heads import MeanPoolMLP, MeanPoolMLPConfig

SIZES = ("esmc_600m", "esmc_6b")
DEVICES = (1, 8, 64)
DTYPES = ("float32", "bfloat16")
ROWS, LENGTH = 16, 1024
"""Proteins on every device and their padded length: the default of 16,384 tokens."""

DEVICE_BYTES = 80e9

COLUMNS = ("parameters", "gradients", "optimiser", "copy", "block", "activations", "total")


@dataclass(frozen=True)
class Plan:
    """Bytes on one device.

    `average` is what `ema` adds, and no part of the total. `copy` is the encoder in the precision of the computation,
    and its gradient, where that is not float32. `block` is the one block that is gathered, and its gradient before
    that is scattered.
    """

    parameters: float
    gradients: float
    optimiser: float
    average: float
    copy: float
    block: float
    activations: float

    @property
    def total(self) -> float:
        """Bytes without an average."""
        return sum(asdict(self).values()) - self.average


def train_shapes(config: ESMCConfig) -> tuple[TrainState, PyTree]:
    """Shapes of what a step changes, the average included, and of what it only reads."""
    recipe = TrainConfig(ema=0.999)

    def make() -> tuple[TrainState, PyTree]:
        key = jax.random.key(0)
        head = MeanPoolMLP(MeanPoolMLPConfig(config.d_model), key=key)
        model = prepare(SolubilityModel(ESMC(config, key=key), head), recipe)
        params, frozen = eqx.partition(model, trainable(model, recipe.strategy))
        state = init_state(params, make_optimiser(recipe, 1000, params), recipe)
        return state, eqx.filter(frozen, eqx.is_array)

    return eqx.filter_eval_shape(make)


def split_bytes(tree: PyTree, devices: int, itemsize: int | None = None) -> float:
    """Bytes on one device of arrays that are split as in training; one that does not divide counts whole.

    `itemsize` are the bytes of a number, where they are not those of the arrays.
    """
    total = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        split = any(axis is not None for axis in partition_spec(path, leaf, devices))
        size = leaf.size * (itemsize or leaf.dtype.itemsize)
        total += size / devices if split else size
    return total


def activation_bytes(config: ESMCConfig, rows: int, length: int, itemsize: int, remat: bool) -> float:
    """Bytes of the scan over the blocks in the backward pass.

    For every token all blocks keep their input, and unless it is recomputed five more vectors of `d_model` (query, key,
    value, what attention puts out, and its projection) and two of `d_ffn` (gate and up). What the block that is worked
    on holds at most was fitted to what XLA plans: in attention 18.5 vectors of `d_model`, 12 of them float32 whatever
    the precision, and 1.63 float32 rows of scores for every head, or in the feed-forward network 8 of `d_model` and 7
    of `d_ffn`; if the block is recomputed, 17.9, 1.04 and 6.15 of `d_ffn` together.
    """
    scores = 4 * config.heads * (QUERIES if length >= LONG else length)
    if remat:
        kept = itemsize * config.d_model
        worked_on = (5.9 * itemsize + 48) * config.d_model + 1.04 * scores + 6.15 * itemsize * config.d_ffn
    else:
        kept = itemsize * (6 * config.d_model + 2 * config.d_ffn)
        attention = (6.5 * itemsize + 48) * config.d_model + 1.63 * scores
        worked_on = max(attention, itemsize * (8 * config.d_model + 7 * config.d_ffn))
    return rows * length * (config.layers * kept + worked_on)


def make_plan(
    config: ESMCConfig, devices: int, dtype: str, remat: bool, rows: int = ROWS, length: int = LENGTH
) -> Plan:
    """Plan one configuration, with `rows` proteins of `length` tokens on every device."""
    state, frozen = train_shapes(config)
    itemsize = jnp.dtype(dtype).itemsize
    encoder = split_bytes(state.params.encoder, devices, itemsize)
    block = sum(leaf.size // config.layers for leaf in jax.tree.leaves(state.params.encoder.blocks))
    parameters = split_bytes(state.params, devices)
    return Plan(
        parameters=parameters + split_bytes(frozen, devices),
        gradients=parameters,
        optimiser=split_bytes(state.optimiser, devices),
        average=split_bytes(state.average, devices),
        copy=0.0 if itemsize == 4 else 2 * encoder,
        block=0.0 if devices == 1 else 2.0 * block * itemsize,
        activations=activation_bytes(config, rows, length, itemsize, remat),
    )


def rows_of_table() -> list[dict[str, Any]]:
    """Plan all configurations."""
    result = []
    for size in SIZES:
        for devices in DEVICES:
            for dtype in DTYPES:
                for remat in (False, True):
                    plan = make_plan(PRESETS[size], devices, dtype, remat)
                    about = {"size": size, "devices": devices, "dtype": dtype, "remat": remat}
                    figures = {**asdict(plan), "total": plan.total, "fits": plan.total <= DEVICE_BYTES}
                    result.append({**about, **figures})
    return result


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"GiB on each device for joint training, {ROWS} proteins of {LENGTH} tokens on every device")
    print(f"{'':36}" + "".join(f"{name:>12}" for name in COLUMNS) + f"{f'{DEVICE_BYTES / 1e9:g} GB':>8}")
    for row in rows:
        remat = "recomputed" if row["remat"] else "kept"
        about = f"{row['size']:10}{row['devices']:>3} {row['dtype']:9} {remat:12}"
        figures = "".join(f"{row[name] / 2**30:>12.2f}" for name in COLUMNS)
        print(f"{about:36}{figures}{'fits' if row['fits'] else 'no':>8}")
    print(__doc__.split("\n\n")[2].strip())


def main() -> None:
    """Plan, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    rows = rows_of_table()
    show(rows)
    if options.out:
        result = {
            "unit": "bytes on each device",
            "activations": "a closed form: an estimate",
            "rows": ROWS,
            "length": LENGTH,
            "room": DEVICE_BYTES,
            "plans": rows,
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
