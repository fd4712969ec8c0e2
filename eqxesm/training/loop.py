"""One step, and the loop around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.alphabet import AnyArray, pad
from eqxesm.data.bucketing import batches, rows_per_batch
from eqxesm.errors import InputError
from eqxesm.inference import map_proteins
from eqxesm.solubility import SolubilityModel
from eqxesm.training.config import TrainConfig


@dataclass(frozen=True)
class Examples:
    """Labelled proteins.

    Args:
        proteins: tokens of each, as `SolubilityModel.tokenize` gives them.
        labels: 1 for soluble, 0 for insoluble, one a protein.

    Raises:
        InputError: there are none, the labels are not as many, or one is neither 0 nor 1.
    """

    proteins: Sequence[Int[np.ndarray, " _"]]
    labels: Int[np.ndarray, " n"]

    def __post_init__(self):
        if not len(self.proteins) or len(self.proteins) != len(self.labels):
            raise InputError(
                f"{len(self.proteins)} proteins with {len(self.labels)} labels: "
                "training needs at least one, and a label each"
            )
        if not np.isin(self.labels, (0, 1)).all():
            raise InputError("a label is neither 0 nor 1: 1 is soluble, 0 insoluble")


@dataclass(frozen=True)
class Epoch:
    """What came of one pass over the training proteins.

    Attributes:
        number: from 1.
        training_loss: mean binary cross-entropy over the pass, with dropout.
        validation_loss: the same on the validation proteins after it, without.
    """

    number: int
    training_loss: float
    validation_loss: float


def fit(
    model: SolubilityModel,
    training: Examples,
    validation: Examples,
    config: TrainConfig,
    report: Callable[[Epoch], None] | None = None,
) -> tuple[SolubilityModel, list[Epoch]]:
    """Train every parameter of a model, and keep the best by validation loss.

    On one machine the same arguments give the same parameters to the bit.

    Args:
        model: where to start.
        training: proteins to learn from.
        validation: proteins to stop by, of other families.
        config: the recipe.
        report: called after every epoch.

    Returns:
        The best model, and all epochs.

    Raises:
        InputError: the loss became infinite or no number.
    """
    generator = np.random.default_rng(config.seed)
    key = jax.random.key(config.seed)
    lengths = [len(tokens) for tokens in training.proteins]
    steps = config.epochs * len(batches(lengths, config.tokens_per_batch))
    optimiser = make_optimiser(config, steps)
    state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
    best, best_loss, best_number, epochs = model, np.inf, 0, []
    for number in range(1, config.epochs + 1):
        losses, counts = [], []
        for length, indices in batches(lengths, config.tokens_per_batch, generator):
            key, step_key = jax.random.split(key)
            rows = rows_per_batch(length, config.tokens_per_batch)
            tokens, labels, weights = _collate(training, indices, length, rows)
            model, state, loss = train_step(
                model, state, optimiser, tokens, labels, weights, step_key
            )
            losses.append(loss)
            counts.append(len(indices))
        training_loss = float(np.average(np.array(losses), weights=counts))
        scores = logits(model, validation)
        if not (np.isfinite(training_loss) and np.isfinite(scores).all()):
            raise InputError(f"epoch {number}: the loss is no number: lower the learning rate")
        validation_loss = cross_entropy(scores, validation.labels)
        epochs.append(Epoch(number, training_loss, validation_loss))
        if report is not None:
            report(epochs[-1])
        if validation_loss < best_loss:
            best, best_loss, best_number = model, validation_loss, number
        elif number - best_number >= config.patience:
            break
    return best, epochs


def make_optimiser(config: TrainConfig, steps: int) -> optax.GradientTransformation:
    """Build AdamW with a clipped gradient and a cosine schedule.

    Args:
        config: the recipe.
        steps: number of steps of the whole run.

    Returns:
        The optax transformation.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        0.0,
        config.learning_rate,
        min(round(config.warmup * steps), max(steps, 2) - 1),
        max(steps, 2),
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(schedule, weight_decay=config.weight_decay),
    )


@eqx.filter_jit
def train_step(
    model: SolubilityModel,
    state: optax.OptState,
    optimiser: optax.GradientTransformation,
    tokens: Int[AnyArray, "batch length"],
    labels: Float[AnyArray, " batch"],
    weights: Float[AnyArray, " batch"],
    key: PRNGKeyArray,
) -> tuple[SolubilityModel, optax.OptState, Float[Array, ""]]:
    """Take one step down the gradient of the binary cross-entropy.

    Args:
        model: the model.
        state: that of the optimiser.
        optimiser: what `make_optimiser` gives.
        tokens: a padded batch `[batch length]`.
        labels: 1 for soluble `[batch]`.
        weights: how much each protein counts; 0 for a row that fills up the batch.
        key: source of randomness for dropout.

    Returns:
        The model and the state after the step, and the loss before it.
    """

    def loss(model: SolubilityModel) -> Float[Array, ""]:
        keys = jax.random.split(key, tokens.shape[0])
        scores = jax.vmap(lambda tokens, key: model(tokens, key=key))(jnp.asarray(tokens), keys)
        losses = optax.sigmoid_binary_cross_entropy(scores, jnp.asarray(labels))
        return (losses * weights).sum() / weights.sum()

    value, gradient = eqx.filter_value_and_grad(loss)(model)
    # optax mixes integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimiser.update(gradient, state, eqx.filter(model, eqx.is_inexact_array))
    return eqx.apply_updates(model, updates), state, value


def logits(model: SolubilityModel, examples: Examples) -> Float[np.ndarray, " n"]:
    """Score proteins.

    Args:
        model: the model.
        examples: the proteins.

    Returns:
        Logits before calibration, float32 `[n]`.
    """
    return np.array(map_proteins(model, examples.proteins), np.float32)


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


def _collate(
    examples: Examples, indices: list[int], length: int, rows: int
) -> tuple[Int[np.ndarray, "rows length"], Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Fill a batch up to its full number of rows, so that a length has one shape."""
    filled = [*indices, *[indices[0]] * (rows - len(indices))]
    tokens = pad([examples.proteins[index] for index in filled], length)
    labels = examples.labels[filled].astype(np.float32)
    return tokens, labels, (np.arange(rows) < len(indices)).astype(np.float32)
