"""The loop of training: an epoch of steps, a look at the other sets, the best kept."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float, Int, PyTree
from tqdm import tqdm

from eqxesm.data.bucketing import Layout
from eqxesm.data.pipeline import Steps, as_share, pipeline
from eqxesm.errors import InputError
from eqxesm.solubility import SolubilityModel
from eqxesm.training.config import TrainConfig
from eqxesm.training.devices import is_first, make_mesh, place, place_batch
from eqxesm.training.examples import Examples, Fed, choose_shapes, class_weights, feed
from eqxesm.training.optimiser import make_optimiser, make_schedule
from eqxesm.training.partition import prepare, trainable
from eqxesm.training.step import (
    Fixed,
    Measured,
    TrainState,
    init_state,
    score_step,
    train_step,
    whole_number,
)
from eqxesm.training.store import Epoch, Progress, Scores, Store


@dataclass(frozen=True)
class _Setup:
    """What stays the same through a run."""

    config: TrainConfig
    mesh: Mesh
    layout: Layout
    fed: Mapping[str, Fed]
    steps: Steps
    frozen: PyTree
    optimiser: optax.GradientTransformation
    schedule: optax.Schedule
    progress: bool


def fit(
    model: SolubilityModel,
    training: Examples,
    validation: Examples,
    config: TrainConfig,
    *,
    tests: Mapping[str, Examples] | None = None,
    store: Store | None = None,
    cache: Path | None = None,
    report: Callable[[Epoch], None] | None = None,
    progress: bool = False,
) -> tuple[SolubilityModel, list[Epoch]]:
    """Train a model as its recipe says, and keep the best by validation loss.

    On one device the same arguments give the same parameters to the bit, and so does a run that
    was killed and goes on from its store. Every device that JAX sees takes part; with several
    processes, each calls this with the same arguments.

    Args:
        model: where to start.
        training: proteins to learn from.
        validation: proteins to stop by, of other families.
        config: the recipe.
        tests: further sets that are scored after every epoch and decide nothing.
        store: where the run is kept, so that it can go on; None keeps nothing.
        cache: folder for the features of a frozen encoder; None keeps them in memory.
        report: called after every epoch, in the first process.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        The best model, with the adapters that it got, and all epochs.

    Raises:
        InputError: the loss became infinite or no number, or a batch does not fit the memory.
    """
    sets = {"training": training, "validation": validation, **(tests or {})}
    setup, state = _set_up(model, sets, config, cache, progress)
    kept = store.load(state) if store else None
    run = Progress()
    if kept is not None:
        state, run = place(kept[0], setup.mesh), kept[1]
    best = state.validated
    batches = _training_batches(setup, run.step)
    while not run.done:
        started = time.monotonic()
        state, run = _train_epoch(setup, state, run, batches, store)
        scores = {
            name: measure(
                score_set(state.validated, setup.frozen, fed, setup.layout, config, setup.mesh),
                fed.examples.labels,
            )
            for name, fed in setup.fed.items()
            if name != "training"
        }
        epoch = Epoch(
            number=len(run.epochs) + 1,
            step=run.step,
            training=run.training,
            validation=scores.pop("validation"),
            tests=scores,
            learning_rate=np.asarray(setup.schedule(run.step // config.accumulate)).item(),
            gradient_norm=run.norm / setup.steps.per_epoch,
            seconds=time.monotonic() - started,
        )
        run = run.add_epoch(epoch, config.patience, last=run.step == len(setup.steps))
        improved = run.best_number == epoch.number
        if store:
            if improved:
                store.keep(eqx.combine(state.validated, setup.frozen), setup.mesh)
            store.save(state, run, setup.mesh)
        elif improved:
            # A copy, since the next step reuses the state's memory.
            best = jax.tree.map(jnp.copy, state.validated)
        if report is not None and is_first():
            report(epoch)
    trained = store.best() if store else eqx.combine(best, setup.frozen)
    return trained, list(run.epochs)


def _set_up(
    model: SolubilityModel,
    sets: Mapping[str, Examples],
    config: TrainConfig,
    cache: Path | None,
    progress: bool,
) -> tuple[_Setup, TrainState]:
    mesh = make_mesh()
    model = prepare(model, config)
    fed = {
        name: feed(model, examples, config, cache, progress=progress)
        for name, examples in sets.items()
    }
    layout = choose_shapes(model, config, sets)
    steps = Steps(sets["training"].lengths, layout, config.epochs, config.seed)
    params, frozen = eqx.partition(model, trainable(model, config.strategy))
    # A copy, since the steps reuse the memory of what they change.
    params, frozen = place(jax.tree.map(jnp.copy, params), mesh), place(frozen, mesh)
    optimiser = make_optimiser(config, len(steps), params)
    schedule = make_schedule(config, len(steps) // config.accumulate)
    setup = _Setup(config, mesh, layout, fed, steps, frozen, optimiser, schedule, progress)
    return setup, place(init_state(params, optimiser, config), mesh)


def _training_batches(setup: _Setup, step: int) -> Iterator[Any]:
    fed = setup.fed["training"]
    weights = class_weights(setup.config, fed.examples.labels)
    batches = iter(
        pipeline(
            setup.steps,
            setup.layout,
            fed.collate,
            fed.examples.labels,
            weights,
            as_share(setup.mesh),
        )
    )
    batches.set_state({"next_index": step})
    return batches


def _train_epoch(
    setup: _Setup, state: TrainState, run: Progress, batches: Iterator[Any], store: Store | None
) -> tuple[TrainState, Progress]:
    """Take the steps that are left of an epoch."""
    config, mesh, per_epoch = setup.config, setup.mesh, setup.steps.per_epoch
    number = len(run.epochs) + 1
    waiting = None
    with tqdm(
        total=per_epoch,
        initial=run.step % per_epoch,
        unit=" steps",
        desc=f"epoch {number}",
        leave=False,
        disable=None if setup.progress and is_first() else True,
    ) as bar:
        while run.step < number * per_epoch:
            length, indices = setup.steps[run.step]
            batch = next(batches)
            fixed = Fixed(
                setup.frozen,
                place_batch(batch.inputs, mesh),
                *place_batch((batch.labels, batch.weights), mesh),
                whole_number(run.step),
            )
            try:
                with jax.set_mesh(mesh):
                    state, measured = train_step(fixed, state, setup.optimiser, config, mesh)
                # One step behind, so that the devices never wait for this process.
                run = _count(setup, run, waiting, bar)
            except jax.errors.JaxRuntimeError as error:
                raise _explain(error, length, setup.layout, config) from error
            run, waiting = run.add_step(), (run.step, indices, measured)
            if store and run.step % config.checkpoint_steps == 0 and run.step % per_epoch:
                run, waiting = _count(setup, run, waiting, bar), None
                store.save(state, run, mesh)
        return state, _count(setup, run, waiting, bar)


def _count(
    setup: _Setup,
    run: Progress,
    waiting: tuple[int, Int[np.ndarray, " _"], Measured] | None,
    bar: tqdm,
) -> Progress:
    """Add up what a step measured, and stop the run if it was no number."""
    if waiting is None:
        return run
    step, indices, measured = waiting
    loss, correct, norm = float(measured.loss), int(measured.correct), float(measured.norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        examples = setup.fed["training"].examples
        names = ", ".join(examples.name(int(index)) for index in indices[:8])
        more = f" and {len(indices) - 8} more" if len(indices) > 8 else ""
        raise InputError(
            f"step {step + 1}: the loss is {loss} and its gradient's norm {norm}: lower "
            f"learning_rate, or look at the batch: {names}{more}; the best model so far is kept"
        )
    run = run.add_measured(loss, correct, len(indices), norm)
    bar.set_postfix(
        loss=f"{run.training.loss:.4f}", accuracy=f"{run.training.accuracy:.3f}", refresh=False
    )
    bar.update()
    return run


def _explain(
    error: jax.errors.JaxRuntimeError, length: int, layout: Layout, config: TrainConfig
) -> Exception:
    """Say what to lower when a batch does not fit, and leave other errors as they are."""
    if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
        return error
    return InputError(
        f"a batch of {layout.rows(length)} proteins of {length} tokens does not fit the memory: "
        f"lower training.tokens_per_batch (now {config.tokens_per_batch}) or data.max_residues, or "
        "set training.remat = true"
    )


def score_set(
    params: PyTree, frozen: PyTree, fed: Fed, layout: Layout, config: TrainConfig, mesh: Mesh
) -> Float[np.ndarray, " n"]:
    """Score every protein of a set; every process has to take part.

    Args:
        params: the trained part of the model, on the devices.
        frozen: the rest of it.
        fed: the set.
        layout: shapes of the batches.
        config: the recipe, whose precision is computed in.
        mesh: the devices.

    Returns:
        Logits before calibration, float32 `[n]`.

    Raises:
        InputError: a logit is no number, or a batch does not fit the memory.
    """
    scores = np.zeros(len(fed.examples.labels), np.float32)
    steps = Steps(fed.examples.lengths, layout, 1, None)
    batches = pipeline(steps, layout, fed.collate, fed.examples.labels, share=as_share(mesh))
    for number, batch in enumerate(batches):
        length, indices = steps[number]
        try:
            inputs = place_batch(batch.inputs, mesh)
            with jax.set_mesh(mesh):
                output = score_step(params, frozen, inputs, config, mesh)
            scores[indices] = np.asarray(output)[: len(indices)]
        except jax.errors.JaxRuntimeError as error:
            raise _explain(error, length, layout, config) from error
    if not np.isfinite(scores).all():
        raise InputError("a score is no number: lower training.learning_rate")
    return scores


def measure(logits: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> Scores:
    """Take loss and accuracy.

    Args:
        logits: scores.
        labels: 1 for soluble, 0 for insoluble.

    Returns:
        Both.
    """
    return Scores(cross_entropy(logits, labels), float(((logits > 0) == labels).mean()))


def cross_entropy(logits: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Average the binary cross-entropy.

    Args:
        logits: scores.
        labels: 1 for soluble, 0 for insoluble.

    Returns:
        The mean, in nats.
    """
    signs = 1.0 - 2.0 * labels
    return float(np.logaddexp(0.0, signs * logits.astype(np.float64)).mean())
