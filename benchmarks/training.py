"""Training on real proteins beside the same thing written plainly in torch with transformers.

    python benchmarks/training.py --data ../shared/data --out benchmarks/results/training.json

Both sides train one ESM-C (12 layers, width 480, 8 heads of 60) and one head on the mean over
residues, with the same random weights, proteins, loss, clipping and AdamW, in float32. Torch pads
the proteins in file order, as a tutorial does, in the faster of the usual batch sizes. Each side
runs in a process of its own, so that its peak memory is its own, and they take turns.
"""

import argparse
import csv
import json
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

# A framework is imported late: the process of a side shall hold its own one only.

ENCODER: dict[str, Any] = {"layers": 12, "d_model": 480, "heads": 8, "d_ffn": 1280}
HIDDEN = (512, 256, 128, 64)
RECIPE: dict[str, Any] = {"learning_rate": 1e-4, "weight_decay": 0.01, "clip": 1.0}
TOKENS_PER_BATCH = 1536
"""About as many proteins for a step of the optimiser as torch's smaller batch."""

BATCH_SIZES = (8, 16)
ALONE = 1
"""Torch's batch size without padding; on a CPU it is fast, and every protein takes a step."""

MOST_RESIDUES = 1022
ROUNDS = 3
FROZEN_EPOCHS = 5
SUBSET = 32
"""Proteins that torch's batch size is chosen by, and that its frozen epoch is measured on."""

BARS = {"joint": 1.2, "frozen": 1000.0}
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Task:
    """What both sides train on."""

    tokens: list[np.ndarray]
    labels: np.ndarray
    folder: Path
    """Where the weights are that both start from."""
    copies: int
    """How often the frozen epoch repeats the proteins to be as long as that of the whole pool."""

    @property
    def residues(self) -> int:
        """Number of residues in all proteins."""
        return sum(len(tokens) - 2 for tokens in self.tokens)


def read_task(data: Path, count: int, folder: Path) -> Task:
    """Draw proteins of the part of the pool that published weights train on, in file order."""
    from eqxesm import Tokenizer

    with open(data / "train_pool" / "pool.csv", newline="") as file:
        pool = [
            row for row in csv.DictReader(file) if row["license"] == "MIT" and len(row["sequences"]) <= MOST_RESIDUES
        ]
    drawn = np.sort(np.random.default_rng(0).permutation(len(pool))[:count])
    rows = [pool[index] for index in drawn]
    tokens = [Tokenizer().encode(row["sequences"]) for row in rows]
    labels = np.array([int(row["labels"]) for row in rows])
    return Task(tokens, labels, folder, max(1, round(len(pool) / len(rows))))


def write_weights(folder: Path) -> None:
    """Write a random model as each side loads it; without dropout, so that losses are the same."""
    import jax

    from conversion.export import export
    from eqxesm import ESMC, ESMCConfig, SolubilityModel
    from heads import MeanPoolMLP, MeanPoolMLPConfig

    encoder = ESMC(ESMCConfig(**ENCODER, lm_head=False), key=jax.random.key(0))
    config = MeanPoolMLPConfig(ENCODER["d_model"], HIDDEN, dropout=0.0)
    model = SolubilityModel(encoder, MeanPoolMLP(config, key=jax.random.key(1)))
    model.save_pretrained(folder / "ours")
    export(folder / "ours", "split", folder / "torch")


