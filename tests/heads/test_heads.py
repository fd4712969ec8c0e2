"""Heads: blind to padding, equal to torch's layers, differentiable."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from head_kinds import head_config

from heads import (
    HEADS,
    AbstractHead,
    AttentionPoolMLP,
    AttentionPoolMLPConfig,
    CommitteeConfig,
    CompositionMLP,
    CompositionMLPConfig,
    Convolution,
    ConvolutionConfig,
    EnsembleConfig,
    MeanPoolMLP,
    MeanPoolMLPConfig,
    PartConfig,
)
from heads.pooling import attention_pool, max_pool, mean_pool, quantile_pool
from heads.windows import MIN_SPREAD, window_means

D_MODEL = 12
KEY = jax.random.key(7)


NAMES = [config.type for config, head in HEADS.items() if not head.per_residue]
WITH_DROPOUT = [name for name in NAMES if "dropout" in repr(head_config(name, D_MODEL))]


@functools.cache
def make(name: str, **options):
    config = head_config(name, D_MODEL, **options)
    return HEADS[type(config)](config, key=jax.random.key(0))


@eqx.filter_jit
def score(head, features, mask, key=None):
    return head(features, mask, key=key)


@eqx.filter_jit
def gradient_of_features(head, features, mask):
    return jax.grad(lambda features: head(features, mask))(features)


def example(length: int = 23, seed: int = 0):
    """Features with a first and a last position that are no residues, as `<cls>` and `<eos>`."""
    features = np.random.default_rng(seed).normal(size=(length, D_MODEL)).astype(np.float32)
    mask = np.ones(length, bool)
    mask[[0, -1]] = False
    return jnp.asarray(features), jnp.asarray(mask)


@pytest.mark.parametrize("name", NAMES)
def test_amount_and_content_of_padding_change_nothing(name):
    head = make(name)
    features, mask = example()
    plain = score(head, features, mask)
    assert plain.shape == ()
    for amount, content in ((1, 0.0), (40, 7.0), (40, -1e6), (5, np.nan), (5, np.inf)):
        padding = jnp.full((amount, D_MODEL), content, jnp.float32)
        padded = score(head, jnp.concatenate([features, padding]), jnp.pad(mask, (0, amount)))
        np.testing.assert_allclose(padded, plain, rtol=2e-6, atol=1e-6)
    inside = score(head, jnp.where(mask[:, None], features, 99.0), mask)
    np.testing.assert_array_equal(inside, plain)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_and_stop_at_the_mask(name):
    features, mask = example()
    padded, wide = jnp.pad(features, ((0, 9), (0, 0))), jnp.pad(mask, (0, 9))
    gradient = gradient_of_features(make(name), padded, wide)
    assert jnp.isfinite(gradient).all()
    assert (gradient[~np.asarray(wide)] == 0).all()
    assert (jnp.abs(gradient) > 0).any()
    nothing = gradient_of_features(make(name), padded, jnp.zeros_like(wide))
    assert jnp.isfinite(nothing).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_against_finite_differences(name):
    head = make(name)
    with jax.enable_x64(True):
        head = jax.tree.map(lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, head)
        features, mask = example()
        features = features.astype(jnp.float64)
        direction = jax.random.normal(jax.random.key(5), features.shape, jnp.float64)
        exact = (gradient_of_features(head, features, mask) * direction).sum()
        step = 1e-4
        ahead, behind = (score(head, features + sign * step * direction, mask) for sign in (1, -1))
        slope = (ahead - behind) / (2 * step)
    # Composition pools in float32, whose last digit a step of 1e-4 magnifies.
    np.testing.assert_allclose(exact, slope, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_matters(name):
    features, mask = example()
    gradients = eqx.filter_jit(eqx.filter_grad(lambda head: head(features, mask)))(make(name))
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert (jnp.abs(gradient) > 0).any(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_is_on_only_with_a_key(name):
    head = make(name, dropout=0.5, hidden=(64, 64))
    features, mask = example()
    np.testing.assert_array_equal(score(head, features, mask), score(head, features, mask))
    one, two = (score(head, features, mask, jax.random.key(seed)) for seed in (1, 2))
    assert one != two


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_in_bfloat16_out(name):
    head = jax.tree.map(lambda a: a.astype(jnp.bfloat16) if eqx.is_inexact_array(a) else a, make(name))
    features, mask = example()
    logit = score(head, features.astype(jnp.bfloat16), mask)
    assert logit.dtype == jnp.bfloat16
    np.testing.assert_allclose(logit.astype(jnp.float32), score(make(name), features, mask), rtol=0.1, atol=0.05)


def torch_mlp(mlp, x):
    torch = pytest.importorskip("torch")
    for number, layer in enumerate(mlp.layers):
        x = torch.nn.functional.linear(x, torch.tensor(np.asarray(layer.weight)), torch.tensor(np.asarray(layer.bias)))
        x = torch.relu(x) if number < len(mlp.layers) - 1 else x
    return x


def test_mean_pool_mlp_against_torch():
    torch = pytest.importorskip("torch")
    head = MeanPoolMLP(MeanPoolMLPConfig(D_MODEL), key=jax.random.key(1))
    assert len(head.mlp.layers) == 5
    features, mask = example()
    pooled = torch.tensor(np.asarray(features))[1:-1].mean(0)
    expected = torch_mlp(head.mlp, pooled).item()
    np.testing.assert_allclose(score(head, features, mask), expected, rtol=1e-5, atol=1e-6)


def torch_conv(conv, x):
    torch = pytest.importorskip("torch")
    return torch.nn.functional.conv1d(
        x, torch.tensor(np.asarray(conv.weight)), torch.tensor(np.asarray(conv.bias)[:, 0]), padding="same"
    )


def test_convolution_against_torch():
    torch = pytest.importorskip("torch")
    head = Convolution(ConvolutionConfig(D_MODEL, kernel=5), key=jax.random.key(1))
    features, mask = example()
    x = torch.tensor(np.asarray(features))[1:-1]
    x = x @ torch.tensor(np.asarray(head.embedding.weight)).T
    x = torch.relu(torch_conv(head.first, x.T[None]))
    x = torch.relu(torch_conv(head.second, x))
    expected = torch_mlp(head.mlp, x[0].max(dim=1).values).item()
    np.testing.assert_allclose(score(head, features, mask), expected, rtol=1e-5, atol=1e-6)


def test_light_attention_against_torch():
    torch = pytest.importorskip("torch")
    head = AttentionPoolMLP(AttentionPoolMLPConfig(D_MODEL, kernel=3), key=jax.random.key(1))
    features, mask = example()
    x = torch.tensor(np.asarray(features))[1:-1].T[None]
    scores, values = torch_conv(head.scores, x), torch_conv(head.values, x)
    pooled = (values * torch.softmax(scores, dim=-1)).sum(-1)
    both = torch.cat([pooled, values.max(dim=-1).values], dim=-1)
    expected = torch_mlp(head.mlp, both)[0].item()
    np.testing.assert_allclose(score(head, features, mask), expected, rtol=1e-5, atol=1e-6)


def test_pooling_weights_are_those_of_the_attention():
    torch = pytest.importorskip("torch")
    features, mask = example()
    config = EnsembleConfig(D_MODEL, AttentionPoolMLPConfig(D_MODEL, kernel=3), members=2)
    head = HEADS[EnsembleConfig](config, key=KEY)
    x = torch.tensor(np.asarray(features))[1:-1].T[None]
    weights = []
    for number in range(2):
        member = jax.tree.map(lambda a, i=number: a[i] if eqx.is_array(a) else a, head.members)
        weights.append(torch.softmax(torch_conv(member.scores, x), dim=-1)[0].mean(dim=0))
        np.testing.assert_allclose(member.pooling_weights(features, mask)[1:-1], weights[-1], atol=1e-6)
    found = head.pooling_weights(features, mask)
    np.testing.assert_allclose(found[1:-1], sum(weights) / 2, atol=1e-6)
    assert found[0] == found[-1] == 0
    assert make("mean_pool_mlp").pooling_weights(features, mask) is None


def test_composition_sees_frequencies_and_length_alone():
    head = CompositionMLP(CompositionMLPConfig(D_MODEL), key=jax.random.key(1))
    features, mask = example()
    order = np.random.default_rng(1).permutation(np.arange(1, 22))
    shuffled = features.at[1:22].set(features[order])
    np.testing.assert_allclose(score(head, shuffled, mask), score(head, features, mask), rtol=1e-5)
    inner = features[1:-1]
    doubled = score(head, jnp.concatenate([inner, inner]), jnp.ones(42, bool))
    assert abs(float(doubled - score(head, inner, jnp.ones(21, bool)))) > 1e-3


def test_pooling_closed_forms():
    features, mask = example()
    kept = np.asarray(features)[1:-1]
    np.testing.assert_allclose(mean_pool(features, mask), kept.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(max_pool(features, mask), kept.max(0))
    level = attention_pool(jnp.zeros_like(features), features, mask)
    np.testing.assert_allclose(level, kept.mean(0), rtol=1e-5, atol=1e-6)
    sharp = attention_pool(jnp.where(features == kept.max(0)[None], 1e4, 0.0), features, mask)
    np.testing.assert_allclose(sharp, kept.max(0), rtol=1e-6)
    for pooled in (mean_pool, max_pool):
        np.testing.assert_array_equal(pooled(features, jnp.zeros_like(mask)), 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [{"hidden": (0,)}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_refuses_sizes_out_of_range(name, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        make(name, **bad)


@pytest.mark.parametrize("name", ["convolution", "attention_pool_mlp"])
def test_refuses_even_kernels(name):
    with pytest.raises(ValueError, match="kernel is 4: expected an odd number"):
        make(name, kernel=4)


def test_a_configuration_builds_its_head():
    assert len({config.type for config in HEADS}) == len(HEADS)
    for config, cls in HEADS.items():
        head = make(config.type)
        assert type(head) is cls
        assert head.config == head_config(config.type, D_MODEL)
        assert isinstance(head, AbstractHead)


@pytest.mark.parametrize("window", [1, 3, 7, 41])
def test_window_means_are_those_of_the_residues_of_a_chain_in_reach(window):
    features, mask = example()
    mask = mask.at[10].set(False)
    _, ours = window_means(features, mask, (9, window))
    residues = np.flatnonzero(mask)
    for chain in (residues[residues < 10], residues[residues > 10]):
        for position in chain:
            reach = chain[abs(chain - position) <= window // 2]
            expected = np.mean([features[at] for at in reach], axis=0)
            np.testing.assert_allclose(ours[position], expected, atol=1e-5)


def test_window_head_reads_means_extremes_and_spread():
    head = make("window_mlp", hidden=(), windows=(5,))
    features, mask = example()
    residues = np.asarray(features)[1:-1]
    windows = window_means(features, mask, (5,))[0][1:-1]
    spread = np.sqrt(np.var(windows, axis=0) + 1e-6)
    inputs = np.concatenate([residues.mean(0), [np.log(21 / 300)], windows.max(0), windows.min(0), spread])
    weight, bias = head.mlp.layers[0].weight[0], head.mlp.layers[0].bias[0]
    np.testing.assert_allclose(score(head, features, mask), weight @ inputs + bias, rtol=1e-5, atol=1e-5)
    pooled = np.random.default_rng(0).normal(3, 5, size=(50, len(inputs))).astype(np.float32)
    expected = weight @ ((inputs - pooled.mean(0)) / (pooled.std(0) + MIN_SPREAD)) + bias
    np.testing.assert_allclose(score(head.standardise(pooled), features, mask), expected, rtol=1e-4, atol=1e-5)


def test_an_ensemble_is_the_mean_of_its_members_one_by_one():
    ensemble = make("ensemble")
    features, mask = example()
    arrays, rest = eqx.partition(ensemble.members, eqx.is_array)
    members = [eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], arrays), rest) for i in range(3)]
    logits = np.array([score(member, features, mask) for member in members])
    assert len(set(logits.tolist())) == 3
    np.testing.assert_allclose(ensemble.logits(features, mask), logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(score(ensemble, features, mask), logits.mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mean_pool_mlp", "composition_mlp", "window_mlp", "ensemble"])
def test_what_is_pooled_first_gets_the_same_logits(name):
    features, mask = example()
    head = make(name)
    if head.wants_standardising:
        rows = np.random.default_rng(0).normal(size=(9, len(head.pool(features, mask))))
        head = head.standardise(rows.astype(np.float32))
        assert not head.wants_standardising
    pooled = head.pool(features, mask)
    np.testing.assert_allclose(head.score_members(pooled), head.logits(features, mask), rtol=1e-6)
    with_dropout = [head.score_members(pooled, key=KEY), head.logits(features, mask, key=KEY)]
    np.testing.assert_allclose(*with_dropout, rtol=1e-6)


def test_heads_with_parameters_before_the_pooling_are_not_pooled_first():
    assert make("convolution").pooling is None
    assert make("attention_pool_mlp").pooling is None


def test_refuses_an_ensemble_of_another_width():
    with pytest.raises(ValueError, match=r"member\.d_model 7 is not d_model 12"):
        EnsembleConfig(12, MeanPoolMLPConfig(7))


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.5, 0.75, 0.99])
def test_quantiles_are_those_of_numpy_over_residues(quantile):
    features, mask = example()
    mask = mask.at[10].set(False)
    (ours,) = quantile_pool(features, mask, (quantile,))
    np.testing.assert_allclose(ours, np.quantile(np.asarray(features)[np.asarray(mask)], quantile, axis=0), atol=1e-6)
    (none,) = quantile_pool(features, jnp.zeros_like(mask), (quantile,))
    np.testing.assert_array_equal(none, 0)


def test_a_committee_is_the_mean_of_its_members_on_their_own_columns():
    head = make("committee")
    features, mask = example()
    first, second = head.config.parts
    alone = head.heads[0](features[:, first.start : first.stop], mask)
    others = head.heads[1].logits(features[:, second.start : second.stop], mask)
    np.testing.assert_allclose(head(features, mask), np.mean([alone, *others]), rtol=1e-5)
    np.testing.assert_allclose(head.score_members(head.pool(features, mask)), [alone, *others], rtol=1e-5)


def test_a_committee_puts_what_each_head_pools_on_one_scale():
    head = make("committee")
    rows = np.stack([head.pool(*example(seed=seed)) for seed in range(50)])
    ready = head.standardise(rows)
    assert head.wants_standardising
    assert not ready.wants_standardising
    centres = np.concatenate([ready.heads[0].centre, ready.heads[1].members.centre[0]])
    np.testing.assert_allclose(centres, rows.mean(0), rtol=1e-5, atol=1e-6)


def test_refuses_a_part_that_does_not_fit():
    member = MeanPoolMLPConfig(4)
    with pytest.raises(ValueError, match="takes columns up to 9, and d_model is 8"):
        CommitteeConfig(8, (PartConfig(5, 9, member),))
    with pytest.raises(ValueError, match=r"head\.d_model 4 is not stop - start, 3"):
        PartConfig(5, 8, member)
