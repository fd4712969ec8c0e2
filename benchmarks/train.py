"""Training against the torch original: forward and backward at equal shapes, and joint steps on real lengths.

    python -m benchmarks.train [--device cpu|gpu] [--quick]

A joint step changes encoder and head. Both sides have the same random weights, proteins, loss,
clipping and AdamW, in float32, and the loss of our first batch is compared. Ours is the pipeline and
the step of `eqxesm train`; torch pads batches in file order or by length, or takes proteins one by one.
"""

import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import (
    ENCODERS,
    ORDERS,
    check_same,
    compare_shapes,
    compare_turns,
    draw_proteins,
    encoder_operations,
)
from benchmarks.measure import Row, Worker, parse_options, save
from benchmarks.sides import BATCH, Ours, Proteins, Torch, write_models

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

    def __init__(self, folder: Path, proteins: Proteins, labels: np.ndarray):
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

        super().__init__(folder)
        self.config = TrainConfig(
            strategy="joint",
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
        start = time.perf_counter()
        self._take(self.batches, self.steps.per_epoch)
        return time.perf_counter() - start


class TorchJoint(Torch):
    """The loop of a tutorial."""

    def __init__(self, folder: Path, proteins: Proteins, labels: np.ndarray, device: str, order: str):
        import torch
        from safetensors.torch import load_file
        from torch import nn

        super().__init__(folder, device)
        width = self.model.config.hidden_size
        linears = [nn.Linear(*sizes) for sizes in pairwise((width, *HIDDEN, 1))]
        ours = load_file(folder / "model" / "model.safetensors")
        for number, linear in enumerate(linears):
            prefix = f"head.mlp.layers.{number}."
            linear.load_state_dict({name: ours[prefix + name] for name in ("weight", "bias")})
        self.head = nn.Sequential(*[module for linear in linears for module in (linear, nn.ReLU())][:-1])
        self.head.to(self.device)
        self.model.train()
        self.parameters = [*self.model.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.tokens = [torch.tensor(tokens, dtype=torch.long, device=self.device) for tokens in proteins]
        self.labels = torch.tensor(labels, dtype=torch.float32, device=self.device)
        numbers = np.arange(len(proteins))
        if order == "length-sorted":
            numbers = numbers[np.argsort([len(each) for each in proteins], kind="stable")]
        size = 1 if order == "one by one" else BATCH
        self.batches = [numbers[start : start + size] for start in range(0, len(numbers), size)]

    def _gradient(self, indices: np.ndarray) -> float:
        """The loss of a batch, and the clipped gradient."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        pad: Any = self.model.config.pad_token_id
        batch = pad_sequence([self.tokens[i] for i in indices], batch_first=True, padding_value=pad)
        features = self.model(batch, attention_mask=batch != pad).last_hidden_state
        residues = (batch > 3).unsqueeze(-1).float()
        logits = self.head((features * residues).sum(1) / residues.sum(1)).squeeze(-1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, self.labels[indices])
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
    operations = 3 * encoder_operations(ENCODERS[size], [len(each) for each in proteins])
    rows = []
    for order in ORDERS:
        ours = Worker(OursJoint, folder, proteins, labels)
        theirs = Worker(TorchJoint, folder, proteins, labels, device, order)
        case = f"joint step, {size}, {count} proteins, {order}"
        started = ours.ask("prepare_steps")
        check_same(case, started, theirs.ask("prepare_steps", started["indices"]))
        known = {name: started[name] for name in ("compile_s", "padding")}
        row = compare_turns(case, ours, theirs, operations, rounds, **known)
        print(f"{case}: torch's peak memory is {theirs.close():.0f} MB")
        rows.append(replace(row, peak_memory_mb=ours.close()))
    return rows


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__)
    rounds = 3 if options.quick else 7
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for size in ("12x240",) if options.quick else ("300M", "6x512"):
            folder = Path(name) / size
            write_models(folder, ENCODERS[size])
            rows += compare_shapes(folder, size, "gradient", options.device, rounds)
        size, count = ("12x240", 12) if options.quick else ("12x480", 64)
        rows += compare_joint(Path(name) / "joint", size, count, options.device, 3)
    save("train", options, rows)


if __name__ == "__main__":
    main()
