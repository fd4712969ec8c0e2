"""Training against the torch original: forward and backward at equal shapes, and joint steps on real lengths.

    python -m benchmarks.train [--device cpu|gpu] [--quick]

A joint step changes encoder and head. Both sides have the same random weights, proteins, loss, clipping and AdamW, in
float32, and the loss of our first batch is compared. Ours is the pipeline and the step of `eqxesm train`; torch pads
batches in file order or by length, or takes proteins one by one. On a GPU the encoder computes in bfloat16.
"""

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import (
    ENCODERS,
    ORDERS,
    check_same,
    compare_shapes,
    compare_sides,
    draw_batch,
    draw_proteins,
    encoder_operations,
)
from benchmarks.measure import Row, Worker, parse_options, save, timed
from benchmarks.sides import PRECISION, Ours, Proteins, Torch, make_batches, write_models

HIDDEN = (512, 256, 128, 64)
LEARNING_RATE, WEIGHT_DECAY, CLIP = 1e-4, 0.01, 1.0
TOKENS_PER_BATCH = 2048
"""About as many proteins a step as torch's batch."""

EPOCHS = 20
"""More than are ever run: the schedule is constant."""


def write_joint(folder: Path, config: dict[str, Any]) -> None:
    """Write a random model, without dropout, as each side loads it."""
    import jax

    from eqxesm import ESMC, SolubilityModel
    from heads import MeanPoolMLP, MeanPoolMLPConfig

    write_models(folder, config)
    head = MeanPoolMLP(MeanPoolMLPConfig(config["d_model"], HIDDEN, dropout=0.0), key=jax.random.key(1))
    SolubilityModel(ESMC.from_pretrained(folder / "ours"), head).save_pretrained(folder / "model")


class OursJoint(Ours):
    """The steps of `eqxesm.training`, as its loop takes them."""

    def __init__(self, folder: Path, device: str, proteins: Proteins, labels: np.ndarray):
        import equinox as eqx
        import jax
        import jax.numpy as jnp

        from eqxesm import SolubilityModel
        from eqxesm.data.pipeline import Steps
        from eqxesm.training.config import TrainConfig
        from eqxesm.training.devices import make_mesh, shard
        from eqxesm.training.examples import Examples, choose_run_buckets
        from eqxesm.training.filters import prepare, trainable
        from eqxesm.training.optimiser import make_optimiser
        from eqxesm.training.step import init_state

        super().__init__(folder, device)
        self.config = TrainConfig(
            strategy="joint",
            compute_dtype=PRECISION[device],
            epochs=EPOCHS,
            tokens_per_batch=TOKENS_PER_BATCH,
            schedule="constant",
            warmup=0.0,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            clip=CLIP,
        )
        model = prepare(SolubilityModel.from_pretrained(folder / "model"), self.config)
        self.examples = Examples(proteins, labels)
        self.buckets = choose_run_buckets(model, self.config, {"training": self.examples})
        self.steps = Steps(self.examples.lengths, self.buckets, EPOCHS, 0)
        self.mesh = make_mesh()
        params, frozen = eqx.partition(model, trainable(model, "joint"))
        self.frozen, params = shard((frozen, jax.tree.map(jnp.copy, params)), self.mesh)
        self.optimiser = make_optimiser(self.config, len(self.steps), params)
        self.state = shard(init_state(params, self.optimiser, self.config), self.mesh)
        self.batches = self._start(self.steps)

    def _start(self, steps: Any) -> Any:
        from eqxesm.data.pipeline import ProcessRows, make_batches

        labels, own = self.examples.labels, ProcessRows.of(self.mesh)
        return iter(make_batches(steps, self.buckets, self.examples.collate, labels, own=own))

    def _take(self, batches: Any, count: int) -> list[float]:
        """Take steps; the loss of one is read once the next has been sent to the device."""
        from eqxesm.training.devices import shard_batch
        from eqxesm.training.step import StepInputs, train_step

        waiting: list[Any] = []
        losses = []
        for number in range(count):
            batch = next(batches)
            given = StepInputs(
                self.frozen,
                shard_batch(batch.inputs, self.mesh),
                *shard_batch((batch.labels, batch.weights), self.mesh),
                np.array(number, np.int32),
            )
            self.state, measured = train_step(given, self.state, self.optimiser, self.config, self.mesh)
            losses += [float(each.loss) for each in waiting]
            waiting = [measured]
        return losses + [float(each.loss) for each in waiting]

    def prepare_steps(self) -> dict[str, Any]:
        """Take a step of every shape, so that all are compiled; the proteins and the loss of the first."""
        planned = [self.steps[number] for number in range(self.steps.per_epoch)]
        steps = list({step[0]: step for step in planned}.values())
        start = time.perf_counter()
        losses = self._take(self._start(steps), len(steps))
        return {
            "indices": steps[0][1],
            "value": losses[0],
            "compile_s": time.perf_counter() - start,
            "padding": self.buckets.padding(self.examples.lengths),
        }

    def run(self) -> float:
        """Take the steps of an epoch."""
        return timed(self._take, self.batches, self.steps.per_epoch)


