"""The state-space encoder against a plain recurrence, and what every encoder must keep."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqxesm import ESMC, InputError, Tokenizer
from eqxesm.alphabet import PAD
from eqxesm.encoders import SSM, ESMCConfig, SSMConfig, as_probabilities, cast, load_encoder
from eqxesm.encoders.ssm import CHUNK, TAPS, convolve, scan_states

CONFIG = SSMConfig(layers=2, d_model=16, heads=4, d_state=3)
LENGTHS = [1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7]
TOLERANCE = 2e-5

features_of = eqx.filter_jit(SSM.features)


@pytest.fixture(scope="module")
def encoder() -> SSM:
    return SSM(CONFIG, key=jax.random.key(0))


def make_arguments(length: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(length, 2, 4)).astype(np.float32)
    steps, decay = rng.exponential(0.3, size=(2, length, 2)).astype(np.float32)
    write, read = rng.normal(size=(2, length, 3)).astype(np.float32)
    chains = np.cumsum(rng.random(length) < 0.03).astype(np.int32)
    return tuple(map(jnp.asarray, (values, steps, -decay, write, read))), jnp.asarray(chains)


def run_plainly(values, steps, decay, write, read, chains):
    """The recurrence position by position, in double precision."""
    values, steps, decay, write, read, chains = map(np.asarray, (values, steps, decay, write, read, chains))
    outputs, state = [], 0.0
    for t in range(len(values)):
        state = state if t and chains[t] == chains[t - 1] else np.zeros((*values.shape[1:], write.shape[1]))
        new = (steps[t][:, None] * values[t])[:, :, None] * write[t][None, None, :]
        state = np.exp(decay[t].astype(np.float64))[:, None, None] * state + new
        outputs.append(state @ read[t])
    return np.stack(outputs)


@pytest.mark.parametrize("length", LENGTHS)
def test_scan_is_the_recurrence(length):
    arguments, chains = make_arguments(length)
    ours = scan_states(*arguments, chains)
    np.testing.assert_allclose(ours, run_plainly(*arguments, chains), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
def test_state_is_kept_over_many_chunks():
    length = 16 * CHUNK
    values = jnp.zeros((length, 1, 1)).at[0].set(1)
    ones, none, chain = jnp.ones((length, 1)), jnp.zeros((length, 1)), jnp.zeros(length, int)
    kept = scan_states(values, ones, none, ones, ones, chain)
    np.testing.assert_array_equal(kept, np.ones((length, 1, 1)))
    halved = scan_states(values, ones, none - np.log(2) / 100, ones, ones, chain)
    np.testing.assert_allclose(halved[[100, 400], 0, 0], [1 / 2, 1 / 16], rtol=1e-4)


def test_fast_decay_neither_overflows_nor_spoils_the_gradient():
    (values, steps, decay, write, read), chains = make_arguments(2 * CHUNK)
    scan = jax.jit(lambda *given: scan_states(*given, chains))
    outputs, pull = jax.vjp(scan, values, steps, decay - 1e4, write, read)
    own = (steps * (write * read).sum(-1)[:, None])[..., None]
    np.testing.assert_allclose(outputs, values * own, atol=TOLERANCE, rtol=TOLERANCE)
    assert all(np.isfinite(each).all() for each in pull(jnp.ones_like(outputs)))


@pytest.mark.slow
def test_gradients_are_those_of_the_recurrence():
    arguments, chains = make_arguments(2 * CHUNK + 9)

    def scan_plainly(values, steps, decay, write, read):
        starts = jnp.concatenate([jnp.ones(1, bool), chains[1:] != chains[:-1]])

        def step(state, at):
            value, rate, written, asked, start = at
            state = jnp.where(start, 0, state) * jnp.exp(rate)[:, None, None] + value[..., None] * written[None, None]
            return state, state @ asked

        none = jnp.zeros((*values.shape[1:], write.shape[1]))
        return jax.lax.scan(step, none, (values * steps[..., None], decay, write, read, starts))[1]

    change = jnp.asarray(np.random.default_rng(1).normal(size=arguments[0].shape), jnp.float32)
    ours, theirs = (
        jax.vjp(function, *arguments)[1](change) for function in (lambda *g: scan_states(*g, chains), scan_plainly)
    )
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4, rtol=1e-4)


def test_convolution_is_numpys():
    rng = np.random.default_rng(0)
    x, taps = (rng.normal(size=(rows, 5)).astype(np.float32) for rows in (20, TAPS))
    chains = np.repeat([0, 1], [12, 8])
    ours = convolve(jnp.asarray(x), jnp.asarray(taps), jnp.asarray(chains))
    for part in (slice(0, 12), slice(12, 20)):
        for column in range(5):
            theirs = np.convolve(x[part, column], taps[::-1, column], mode="same")
            np.testing.assert_allclose(ours[part, column], theirs, atol=1e-5)


def test_a_reversed_protein_has_reversed_features_when_directions_are_swapped(encoder):
    tokens = Tokenizer().encode("MKTAYIAKQRQISFVKSHFSRQ")
    blocks = encoder.blocks
    swapped = eqx.tree_at(
        lambda e: (e.blocks.forward, e.blocks.backward, e.blocks.taps),
        encoder,
        (blocks.backward, blocks.forward, blocks.taps[:, ::-1]),
    )
    turned = features_of(swapped, tokens[::-1])
    np.testing.assert_allclose(turned, features_of(encoder, tokens)[::-1], atol=TOLERANCE)


def test_every_residue_reaches_every_feature(encoder):
    soft = as_probabilities(Tokenizer().encode("ACDEFGHIKL"))
    # Not the plain sum, which the final norm keeps at zero.
    seen = jnp.asarray(np.random.default_rng(0).normal(size=CONFIG.d_model), jnp.float32)
    reached = jax.jit(jax.jacobian(lambda soft: encoder.features(soft) @ seen))(soft)
    assert (np.abs(reached).max(-1) > 1e-6).all()


def test_soft_sequence_is_the_tokens_and_has_their_gradient(encoder):
    tokens = Tokenizer().encode("MKTAYIAK")
    soft = as_probabilities(tokens)
    np.testing.assert_allclose(features_of(encoder, soft), features_of(encoder, tokens), atol=TOLERANCE)
    slope = jax.jit(jax.grad(lambda soft: encoder.features(soft)[0, 0]))(soft)
    direction = np.random.default_rng(0).normal(size=soft.shape).astype(np.float32)
    step = 2e-3
    ends = [features_of(encoder, soft + sign * step * direction)[0, 0] for sign in (1, -1)]
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), (slope * direction).sum(), rtol=1e-2)


@pytest.mark.parametrize("extra", [1, CHUNK, 100])
def test_padding_changes_nothing(encoder, extra):
    tokens = Tokenizer().encode("MKTAYIAKQRQISFVKSHFSRQ" * 4)
    padded = np.concatenate([tokens, np.full(extra, PAD, np.int32)])
    ours = features_of(encoder, padded)[: len(tokens)]
    np.testing.assert_allclose(ours, features_of(encoder, tokens), atol=TOLERANCE)


def test_chains_do_not_see_each_other(encoder):
    first, second = (Tokenizer().encode(each) for each in ("MKTAYIAKQRQISFV", "GSHMLEDPVE"))
    joined, chains = np.concatenate([first, second]), np.repeat([3, 0], [len(first), len(second)])
    both = features_of(encoder, joined, chains)
    alone = np.concatenate([features_of(encoder, each) for each in (first, second)])
    np.testing.assert_allclose(both, alone, atol=TOLERANCE)


def test_batch_is_its_proteins(encoder):
    tokens = np.stack([Tokenizer().encode("MKTAYIAKQR"), Tokenizer().encode("GSHMLEDPVE")])
    batch = eqx.filter_jit(lambda encoder, tokens: jax.vmap(encoder.features)(tokens))(encoder, tokens)
    for ours, alone in zip(batch, tokens, strict=True):
        np.testing.assert_allclose(ours, features_of(encoder, alone), atol=TOLERANCE)


@pytest.mark.slow
def test_recomputing_changes_no_gradient(encoder):
    tokens = Tokenizer().encode("MKTAYIAKQRQISFVKSHFSRQ")

    def slope(remat: bool):
        return eqx.filter_grad(lambda e: (e.logits(tokens, remat=remat) ** 2).sum())(encoder)

    kept, recomputed = (jax.tree.leaves(eqx.filter(slope(remat), eqx.is_array)) for remat in (False, True))
    for one, other in zip(kept, recomputed, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)


def test_half_precision_is_close(encoder):
    tokens = Tokenizer().encode("MKTAYIAKQRQISFVKSHFSRQ")
    exact, half = features_of(encoder, tokens), features_of(cast(encoder, "bfloat16"), tokens)
    assert half.dtype == jnp.bfloat16
    assert np.linalg.norm(exact - half.astype(exact.dtype)) / np.linalg.norm(exact) < 0.02


def test_unknown_token_makes_nan_of_the_chain(encoder):
    features = eqx.filter_jit(lambda encoder, tokens: encoder.features(tokens))(encoder, jnp.array([0, 999, 5, 2]))
    assert np.isnan(features).all()


def test_checkpoint_brings_back_the_same_encoder(encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "ssm")
    tokens = Tokenizer().encode("MKTAYIAK")
    for loaded in (SSM.from_pretrained(tmp_path / "ssm"), load_encoder(tmp_path / "ssm")):
        assert loaded.config == CONFIG
        np.testing.assert_array_equal(loaded.logits(tokens), encoder.logits(tokens))


def test_checkpoint_of_another_kind_is_refused(encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "ssm")
    ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0)).save_pretrained(tmp_path / "esmc")
    with pytest.raises(InputError, match="holds an encoder of type ssm, not esmc"):
        ESMC.from_pretrained(tmp_path / "ssm")
    with pytest.raises(InputError, match="holds an encoder of type esmc, not ssm"):
        SSM.from_pretrained(tmp_path / "esmc")
    assert isinstance(load_encoder(tmp_path / "esmc"), ESMC)


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="32, must be a multiple of heads 5"):
        SSMConfig(layers=1, d_model=16, heads=5)
