"""A training run in a process of its own: `training_program.py STRATEGY FOLDER|- [EPOCHS]`.

Prints the losses of every epoch as JSON, and after `ready` the hash of the parameters.
"""

import json
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

from training_sets import examples, tiny

from eqxesm.checkpoint.format import fingerprint
from eqxesm.training import Epoch, Store, TrainConfig, fit
from eqxesm.training.devices import start_processes


def main() -> None:
    strategy, folder, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    start_processes()
    config = TrainConfig(
        strategy=strategy, epochs=epochs, learning_rate=1e-3, tokens_per_batch=512, ema=0.9,
        patience=epochs, checkpoint_steps=3,
    )  # fmt: skip
    store = None if folder == "-" else Store(Path(folder))

    def report(epoch: Epoch) -> None:
        print(json.dumps([epoch.number, epoch.training.loss, epoch.validation.loss]), flush=True)

    # Dropout and a slow step: a run that is killed has to find its randomness again.
    if len(sys.argv) > 4:
        from eqxesm.training import loop

        step = loop.train_step

        def slow(*arguments):
            time.sleep(float(sys.argv[4]))
            return step(*arguments)

        loop.train_step = slow
    model, _ = fit(
        tiny(dropout=0.2),
        examples(100, 0, longest=38),
        examples(30, 1, longest=38),
        config,
        store=store,
        report=report,
    )
    print("ready", fingerprint(model), jax.device_count(), flush=True)


main()
