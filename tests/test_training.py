"""The first training function: it learns, it repeats to the bit, it stops, it refuses."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import log_loss

from eqxesm import InputError, OneHot, SolubilityModel, Tokenizer
from eqxesm.evaluation import fit_temperature
from eqxesm.training import Examples, TrainConfig, cross_entropy, fit, logits
from eqxesm.training.loop import make_optimiser, train_step
from heads import CompositionMLP, CompositionMLPConfig, Convolution, ConvolutionConfig

SMALL = TrainConfig(epochs=12, patience=3, learning_rate=1e-2, tokens_per_batch=2048)


def examples(count: int, seed: int) -> Examples:
    """Proteins whose label says whether lysine outnumbers leucine: composition tells all."""
    rng = np.random.default_rng(seed)
    proteins, labels = [], []
    for _ in range(count):
        label = int(rng.integers(2))
        weights = np.where(np.isin(list("ACDEFGHIKLMNPQRSTVWY"), ["K" if label else "L"]), 4.0, 1.0)
        letters = rng.choice(
            list("ACDEFGHIKLMNPQRSTVWY"), rng.integers(30, 90), p=weights / weights.sum()
        )
        proteins.append(Tokenizer().encode("".join(letters)))
        labels.append(label)
    return Examples(proteins, np.array(labels))


def model(head: str = "composition") -> SolubilityModel:
    key = jax.random.key(0)
    heads = {
        "composition": lambda: CompositionMLP(CompositionMLPConfig(25), key=key),
        "convolution": lambda: Convolution(ConvolutionConfig(25, channels=16, kernel=3), key=key),
    }
    return SolubilityModel(OneHot(), heads[head]())


@pytest.mark.parametrize("head", ["composition", "convolution"])
def test_it_learns_what_there_is_to_learn(head):
    training, validation = examples(300, 0), examples(100, 1)
    trained, epochs = fit(model(head), training, validation, SMALL)
    correct = (logits(trained, validation) > 0) == validation.labels
    assert correct.mean() >= 0.9
    assert epochs[-1].training_loss < epochs[0].training_loss


def test_it_repeats_to_the_bit_and_differs_by_seed():
    training, validation = examples(60, 0), examples(20, 1)
    config = TrainConfig(epochs=2, tokens_per_batch=2048)
    other = TrainConfig(epochs=2, tokens_per_batch=2048, seed=1)
    (one, first), (two, second), (three, _) = (
        fit(model("convolution"), training, validation, c) for c in (config, config, other)
    )
    assert first == second
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.asarray(one.head.first.weight) != np.asarray(three.head.first.weight)).any()


def test_it_keeps_the_best_epoch_and_stops_after_patience():
    training = examples(40, 0)
    noise = Examples(training.proteins[:20], 1 - training.labels[:20])
    best, epochs = fit(model(), training, noise, SMALL)
    losses = [epoch.validation_loss for epoch in epochs]
    chosen = int(np.argmin(losses))
    assert len(epochs) == chosen + 1 + SMALL.patience < SMALL.epochs
    np.testing.assert_allclose(cross_entropy(logits(best, noise), noise.labels), losses[chosen])


def test_one_step_against_torch():
    """Loss, gradient, clipping and AdamW of a step with a row that only fills up the batch."""
    start, data = model(), examples(4, 3)
    tokens = np.full((4, 96), 1, np.int32)
    for row, protein in zip(tokens, data.proteins, strict=True):
        row[: len(protein)] = protein
    labels = data.labels.astype(np.float32)
    weights = np.array([1, 1, 1, 0], np.float32)
    config = TrainConfig(warmup=0.0, weight_decay=10.0, clip=0.05)
    optimiser = make_optimiser(config, 10)
    state = optimiser.init(eqx.filter(start, eqx.is_inexact_array))
    start = eqx.nn.inference_mode(start)
    no_dropout = eqx.tree_at(lambda m: m.head.mlp.dropout.p, start, 0.0)
    ours, _, loss = train_step(
        no_dropout, state, optimiser, tokens, labels, weights, jax.random.key(0)
    )

    frequencies = np.stack(
        [np.bincount(p[1:-1], minlength=29)[4:29] / (len(p) - 2) for p in data.proteins]
    )
    lengths = np.array([np.log((len(p) - 2) / 300) for p in data.proteins])
    x = torch.tensor(np.column_stack([20 * frequencies, lengths]), dtype=torch.float32)
    layers = start.head.mlp.layers
    theirs = [
        torch.tensor(np.asarray(array), requires_grad=True)
        for layer in layers
        for array in (layer.weight, layer.bias)
    ]
    y = x
    for i in range(0, len(theirs), 2):
        y = torch.nn.functional.linear(y, theirs[i], theirs[i + 1])
        y = torch.relu(y) if i < len(theirs) - 2 else y
    truth = torch.nn.functional.binary_cross_entropy_with_logits(y[:3, 0], torch.tensor(labels[:3]))
    truth.backward()
    torch.nn.utils.clip_grad_norm_(theirs, config.clip)
    torch.optim.AdamW(theirs, lr=config.learning_rate, weight_decay=10.0).step()
    np.testing.assert_allclose(loss, truth.item(), rtol=1e-5)
    for number, layer in enumerate(ours.head.mlp.layers):
        np.testing.assert_allclose(layer.weight, theirs[2 * number].detach(), atol=2e-5)
        np.testing.assert_allclose(layer.bias, theirs[2 * number + 1].detach(), atol=2e-5)


def test_cross_entropy_is_sklearns():
    scores = np.random.default_rng(0).normal(size=50).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 2, 50)
    expected = log_loss(labels, expit(scores.astype(float)))
    np.testing.assert_allclose(cross_entropy(scores, labels), expected, rtol=1e-6)
    assert cross_entropy(np.array([1e4], np.float32), np.array([0])) == 1e4


def test_temperature_is_found_again():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=50_000) * 2
    labels = (rng.random(50_000) < expit(scores)).astype(np.int64)
    assert fit_temperature((3.0 * scores).astype(np.float32), labels) == pytest.approx(
        3.0, rel=0.05
    )


@pytest.mark.parametrize(
    ("proteins", "labels", "message"),
    [(0, [], "0 proteins"), (2, [1], "2 proteins with 1 labels"), (2, [0, 2], "neither 0 nor 1")],
)
def test_examples_that_cannot_be(proteins, labels, message):
    with pytest.raises(InputError, match=message):
        Examples([np.array([0, 4, 2], np.int32)] * proteins, np.array(labels, np.int64))


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"learning_rate": 0.0}, {"warmup": 1.0}, {"weight_decay": -1.0}]
)
def test_recipes_that_cannot_be(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrainConfig(**bad)


def test_a_loss_that_explodes_is_told():
    config = TrainConfig(epochs=1, learning_rate=1e30, warmup=0.0, tokens_per_batch=1024)
    with pytest.raises(InputError, match="epoch 1: the loss is no number"):
        fit(model(), examples(60, 0), examples(10, 1), config)


def test_the_learning_rate_rises_and_falls():
    config = TrainConfig(learning_rate=0.1, warmup=0.2, weight_decay=0.0, clip=1e9)
    optimiser = make_optimiser(config, 50)
    parameter = np.ones(3, np.float32)
    state, sizes = optimiser.init(parameter), []
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(50):
            update, state = optimiser.update(np.ones(3, np.float32), state, parameter)
            sizes.append(float(-update[0]))
    peak = int(np.argmax(sizes))
    # Adam's step on a constant gradient is the learning rate itself.
    assert (peak, sizes[peak]) == (10, pytest.approx(0.1, rel=1e-4))
    assert sizes[0] == 0
    assert np.all(np.diff(sizes[:11]) > 0)
    assert np.all(np.diff(sizes[10:]) < 0)
    assert sizes[-1] < 0.001


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_long_warmup_of_a_short_run(steps):
    make_optimiser(TrainConfig(warmup=0.99), steps)


def test_dropout_differs_by_step_and_by_protein():
    start, data = model(), examples(2, 3)
    tokens = np.full((2, 96), 1, np.int32)
    tokens[:, : len(data.proteins[0])] = data.proteins[0]
    labels, weights = np.ones(2, np.float32), np.ones(2, np.float32)
    optimiser = make_optimiser(TrainConfig(), 10)
    state = optimiser.init(eqx.filter(start, eqx.is_inexact_array))

    def loss(seed: int, weights: np.ndarray) -> float:
        key = jax.random.key(seed)
        return float(train_step(start, state, optimiser, tokens, labels, weights, key)[2])

    assert loss(0, weights) != loss(1, weights)
    first, second = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    assert loss(0, first) != loss(0, second)
