"""The training loop: an epoch of steps, a look at the other sets, the best model kept."""

import dataclasses
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

from eqxesm.data.batching import Buckets
from eqxesm.data.pipeline import ProcessRows, Steps, make_batches
from eqxesm.errors import InputError
from eqxesm.protein_model import ProteinModel
from eqxesm.training.config import TrainConfig
from eqxesm.training.devices import is_first, make_mesh, shard, shard_batch
from eqxesm.training.examples import Examples, InputSet, add_vectors, choose_run_buckets, class_weights, prepare_inputs
from eqxesm.training.features import FrozenFeatures
from eqxesm.training.filters import Model, prepare, trainable
from eqxesm.training.objective import Objective, choose_objective
from eqxesm.training.optimiser import make_optimiser, make_schedule
from eqxesm.training.state import Epoch, Progress, RunState, Scores
from eqxesm.training.step import StepInputs, StepMetrics, TrainState, init_state, score_step, train_step


@dataclass(frozen=True)
class _Setup:
    """What stays the same through a run."""

    config: TrainConfig
    objective: Objective
    mesh: Mesh
    buckets: Buckets
    sets: Mapping[str, InputSet]
    steps: Steps
    frozen: PyTree
    optimiser: optax.GradientTransformation
    schedule: optax.Schedule
    progress: bool


