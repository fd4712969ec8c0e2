"""The training loop: it learns, repeats to the bit, stops and refuses; and each part of a step."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from checkpoints import parameters
from head_kinds import head_config
from scipy.special import expit
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from training_sets import baseline, examples, tiny

from eqxesm import AssayModel, InputError, OneHot, SolubilityModel, Target, Tokenizer
from eqxesm.data.pipeline import Steps, make_batches
from eqxesm.encoders import cast
from eqxesm.encoders.lora import find_adapters, merge_lora
from eqxesm.evaluation import fit_temperature
from eqxesm.training import Examples, TrainConfig, cross_entropy, fit, score_examples
from eqxesm.training import loop as loop_module
from eqxesm.training.devices import make_mesh, shard
from eqxesm.training.examples import choose_run_buckets, class_weights
from eqxesm.training.filters import learning_rate_factors, prepare, trainable
from eqxesm.training.optimiser import make_optimiser, make_schedule
from eqxesm.training.step import StepInputs, TrainState, init_state, score, train_step
from heads import CompositionMLP, CompositionMLPConfig, Ensemble

SMALL = TrainConfig(epochs=12, patience=3, learning_rate=1e-2, tokens_per_batch=2048)


def padded(data: Examples, length: int = 96) -> np.ndarray:
    return data.collate(np.arange(len(data.labels)), length)


def number(step: int) -> np.ndarray:
    return np.array(step, np.int32)


def one_step(model: SolubilityModel, data: Examples, config: TrainConfig, step: int = 0, **given):
    """Take one step on all of the data. Returns the model, the state and the metrics."""
    model = prepare(model, config)
    params, frozen = eqx.partition(model, trainable(model, config.strategy))
    # A copy, since the step reuses the memory of what it changes.
    params = jax.tree.map(jnp.copy, params)
    optimiser = make_optimiser(config, 10, params)
    weights = given.get("weights", np.ones(len(data.labels), np.float32))
    inputs = StepInputs(frozen, padded(data), data.labels.astype(np.float32), weights, number(step))
    state, metrics = train_step(inputs, init_state(params, optimiser, config), optimiser, config, make_mesh())
    return eqx.combine(state.params, frozen), state, metrics


@pytest.mark.slow
def test_each_member_of_an_ensemble_learns_by_its_own_loss():
    data = examples(32, 0, longest=38)
    config = head_config("ensemble", OneHot().d_model, dropout=0.0)
    model = SolubilityModel(OneHot(), Ensemble(config, key=jax.random.key(0)))
    _, _, metrics = one_step(model, data, SMALL)
    logits = np.array([model.member_logits(tokens) for tokens in data.proteins])
    losses = [cross_entropy(member, data.labels) for member in logits.T]
    np.testing.assert_allclose(metrics.loss, np.mean(losses), rtol=1e-5)
    assert abs(float(metrics.loss) - cross_entropy(logits.mean(axis=1), data.labels)) > 1e-5


@pytest.mark.parametrize("head", ["composition", "convolution"])
def test_baselines_learn(head):
    training, validation = examples(300, 0, longest=38), examples(100, 1, longest=38)
    trained, epochs = fit(baseline(head), training, validation, SMALL)
    correct = (score_examples(trained, validation) > 0) == validation.labels
    assert correct.mean() >= 0.9
    assert epochs[-1].training.loss < epochs[0].training.loss
    assert epochs[-1].training.accuracy > epochs[0].training.accuracy


@pytest.mark.parametrize("name", ["training", "validation"])
def test_refuses_a_test_set_that_would_take_the_place_of_another(name):
    few = examples(10, 0, longest=38)
    with pytest.raises(InputError, match=f"tests has the name '{name}'"):
        fit(baseline("composition"), few, few, SMALL, tests={name: few})


@pytest.mark.parametrize("strategy", [pytest.param("joint", marks=pytest.mark.slow), "lora", "frozen"])
def test_every_strategy_learns_and_changes_only_its_parameters(strategy):
    start = tiny(lm_head=True)
    config = TrainConfig(strategy=strategy, epochs=6, learning_rate=1e-2, tokens_per_batch=4096, warmup=0.0)
    training, validation = examples(300, 0, longest=38), examples(60, 1, longest=38)
    trained, epochs = fit(start, training, validation, config)
    assert max(epoch.validation.accuracy for epoch in epochs) >= 0.8
    assert len(find_adapters(trained)) == (4 if strategy == "lora" else 0)
    trained = merge_lora(trained)
    assert jax.tree.structure(trained) == jax.tree.structure(start)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), *(eqx.filter(m, eqx.is_array) for m in (start, trained)))
    assert not any(jax.tree.leaves(same.head))
    assert all(jax.tree.leaves(same.encoder.lm_head))
    changed = {
        "joint": [same.encoder.embedding, same.encoder.norm, same.encoder.blocks],
        "lora": [same.encoder.blocks.attention.query.weight, same.encoder.blocks.attention.out],
        "frozen": [],
    }[strategy]
    assert not any(jax.tree.leaves(changed))
    kept = {
        "joint": [],
        "lora": [same.encoder.embedding, same.encoder.norm, same.encoder.blocks.ffn],
        "frozen": [same.encoder],
    }[strategy]
    assert all(jax.tree.leaves(kept))


@pytest.mark.parametrize("strategy", ["joint", "lora", "frozen"])
def test_gradients_reach_every_trained_parameter_and_no_other(strategy):
    model = prepare(tiny(lm_head=True), TrainConfig(strategy=strategy))
    if strategy == "lora":
        # At first lora_b is zero, so the gradient of lora_a is too.
        factors = [layer.lora_b for layer in find_adapters(model)]
        model = eqx.tree_at(
            lambda model: [layer.lora_b for layer in find_adapters(model)],
            model,
            [jnp.full_like(factor, 0.01) for factor in factors],
        )
    params, frozen = eqx.partition(model, trainable(model, strategy))
    tokens = jnp.asarray(padded(examples(8, 0)))

    def loss(params):
        return (jax.vmap(eqx.combine(params, frozen))(tokens) ** 2).mean()

    reached, names = set(), set()
    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(params)):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        names.add(name)
        # Every layer of the stack, not just one.
        axes = tuple(range(1, gradient.ndim)) if "blocks" in name else None
        if np.all(np.abs(gradient).max(axis=axes) > 0):
            reached.add(name)
    assert reached == names
    encoder = {name for name in names if name.startswith("encoder")}
    everything = {
        "encoder." + jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in jax.tree_util.tree_leaves_with_path(model.encoder)
        if eqx.is_inexact_array(leaf)
    }
    expected = {
        "joint": {name for name in everything if "lm_head" not in name},
        "lora": {name for name in everything if "lora_" in name},
        "frozen": set(),
    }[strategy]
    assert encoder == expected
    assert len(encoder) == {"joint": 15, "lora": 8, "frozen": 0}[strategy]
    assert names - encoder == {f"head.mlp.layers.{i}.{n}" for i in (0, 1) for n in ("weight", "bias")}


def test_repeats_to_the_bit_and_differs_by_seed():
    training, validation = examples(60, 0, longest=38), examples(20, 1, longest=38)
    config = TrainConfig(epochs=2, tokens_per_batch=2048)
    other = dataclasses.replace(config, seed=1)
    start = baseline("convolution")
    (one, first), (two, second), (three, _) = (fit(start, training, validation, c) for c in (config, config, other))
    assert first == second
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.asarray(one.head.first.weight) != np.asarray(three.head.first.weight)).any()
    # The given model is intact, though a step reuses memory.
    assert np.isfinite(np.asarray(start.head.first.weight)).all()


def test_keeps_the_best_epoch_and_stops_after_patience():
    training = examples(40, 0)
    noise = Examples(training.proteins[:20], 1 - training.labels[:20])
    best, epochs = fit(baseline(), training, noise, SMALL, tests={"again": noise})
    losses = [epoch.validation.loss for epoch in epochs]
    chosen = int(np.argmin(losses))
    assert len(epochs) == chosen + 1 + SMALL.patience < SMALL.epochs
    np.testing.assert_allclose(cross_entropy(score_examples(best, noise), noise.labels), losses[chosen], rtol=1e-5)
    assert all(epoch.tests["again"] == epoch.validation for epoch in epochs)


def test_one_step_is_that_of_torch():
    """Loss, gradient, clipping and AdamW, in a batch with a row of padding."""
    start, data = baseline(), examples(4, 3)
    start = eqx.tree_at(lambda model: model.head.mlp.dropout.p, start, 0.0)
    labels = data.labels.astype(np.float32)
    weights = np.array([1, 1, 0.5, 0], np.float32)
    config = TrainConfig(warmup=0.0, weight_decay=10.0, clip=0.05, label_smoothing=0.2)
    ours, _, metrics = one_step(start, data, config, weights=weights)

    frequencies = np.stack([np.bincount(p[1:-1], minlength=29)[4:29] / (len(p) - 2) for p in data.proteins])
    lengths = np.array([np.log((len(p) - 2) / 300) for p in data.proteins])
    x = torch.tensor(np.column_stack([20 * frequencies, lengths]), dtype=torch.float32)
    theirs = [
        torch.tensor(np.asarray(array), requires_grad=True)
        for layer in start.head.mlp.layers
        for array in (layer.weight, layer.bias)
    ]
    y = x
    for i in range(0, len(theirs), 2):
        y = torch.nn.functional.linear(y, theirs[i], theirs[i + 1])
        y = torch.relu(y) if i < len(theirs) - 2 else y
    # Label smoothing of 0.2 over two classes makes the targets 0.9 and 0.1.
    targets = torch.where(torch.tensor(labels) == 1, 0.9, 0.1)
    truth = torch.nn.functional.binary_cross_entropy_with_logits(
        y[:, 0], targets, weight=torch.tensor(weights), reduction="sum"
    ) / sum(weights)
    truth.backward()
    norm = torch.nn.utils.clip_grad_norm_(theirs, config.clip)
    # Gains and biases do not decay.
    torch.optim.AdamW(
        [{"params": theirs[0::2], "weight_decay": 10.0}, {"params": theirs[1::2], "weight_decay": 0.0}],
        lr=config.learning_rate,
    ).step()
    np.testing.assert_allclose(metrics.loss, truth.item(), rtol=1e-5)
    np.testing.assert_allclose(metrics.norm, norm.item(), rtol=1e-5)
    called = (y[:, 0] > 0).numpy() == (labels > 0.5)
    assert int(metrics.correct) == called[:3].sum()
    for number, layer in enumerate(ours.head.mlp.layers):
        np.testing.assert_allclose(layer.weight, theirs[2 * number].detach(), atol=2e-5)
        np.testing.assert_allclose(layer.bias, theirs[2 * number + 1].detach(), atol=2e-5)


@pytest.mark.slow
def test_batches_have_the_losses_of_their_proteins_alone():
    """Filled up with padding and empty rows, against every protein at its own length."""
    config, rng = TrainConfig(tokens_per_batch=64), np.random.default_rng(0)
    proteins = [Tokenizer().encode("".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), n))) for n in (5, 6, 30, 120)]
    data = Examples(proteins, rng.integers(0, 2, len(proteins)))
    model = prepare(eqx.tree_at(lambda model: model.head.mlp.dropout.p, tiny(), 0.0), config)
    params, frozen = eqx.partition(model, trainable(model, "joint"))
    optimiser = make_optimiser(config, 10, params)
    buckets = choose_run_buckets(model, config, {"training": data})
    steps = Steps(data.lengths, buckets, 1, 0)
    planned = [steps[i] for i in range(len(steps))]
    assert len({length for length, _ in planned}) > 1
    for (_, indices), batch in zip(planned, make_batches(steps, buckets, data.collate, data.labels), strict=True):
        inputs = StepInputs(frozen, batch.inputs, batch.labels, batch.weights, number(0))
        state = init_state(jax.tree.map(jnp.copy, params), optimiser, config)
        _, metrics = train_step(inputs, state, optimiser, config, make_mesh())
        alone = expit([float(model(proteins[i])) for i in indices])
        np.testing.assert_allclose(metrics.loss, log_loss(data.labels[indices], alone, labels=[0, 1]), atol=1e-5)


def test_accumulating_two_halves_is_one_step_on_the_whole():
    start = eqx.tree_at(lambda model: model.head.mlp.dropout.p, baseline(), 0.0)
    data = examples(8, 3)
    config = TrainConfig(warmup=0.0, accumulate=2)
    params, frozen = eqx.partition(start, trainable(start, "joint"))
    params = jax.tree.map(jnp.copy, params)
    optimiser = make_optimiser(config, 10, params)
    state = init_state(params, optimiser, config)
    labels, ones = data.labels.astype(np.float32), np.ones(4, np.float32)
    for half in (slice(0, 4), slice(4, 8)):
        inputs = StepInputs(frozen, padded(data)[half], labels[half], ones, number(0))
        state, _ = train_step(inputs, state, optimiser, config, make_mesh())
    whole, _, _ = one_step(start, data, TrainConfig(warmup=0.0))
    accumulated = eqx.combine(state.params, frozen)
    for ours, theirs in zip(jax.tree.leaves(accumulated), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_average_over_the_steps():
    config = TrainConfig(warmup=0.0, ema=0.9)
    start, data = baseline(), examples(4, 3)
    trained, state, _ = one_step(start, data, config)
    before = np.asarray(start.head.mlp.layers[0].weight, np.float64)
    after = np.asarray(trained.head.mlp.layers[0].weight, np.float64)
    average = state.validated.head.mlp.layers[0].weight
    np.testing.assert_allclose(average, 0.9 * before + 0.1 * after, atol=1e-6)
    assert np.abs(after - before).max() > 1e-4


def test_balanced_class_weights_are_those_of_scikit_learn():
    labels = np.array([0] * 30 + [1] * 10)
    config = TrainConfig(class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    np.testing.assert_allclose(class_weights(config, labels), expected)
    assert class_weights(TrainConfig(), labels) is None
    with pytest.raises(InputError, match="classes cannot be balanced"):
        class_weights(config, labels[:30])


@pytest.mark.slow
def test_half_precision_computes_in_half_and_keeps_parameters_in_full():
    config = TrainConfig(compute_dtype="bfloat16", warmup=0.0)
    data = examples(4, 3)
    model, state, metrics = one_step(tiny(), data, config)
    assert {leaf.dtype for leaf in jax.tree.leaves(eqx.filter(parameters(model), eqx.is_array))} == {
        jnp.dtype(jnp.float32)
    }
    moments = {leaf.dtype for leaf in jax.tree.leaves(state.optimiser) if leaf.ndim}
    assert moments == {jnp.dtype(jnp.float32)}
    half = eqx.tree_at(lambda m: m.encoder, tiny(), cast(tiny().encoder, jnp.bfloat16))
    logits = jax.vmap(half)(jnp.asarray(padded(data)))
    np.testing.assert_array_equal(score(tiny(), padded(data), config)[:, 0], logits)
    full = one_step(tiny(), data, TrainConfig(warmup=0.0))[2].loss
    assert 0 < abs(float(metrics.loss) - float(full)) < 0.02


def test_model_in_half_precision_is_trained_in_full():
    half = cast(tiny(), jnp.bfloat16)
    for strategy, expected in (("joint", jnp.float32), ("frozen", jnp.bfloat16)):
        model = prepare(half, TrainConfig(strategy=strategy))
        assert model.encoder.embedding.dtype == expected
        assert model.head.mlp.layers[0].weight.dtype == jnp.float32


def test_rematerialisation_changes_nothing():
    data = examples(4, 3)
    kept, recomputed = (one_step(tiny(), data, TrainConfig(warmup=0.0, remat=remat))[2] for remat in (False, True))
    np.testing.assert_allclose(kept.loss, recomputed.loss, rtol=1e-6)
    np.testing.assert_allclose(kept.norm, recomputed.norm, rtol=1e-5)


def updates(config: TrainConfig, steps: int, model: SolubilityModel) -> list:
    """Updates for a gradient of ones, for which a step of Adam is the learning rate."""
    params, _ = eqx.partition(model, trainable(model, "joint"))
    optimiser = make_optimiser(config, steps, params)
    state, result = optimiser.init(params), []
    ones = jax.tree.map(jnp.ones_like, params)
    step = jax.jit(lambda state: optimiser.update(ones, state, params))
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            update, state = step(state)
            result.append(update)
    return result


def test_deeper_blocks_learn_more_slowly():
    config = TrainConfig(layer_decay=0.5, schedule="constant", warmup=0.0, weight_decay=0.0, clip=1e9)
    (first, *_) = updates(config, 2, tiny(layers=3))
    rate = -config.learning_rate
    query = np.asarray(first.encoder.blocks.attention.query.weight)
    np.testing.assert_allclose(query[:, 0, 0], [rate / 4, rate / 2, rate], rtol=1e-4)
    np.testing.assert_allclose(
        np.asarray(first.encoder.blocks.ffn_norm.bias)[:, 0], [rate / 4, rate / 2, rate], rtol=1e-4
    )
    np.testing.assert_allclose(first.encoder.embedding, rate / 8, rtol=1e-4)
    np.testing.assert_allclose(first.encoder.norm.weight, rate, rtol=1e-4)
    np.testing.assert_allclose(first.head.mlp.layers[0].weight, rate, rtol=1e-4)


def test_model_without_blocks_has_one_learning_rate():
    params, _ = eqx.partition(baseline(), trainable(baseline(), "joint"))
    factors = jax.tree.leaves(learning_rate_factors(params, 0.5))
    assert all((factor == 1).all() for factor in factors)


def test_encoder_warms_up_while_the_head_learns():
    config = TrainConfig(encoder_warmup=0.4, schedule="constant", warmup=0.0, weight_decay=0.0, clip=1e9)
    rates = [
        (float(-u.encoder.norm.weight[0]), float(-u.head.mlp.layers[0].bias[0]))
        for u in updates(config, 10, tiny(layers=1))
    ]
    encoder, head = np.array(rates).T / config.learning_rate
    np.testing.assert_allclose(encoder, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1], rtol=1e-3)
    np.testing.assert_allclose(head, 1, rtol=1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_learning_rate_rises_and_then_follows_the_schedule(schedule):
    config = TrainConfig(learning_rate=0.1, warmup=0.2, schedule=schedule)
    rates = [float(make_schedule(config, 50)(step)) for step in range(51)]
    np.testing.assert_allclose(rates[:11], 0.1 * np.arange(11) / 10, atol=1e-7)
    after = np.arange(41) / 40
    expected = {
        "cosine": 0.05 * (1 + np.cos(np.pi * after)),
        "linear": 0.1 * (1 - after),
        "constant": np.full(41, 0.1),
    }[schedule]
    np.testing.assert_allclose(rates[10:], expected, atol=1e-7)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_long_warmup_of_a_short_run_gives_finite_updates(steps):
    config = TrainConfig(warmup=0.99, encoder_warmup=0.99)
    params, _ = eqx.partition(baseline(), trainable(baseline(), "joint"))
    optimiser = make_optimiser(config, steps, params)
    with jax.numpy_dtype_promotion("standard"):
        update, _ = optimiser.update(params, optimiser.init(params), params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(update))


def test_dropout_differs_by_step_and_by_protein_but_not_by_batch_size():
    model, data = baseline(), examples(1, 3)
    data = Examples(list(data.proteins) * 4, np.ones(4, np.int64))
    config = TrainConfig()
    scores = [np.asarray(score(model, padded(data), config, number(i)))[:, 0] for i in (0, 1)]
    assert len(set(scores[0].tolist() + scores[1].tolist())) == 8
    # More devices mean more rows of padding, which must not change the proteins.
    fewer = score(model, padded(data)[:2], config, number(0))
    np.testing.assert_allclose(fewer[:, 0], scores[0][:2], rtol=1e-6)
    assert np.ptp(score(model, padded(data), config)) == 0


def test_cross_entropy_is_that_of_scikit_learn():
    scores = np.random.default_rng(0).normal(size=50).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 2, 50)
    expected = log_loss(labels, expit(scores.astype(float)))
    np.testing.assert_allclose(cross_entropy(scores, labels), expected, rtol=1e-6)
    assert cross_entropy(np.array([1e4], np.float32), np.array([0])) == 1e4


def test_temperature_is_recovered():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=50_000) * 2
    labels = (rng.random(50_000) < expit(scores)).astype(np.int64)
    assert fit_temperature((3.0 * scores).astype(np.float32), labels) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize(
    ("proteins", "labels", "message"),
    [
        (0, [], "no proteins to train on"),
        (2, [1], r"labels have shape \[1\], expected \[2\]"),
        (2, [0, 2], r"label 2 is 2, expected 1 \(soluble\) or 0 \(insoluble\)"),
        (2, [[0], [1]], r"labels have shape \[2, 1\], expected \[2\]\. Use labels\.ravel\(\)"),
        (2, [0.0, np.nan], r"label 2 is missing \(nan\)"),
        (2, [0, None], r"label 2 is missing \(None\)"),
        (2, [0, 0.5], "label 2 is 0.5"),
        (2, ["0", "1"], "label 1 is '0', expected 1"),
    ],
)
def test_refuses_examples_without_fitting_labels(proteins, labels, message):
    with pytest.raises(InputError, match=message):
        Examples([np.array([0, 4, 2], np.int32)] * proteins, labels)


def test_refuses_labels_of_another_kind_of_model():
    given = examples(4, 0, longest=38)
    column = given.labels[:, None].astype(np.float32)
    with pytest.raises(InputError, match=r"labels have shape \[4, 1\], expected \[4\]\. Use labels\.ravel"):
        fit(baseline("composition"), Examples(given.proteins, column), given, SMALL)
    head = CompositionMLP(CompositionMLPConfig(OneHot().d_model, (4,), outputs=2), key=jax.random.key(0))
    model = AssayModel(OneHot(), head, [Target("yield", "number"), Target("rate", "number")])
    for labels in (given.labels, column):
        with pytest.raises(InputError, match=r"are floats of the shape \[4, 2\], not .*4"):
            fit(model, Examples(given.proteins, labels), given, SMALL)


@pytest.mark.parametrize(
    "labels",
    [[1, 0], [True, False], [1.0, 0.0], np.array([1, 0], np.int8), np.array([True, False]), np.array([1.0, 0.0])],
    ids=str,
)
def test_labels_of_every_kind_are_the_same_integers(labels):
    examples = Examples([np.array([0, 4, 2], np.int32)] * 2, labels)
    assert examples.labels.tolist() == [1, 0]
    assert examples.labels.dtype == np.int64


@pytest.mark.parametrize(
    "bad",
    [
        {"strategy": "half"}, {"epochs": 0}, {"patience": 0}, {"learning_rate": 0.0},
        {"schedule": "steps"}, {"warmup": 1.0}, {"weight_decay": -1.0}, {"clip": 0.0},
        {"accumulate": 0}, {"class_weights": "equal"}, {"label_smoothing": 1.0}, {"ema": 1.0},
        {"compute_dtype": "float16"}, {"layer_decay": 0.0}, {"layer_decay": 1.1},
        {"encoder_warmup": -0.1}, {"lora_rank": 0}, {"lora_alpha": 0.0}, {"lora_targets": ("x",)},
        {"checkpoint_steps": 0}, {"seed": -1}, {"learning_rate": float("nan")},
    ],
    ids=lambda bad: next(iter(bad)),
)  # fmt: skip
def test_refuses_settings_out_of_range(bad):
    with pytest.raises(ValueError, match=rf"^TrainConfig: {next(iter(bad))}(\.0)? is "):
        TrainConfig(**bad)


def test_diverged_loss_names_the_step_and_its_proteins():
    config = TrainConfig(epochs=1, learning_rate=1e30, warmup=0.0, tokens_per_batch=1024)
    data = examples(60, 0)
    named = Examples(data.proteins, data.labels, [f"protein-{i}" for i in range(60)])
    with pytest.raises(
        InputError, match=r"^training diverged at step \d+: loss \S+, .*: protein-\d+, .*The best model"
    ):
        fit(baseline(), named, examples(10, 1), config)


def test_batch_that_does_not_fit_says_what_to_lower(monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(loop_module, "train_step", full)
    with pytest.raises(InputError, match=r"Lower training\.tokens_per_batch \(now 2048\)"):
        fit(baseline(), examples(60, 0), examples(10, 1), SMALL)


def test_other_failures_of_the_device_are_raised_as_they_are(monkeypatch):
    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(loop_module, "train_step", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        fit(baseline(), examples(60, 0), examples(10, 1), SMALL)


def test_splitting_over_one_device_changes_nothing():
    mesh = make_mesh()
    state = TrainState(eqx.filter(tiny(), eqx.is_array), optax.EmptyState(), None)
    for ours, theirs in zip(jax.tree.leaves(shard(state, mesh)), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
