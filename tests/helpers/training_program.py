"""A training run in a process of its own: `training_program.py STRATEGY FOLDER|- EPOCHS [PAUSE]`.

It prints the losses of every epoch as JSON, and after `ready` the hash of the parameters. With PAUSE
it waits that many seconds before every step, so that there is time to kill it.
"""

import json
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

from checkpoints import parameters
from training_sets import examples, tiny

from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.training import Epoch, RunState, TrainConfig, fit, loop
from eqxesm.training.devices import start_processes


def pause_before_steps(seconds: float) -> None:
    step = loop.train_step

    def slow(*arguments):
        time.sleep(seconds)
        return step(*arguments)

    loop.train_step = slow


def report(epoch: Epoch) -> None:
    print(json.dumps([epoch.number, epoch.training.loss, epoch.validation.loss]), flush=True)


def main(strategy: str, folder: str, epochs: int, pause: float = 0) -> None:
    start_processes()
    config = TrainConfig(
        strategy=strategy,
        epochs=epochs,
        learning_rate=1e-3,
        tokens_per_batch=512,
        ema=0.9,
        patience=epochs,
        checkpoint_steps=3,
    )
    state = None if folder == "-" else RunState(Path(folder))
    if pause:
        pause_before_steps(pause)
    # With dropout, a run that was killed has to find its random numbers again.
    model = tiny(dropout=0.2)
    training, validation = examples(100, 0, longest=38), examples(30, 1, longest=38)
    model, _ = fit(model, training, validation, config, state=state, report=report)
    print("ready", fingerprint(parameters(model)), jax.device_count(), flush=True)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *map(float, sys.argv[4:]))