class TorchJoint(Torch):
    """The loop of a tutorial."""

    def __init__(self, folder: Path, device: str, proteins: Proteins, labels: np.ndarray, order: str):
        import torch
        from safetensors.torch import load_file
        from torch import nn

        super().__init__(folder, device)
        self.module.float().train()
        self.autocast = torch.autocast(self.device, torch.bfloat16, enabled=device == "gpu")
        width = self.module.config.hidden_size
        linears = [nn.Linear(*sizes) for sizes in pairwise((width, *HIDDEN, 1))]
        ours = load_file(folder / "model" / "model.safetensors")
        for number, linear in enumerate(linears):
            prefix = f"head.mlp.layers.{number}."
            linear.load_state_dict({name: ours[prefix + name] for name in ("weight", "bias")})
        self.head = nn.Sequential(*[module for linear in linears for module in (linear, nn.ReLU())][:-1])
        self.head.to(self.device)
        self.parameters = [*self.module.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.proteins, self.batches = proteins, make_batches(proteins, order)
        self.labels = torch.tensor(labels, dtype=torch.float32, device=self.device)

    def _gradient(self, indices: np.ndarray) -> float:
        """The loss of a batch, and the clipped gradient."""
        import torch

        with self.autocast:
            pooled = self.pool([self.proteins[i] for i in indices])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self.head(pooled).squeeze(-1), self.labels[indices])
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        return loss.item()

    def prepare_steps(self, indices: np.ndarray) -> dict[str, float]:
        """The loss of some proteins."""
        return {"value": self._gradient(indices)}

    def run(self) -> float:
        """Train on all proteins once."""

        def train() -> None:
            for indices in self.batches:
                self._gradient(indices)
                self.optimiser.step()

        return self._timed(train)


def compare_joint(folder: Path, size: str, count: int, device: str, rounds: int) -> list[Row]:
    """An epoch of joint steps on each side, torch in each of its three ways."""
    write_joint(folder, ENCODERS[size])
    proteins = draw_proteins(count)
    labels = np.arange(count) % 2
    case = f"joint step, {size}, {count} proteins"
    ours = Worker(OursJoint, folder, device, proteins, labels)
    started = ours.ask("prepare_steps")
    others = {}
    for order in ORDERS:
        worker = others[f"sdpa, {order}"] = Worker(TorchJoint, folder, device, proteins, labels, order)
        check_same(f"{case}, {order}", device, started, worker.ask("prepare_steps", started["indices"]))
    operations = 3 * encoder_operations(ENCODERS[size], [len(each) for each in proteins])
    return compare_sides(case, ours, started, others, operations, rounds)


def measure_long(folder: Path, size: str, device: str, length: int) -> list[Row]:
    """Our forward and backward pass for one long protein, the blocks computed again."""
    write_models(folder, ENCODERS[size])
    ours = Worker(Ours, folder, device)
    started = ours.ask("prepare", "gradient, remat", draw_batch(1, length))
    seconds = ours.ask("run")
    case = f"gradient with remat, {size}, 1x{length}"
    return [Row(case, seconds, compile_s=started["compile_s"], peak_memory_mb=ours.close())]


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for size in ("12x240",) if options.quick else ("300M", "6x512"):
            folder = Path(name) / size
            write_models(folder, ENCODERS[size])
            rows += compare_shapes(folder, size, "gradient", options, {"sdpa": [Torch]})
        size, count = ("12x240", 4) if options.quick else ("12x480", 96)
        rows += compare_joint(Path(name) / "joint", size, count, options.device, 3)
        rows += measure_long(Path(name) / "long", "12x240", options.device, 512 if options.quick else 8192)
    save("train", options, rows)


if __name__ == "__main__":
    main()