def fit(
    model: Model,
    training: Examples,
    validation: Examples,
    config: TrainConfig,
    *,
    tests: Mapping[str, Examples] | None = None,
    state: RunState | None = None,
    cache: Path | None = None,
    features: FrozenFeatures | None = None,
    report: Callable[[Epoch], None] | None = None,
    progress: bool = False,
) -> tuple[Model, list[Epoch]]:
    """Train a model, and return the best one by validation loss, with all epochs.

    On one device the same arguments give the same parameters to the bit, and so does a run that was
    killed and goes on from `state`. Every device that JAX sees takes part; with several processes,
    each calls this with the same arguments. Provenance stays that of `model`.

    Args:
        validation: proteins to stop by; they should be of other families.
        tests: further sets that are scored after every epoch and decide nothing.
        state: where the run is kept, so that it can go on.
        cache: folder for the features of a frozen encoder.
        features: those of all proteins, if they are known; see `compute_features`.
        report: called after every epoch, in the first process.
        progress: show bars on standard error, if that is a terminal.
    """
    if tests and (taken := {"training", "validation"} & tests.keys()):
        raise InputError(f"tests has the name {min(taken)!r}, which stands for another set. Choose another.")
    sets = {"training": training, "validation": validation, **(tests or {})}
    model = model.without_fit()
    about = dataclasses.replace(model.about, record=None)
    setup, now = _set_up(model, sets, config, cache, features, progress)
    kept = state.load(now) if state else None
    run = Progress()
    if kept is not None:
        now, run = shard(kept[0], setup.mesh), kept[1]
        if not 0 <= run.step <= len(setup.steps):
            raise InputError(f"damaged run: it is at step {run.step} of {len(setup.steps)}. Choose another folder.")
    best = now.validated
    batches = _training_batches(setup, run.step)
    while not run.done:
        started = time.monotonic()
        now, run = _train_epoch(setup, now, run, batches, state)
        scores = _score_other_sets(setup, now.validated)
        epoch = Epoch(
            number=len(run.epochs) + 1,
            step=run.step,
            training=run.training if scores["validation"].accuracy is not None else Scores(run.training.loss),
            validation=scores["validation"],
            tests={name: each for name, each in scores.items() if name != "validation"},
            learning_rate=np.asarray(setup.schedule(run.step // config.accumulate)).item(),
            gradient_norm=run.norm / setup.steps.per_epoch,
            seconds=time.monotonic() - started,
        )
        run = run.add_epoch(epoch, config.patience, last=run.step == len(setup.steps))
        improved = run.best_number == epoch.number
        if state:
            if improved:
                state.keep(eqx.combine(now.validated, setup.frozen), about, setup.mesh)
            state.save(now, run, setup.mesh)
        elif improved:
            # A copy, since the next step reuses the memory.
            best = jax.tree.map(jnp.copy, now.validated)
        if report is not None and is_first():
            report(epoch)
    trained = type(model).from_pretrained(state.model) if state else eqx.combine(best, setup.frozen)
    # On the devices calibration and limits were float32 and int32. These are exact.
    trained = model.with_parts(trained.encoder, trained.head, about)
    return trained, list(run.epochs)


def _set_up(
    model: ProteinModel,
    sets: Mapping[str, Examples],
    config: TrainConfig,
    cache: Path | None,
    features: FrozenFeatures | None,
    progress: bool,
) -> tuple[_Setup, TrainState]:
    mesh = make_mesh()
    objective = choose_objective(model, config.label_smoothing)
    for examples in sets.values():
        objective.check(examples.labels)
    model = prepare(model, config)
    inputs = {
        name: prepare_inputs(model, examples, config, cache, features, progress=progress)
        for name, examples in sets.items()
    }
    own = inputs["training"].features
    head: Any = model.head
    if own is not None and head.wants_standardising:
        model = eqx.tree_at(lambda model: model.head, model, head.standardise(own.rows[own.places[:, 0]]))
    if config.vectors:
        inputs["training"] = add_vectors(sets["training"], config.vectors)
    examples = {name: each.examples for name, each in inputs.items()}
    buckets = choose_run_buckets(model, config, examples)
    steps = Steps(examples["training"].lengths, buckets, config.epochs, config.seed)
    params, frozen = eqx.partition(model, trainable(model, config.strategy))
    # A copy, since the steps reuse the memory of what they change.
    params, frozen = shard(jax.tree.map(jnp.copy, params), mesh), shard(frozen, mesh)
    optimiser = make_optimiser(config, len(steps), params)
    schedule = make_schedule(config, len(steps) // config.accumulate)
    setup = _Setup(config, objective, mesh, buckets, inputs, steps, frozen, optimiser, schedule, progress)
    return setup, shard(init_state(params, optimiser, config), mesh)


def _training_batches(setup: _Setup, step: int) -> Iterator[Any]:
    training = setup.sets["training"]
    labels = training.examples.labels
    weights = class_weights(setup.config, labels)
    own = ProcessRows.of(setup.mesh)
    batches = iter(make_batches(setup.steps, setup.buckets, training.collate, labels, weights, own, setup.config.seed))
    batches.set_state({"next_index": step})
    return batches


def _train_epoch(
    setup: _Setup, now: TrainState, run: Progress, batches: Iterator[Any], state: RunState | None
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
            given = StepInputs(
                setup.frozen,
                shard_batch(batch.inputs, mesh),
                *shard_batch((batch.labels, batch.weights), mesh),
                # An array, since a number would be compiled in.
                np.array(run.step, np.int32),
            )
            try:
                with jax.set_mesh(mesh):
                    now, metrics = train_step(given, now, setup.optimiser, config, mesh)
                # Read one step late, so that the devices never wait for this process.
                run = _add_metrics(setup, run, waiting, bar)
            except jax.errors.JaxRuntimeError as error:
                raise _explain(error, length, setup.buckets, config) from error
            run, waiting = run.add_step(), (run.step, indices, metrics)
            if state and run.step % config.checkpoint_steps == 0 and run.step % per_epoch:
                run, waiting = _add_metrics(setup, run, waiting, bar), None
                state.save(now, run, mesh)
        return now, _add_metrics(setup, run, waiting, bar)


def _add_metrics(
    setup: _Setup, run: Progress, waiting: tuple[int, Int[np.ndarray, " _"], StepMetrics] | None, bar: tqdm
) -> Progress:
    """Add up what a step measured, and stop the run if it diverged."""
    if waiting is None:
        return run
    step, indices, metrics = waiting
    loss, correct, norm = float(metrics.loss), int(metrics.correct), float(metrics.norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        examples = setup.sets["training"].examples
        names = ", ".join(examples.name(int(index)) for index in indices[:8])
        more = f" and {len(indices) - 8} more" if len(indices) > 8 else ""
        raise InputError(
            f"training diverged at step {step + 1}: loss {loss}, gradient norm {norm}. Try a lower "
            f"training.learning_rate, or look at the batch: {names}{more}. The best model is kept."
        )
    run = run.add_metrics(loss, correct, len(indices), norm)
    bar.set_postfix(loss=f"{run.training.loss:.4f}", refresh=False)
    bar.update()
    return run


def _explain(error: jax.errors.JaxRuntimeError, length: int, buckets: Buckets, config: TrainConfig) -> Exception:
    """Say what to lower when a batch does not fit the memory; leave other errors as they are."""
    if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
        return error
    return InputError(
        f"out of memory: a batch of {buckets.rows(length)} proteins of {length} tokens. Lower "
        f"training.tokens_per_batch (now {config.tokens_per_batch}) or data.max_residues, or set "
        "training.remat = true."
    )


def _score_other_sets(setup: _Setup, params: PyTree) -> dict[str, Scores]:
    scores = {}
    for name, inputs in setup.sets.items():
        if name != "training":
            logits = score_set(params, setup.frozen, inputs, setup.buckets, setup.config, setup.mesh)
            scores[name] = setup.objective.score(logits, inputs.examples.labels)
    return scores


def score_set(
    params: PyTree, frozen: PyTree, inputs: InputSet, buckets: Buckets, config: TrainConfig, mesh: Mesh
) -> Float[np.ndarray, "n ..."]:
    """Logits of every protein of a set, or of every position up to the longest. Every process has to take part."""
    labels = inputs.examples.labels
    scores: Any = None
    steps = Steps(inputs.examples.lengths, buckets, 1, None)
    batches = make_batches(steps, buckets, inputs.collate, labels, own=ProcessRows.of(mesh))
    for number, batch in enumerate(batches):
        length, indices = steps[number]
        try:
            rows = shard_batch(batch.inputs, mesh)
            with jax.set_mesh(mesh):
                output = score_step(params, frozen, rows, config, mesh)
            found = np.asarray(output)[: len(indices)]
            if scores is None:
                places = labels.shape[1:2] if labels.ndim == 3 else ()
                scores = np.zeros((len(labels), *places, *found.shape[1 + len(places) :]), np.float32)
            if labels.ndim == 3:
                own = min(length, labels.shape[1])
                scores[indices, :own] = found[:, :own]
            else:
                scores[indices] = found
        except jax.errors.JaxRuntimeError as error:
            raise _explain(error, length, buckets, config) from error
    if not np.isfinite(scores).all():
        raise InputError("training diverged: a logit is NaN. Try a lower training.learning_rate.")
    return scores