class Ours:
    """The steps of `eqxesm.training`, as its loop takes them."""

    def __init__(self, task: Task, strategy: Any):
        import equinox as eqx
        import jax
        import jax.numpy as jnp

        from eqxesm import SolubilityModel
        from eqxesm.data.pipeline import Steps
        from eqxesm.training.config import TrainConfig
        from eqxesm.training.devices import make_mesh, shard
        from eqxesm.training.examples import Examples, choose_run_buckets, prepare_inputs
        from eqxesm.training.filters import prepare, trainable
        from eqxesm.training.optimiser import make_optimiser
        from eqxesm.training.step import init_state

        joint = strategy == "joint"
        self.config = TrainConfig(
            strategy=strategy,
            epochs=ROUNDS if joint else FROZEN_EPOCHS,
            tokens_per_batch=TOKENS_PER_BATCH if joint else TrainConfig.tokens_per_batch,
            schedule="constant",
            warmup=0.0,
            **RECIPE,
        )
        model = prepare(SolubilityModel.from_pretrained(task.folder / "ours"), self.config)
        drawn = Examples(task.tokens, task.labels)
        inputs = prepare_inputs(model, drawn, self.config, task.folder / "features")
        self.collate = lambda indices, length: inputs.collate(indices % len(drawn.labels), length)
        copies = 1 if joint else task.copies
        self.examples = Examples(task.tokens * copies, np.tile(task.labels, copies))
        self.buckets = choose_run_buckets(model, self.config, {"training": self.examples})
        self.steps = Steps(self.examples.lengths, self.buckets, self.config.epochs, 0)
        self.mesh = make_mesh()
        params, frozen = eqx.partition(model, trainable(model, strategy))
        self.frozen, params = shard((frozen, jax.tree.map(jnp.copy, params)), self.mesh)
        self.optimiser = make_optimiser(self.config, len(self.steps), params)
        self.state = shard(init_state(params, self.optimiser, self.config), self.mesh)
        self.batches = self.start(self.steps)

    def start(self, steps: Any) -> Any:
        """Start the pipeline on planned steps."""
        from eqxesm.data.pipeline import ProcessRows, make_batches

        labels, own = self.examples.labels, ProcessRows.of(self.mesh)
        return iter(make_batches(steps, self.buckets, self.collate, labels, own=own))

    def take(self, batches: Any, count: int) -> list[tuple[float, float]]:
        """Take steps; what one measured is read once the next has been sent to the device."""
        from eqxesm.training.devices import shard_batch
        from eqxesm.training.step import StepInputs, train_step

        waiting: list[Any] = []
        read = []
        for number in range(count):
            batch = next(batches)
            given = StepInputs(
                self.frozen,
                shard_batch(batch.inputs, self.mesh),
                *shard_batch((batch.labels, batch.weights), self.mesh),
                np.array(number, np.int32),
            )
            self.state, measured = train_step(given, self.state, self.optimiser, self.config, self.mesh)
            read += [(float(each.loss), float(each.norm)) for each in waiting]
            waiting = [measured]
        return read + [(float(each.loss), float(each.norm)) for each in waiting]

    def warm_up(self) -> dict[str, Any]:
        """Take a step of every shape that will come, so that all of them are compiled."""
        start = time.perf_counter()
        planned = [self.steps[number] for number in range(len(self.steps))]
        steps = list({step[0]: step for step in planned}.values())
        first = self.take(self.start(steps), len(steps))[0]
        return {
            "indices": steps[0][1],
            "first": first,
            "shapes": len(steps),
            "warm_up_seconds": time.perf_counter() - start,
            "padding": self.buckets.padding(self.examples.lengths),
        }

    def epoch(self) -> dict[str, float]:
        """Take the steps of an epoch."""
        return timed(lambda: self.take(self.batches, self.steps.per_epoch))


class Torch:
    """The loop of a tutorial."""

    def __init__(self, task: Task, strategy: str, batch_size: int):
        import torch
        from everyday import cores
        from safetensors.torch import load_file
        from torch import nn
        from transformers import EsmcModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        torch.set_num_threads(cores())
        self.encoder = EsmcModel.from_pretrained(task.folder / "torch", attn_implementation="sdpa", dtype=torch.float32)
        linears = [nn.Linear(*sizes) for sizes in pairwise((ENCODER["d_model"], *HIDDEN, 1))]
        ours = load_file(task.folder / "ours" / "model.safetensors")
        for number, linear in enumerate(linears):
            prefix = f"head.mlp.layers.{number}."
            linear.load_state_dict({name: ours[prefix + name] for name in ("weight", "bias")})
        modules = [module for linear in linears for module in (linear, nn.ReLU())]
        self.head = nn.Sequential(*modules[:-1])
        self.frozen = strategy == "frozen"
        self.encoder.train(not self.frozen).requires_grad_(not self.frozen)
        both = [*self.encoder.parameters(), *self.head.parameters()]
        self.trained = [parameter for parameter in both if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self.trained, lr=RECIPE["learning_rate"], weight_decay=RECIPE["weight_decay"]
        )
        self.tokens = [torch.tensor(tokens, dtype=torch.long) for tokens in task.tokens]
        self.labels = torch.tensor(task.labels, dtype=torch.float32)
        self.batch_size = batch_size

    def pool(self, indices: np.ndarray) -> Any:
        """Average the features of a padded batch over residues."""
        from torch.nn.utils.rnn import pad_sequence

        tokens = pad_sequence([self.tokens[i] for i in indices], batch_first=True, padding_value=1)
        features = self.encoder(tokens, attention_mask=tokens != 1).last_hidden_state
        residues = (tokens > 3).unsqueeze(-1).float()
        return (features * residues).sum(1) / residues.sum(1)

    def gradient(self, indices: np.ndarray) -> tuple[float, float]:
        """Compute a batch's loss and gradient, and clip it."""
        import torch

        # A batch of kept features may be larger than one that the encoder is run on.
        size = self.batch_size if self.frozen else len(indices)
        with torch.set_grad_enabled(not self.frozen):
            parts = [self.pool(indices[i : i + size]) for i in range(0, len(indices), size)]
        logits = self.head(torch.cat(parts)).squeeze(-1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, self.labels[indices])
        self.optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, RECIPE["clip"])
        return loss.item(), norm.item()

    def batches(self, count: int) -> list[np.ndarray]:
        """Cut the first proteins into batches, in file order."""
        return [np.arange(i, min(i + self.batch_size, count)) for i in range(0, count, self.batch_size)]

    def epoch(self, count: int | None = None) -> dict[str, float]:
        """Train on the first proteins; on all by default."""

        def train() -> None:
            for indices in self.batches(count or len(self.tokens)):
                self.gradient(indices)
                self.optimiser.step()

        return timed(train)

    def padding(self) -> float:
        """Measure the share of padding in an epoch."""
        lengths = np.array([len(tokens) for tokens in self.tokens])
        batches = self.batches(len(lengths))
        return 1 - float(lengths.sum()) / sum(len(i) * int(lengths[i].max()) for i in batches)


def timed(function: Any) -> dict[str, float]:
    """Run a function; report its seconds, and those of all cores together."""
    start, cpu = time.perf_counter(), time.process_time()
    function()
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}


class Worker:
    """A side in a process of its own, which does one thing at a time."""

    def __init__(self, side: type, *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there, side, *arguments), daemon=True)
        self._process.start()
        there.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the side."""
        self._pipe.send((method, arguments))
        return self._pipe.recv()

    def close(self) -> int:
        """End the process; give the most memory that it ever held, in bytes."""
        peak = self.ask("peak")
        self._process.join()
        return peak


def serve(pipe: Any, side: type, *arguments: Any) -> None:
    """Answer what a `Worker` asks."""
    this = side(*arguments)
    while True:
        method, values = pipe.recv()
        if method == "peak":
            pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            return
        pipe.send(getattr(this, method)(*values))


def check_same(started: dict[str, Any], theirs: Worker, count: int) -> None:
    """Stop unless both sides have the same loss and gradient in our first batch."""
    other = theirs.ask("gradient", started["indices"] % count)
    for name, own, value in zip(("loss", "norm"), started["first"], other, strict=True):
        if not abs(own - value) <= TOLERANCE * max(1.0, abs(value)):
            raise SystemExit(f"the first batch's {name} is {own}, and {value} in torch")


def choose_batch_size(task: Task, started: dict[str, Any]) -> tuple[int, Worker, dict[int, float]]:
    """Try torch's batch sizes on some proteins; give the faster usual one and all speeds."""
    trial = min(SUBSET, len(task.tokens))
    workers, speeds = {}, {}
    for size in (ALONE, *BATCH_SIZES):
        workers[size] = Worker(Torch, task, "joint", size)
        check_same(started, workers[size], len(task.tokens))
        speeds[size] = trial / workers[size].ask("epoch", trial)["seconds"]
    best = max(BATCH_SIZES, key=lambda size: speeds[size])
    for size in {ALONE, *BATCH_SIZES} - {best}:
        workers[size].close()
    return best, workers[best], speeds


def measure_joint(task: Task) -> dict[str, Any]:
    """Let both sides train the encoder and the head, in turns."""
    ours = Worker(Ours, task, "joint")
    started = ours.ask("warm_up")
    batch_size, theirs, speeds = choose_batch_size(task, started)
    rounds = {ours: [], theirs: []}
    for number in range(ROUNDS):
        for worker in (ours, theirs) if number % 2 else (theirs, ours):
            rounds[worker].append(worker.ask("epoch"))

    def summary(worker: Worker) -> dict[str, Any]:
        seconds = [each["seconds"] for each in rounds[worker]]
        return {
            "proteins_per_second": len(task.tokens) / float(np.median(seconds)),
            "residues_per_second": task.residues / float(np.median(seconds)),
            "seconds": seconds,
            "cpu_seconds": [each["cpu_seconds"] for each in rounds[worker]],
        }

    own, other = summary(ours), summary(theirs)
    own |= {name: started[name] for name in ("padding", "shapes", "warm_up_seconds")}
    own |= {"tokens_per_batch": TOKENS_PER_BATCH, "peak_bytes": ours.close()}
    other |= {"padding": theirs.ask("padding"), "batch_size": batch_size}
    other |= {"trial_proteins_per_second": speeds, "peak_bytes": theirs.close()}
    ratios = [b / a for a, b in zip(own["seconds"], other["seconds"], strict=True)]
    ratio = float(np.median(ratios))
    return {"ours": own, "torch": other, "ratios": ratios, "ratio": ratio, "bar": BARS["joint"]}


def measure_frozen(task: Task, batch_size: int) -> dict[str, Any]:
    """Let both sides train the head: on kept features, and on features made anew every epoch."""
    ours, theirs = Worker(Ours, task, "frozen"), Worker(Torch, task, "frozen", batch_size)
    started = ours.ask("warm_up")
    check_same(started, theirs, len(task.tokens))
    epochs = [ours.ask("epoch")["seconds"] for _ in range(FROZEN_EPOCHS)]
    subset, count = min(SUBSET, len(task.tokens)), len(task.tokens) * task.copies
    measured = theirs.ask("epoch", subset)["seconds"]
    own, other = float(np.median(epochs)), measured * count / subset
    return {
        "proteins": count,
        "note": "the proteins over and over, to the size of the pool; torch scaled from fewer",
        "ours": {"epoch_seconds": own, "slowest_epoch_seconds": max(epochs), "peak_bytes": ours.close()},
        "torch": {
            "epoch_seconds": other,
            "measured_on_proteins": subset,
            "batch_size": batch_size,
            "peak_bytes": theirs.close(),
        },
        "ratio": other / own,
        "bar": BARS["frozen"],
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    joint, frozen = result["joint"], result["frozen"]
    print(f"{'':30}{'ours':>10}{'torch':>10}{'ratio':>10}{'bar':>8}")
    for title, part, name, form, scale in (
        ("joint, proteins a second", joint, "proteins_per_second", ".2f", 1),
        ("joint, residues a second", joint, "residues_per_second", ".0f", 1),
        ("joint, padding, %", joint, "padding", ".1f", 100),
        ("joint, peak memory, GB", joint, "peak_bytes", ".2f", 1e-9),
        ("frozen, seconds an epoch", frozen, "epoch_seconds", ".2f", 1),
        ("frozen, peak memory, GB", frozen, "peak_bytes", ".2f", 1e-9),
    ):
        ours, theirs = (format(part[side][name] * scale, form) for side in ("ours", "torch"))
        timing = name in ("proteins_per_second", "epoch_seconds")
        last = f"{part['ratio']:>10.4g}{part['bar']:>8g}" if timing else ""
        print(f"{title:30}{ours:>10}{theirs:>10}{last}")
    trials = joint["torch"]["trial_proteins_per_second"]
    told = ", ".join(f"{size}: {speed:.2f}" for size, speed in trials.items())
    print(f"torch, proteins a second by batch size, on some of them: {told}")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--proteins", type=int, default=64, help="how many to train on")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    from everyday import cores

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        task = read_task(options.data, options.proteins, Path(name))
        write_weights(task.folder)
        joint = measure_joint(task)
        frozen = measure_frozen(task, joint["torch"]["batch_size"])
    names = ("eqxesm", "jax", "equinox", "optax", "torch", "transformers", "numpy")
    result = {
        "encoder": ENCODER,
        "proteins": len(task.tokens),
        "residues": task.residues,
        "joint": joint,
        "frozen": frozen,
        "machine": f"{platform.machine()}, {cores()} CPU cores",
        "load_before": load,
        "versions": {name: version(name) for name in names},
        "date": time.strftime("%Y-%m-%d"),
    }
    show(result)
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
