"""ESM-C against transformers' original, rung by rung: rotary, attention, block, stack, logits."""

import copy

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")

from originals import TINY, as_long, relative_l2, transformers_original
from transformers.models.esmc import modeling_esmc

from conversion.port import port
from conversion.sources import open_source
from eqxesm import ESMC, InputError, OneHot, Tokenizer
from eqxesm.alphabet import MASK, PAD, RESIDUES, VOCAB_SIZE, VOCABULARY, is_residue
from eqxesm.encoders import PRESETS, as_probabilities, cast, residue_mask
from eqxesm.encoders.attention import attend, attend_by_chunks, attend_by_cudnn, rotary_turns, rotate, suits_cudnn

TOLERANCE = 1e-5
TOKENIZER = Tokenizer()
PROTEINS = ["MKTAYIAKQRQISFVKSHFSRQ", "ACDEFGHIKLMNPQRSTVWYXBUZO.-", "M_K<mask>L"]


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    """Unequal lengths, every token of the vocabulary, and padding."""
    rows = [TOKENIZER.encode(protein) for protein in PROTEINS]
    every = np.array([0, *range(3, len(VOCABULARY)), *range(33, VOCAB_SIZE), 2], np.int32)
    rows.append(every)
    padded = np.full((len(rows), len(every) + 7), PAD, np.int32)
    for filled, row in zip(padded, rows, strict=True):
        filled[: len(row)] = row
    return padded


def run_original(model, tokens: np.ndarray, **options):
    with torch.no_grad():
        return model(as_long(tokens), attention_mask=torch.tensor(tokens != PAD), output_hidden_states=True, **options)


@pytest.fixture(scope="module")
def theirs(original, batch):
    """What the original computes for the batch."""
    return run_original(original, batch)


@eqx.filter_jit
def run(encoder: ESMC, tokens, sequence_id=None, **options):
    if sequence_id is None:
        return jax.vmap(lambda t: encoder(t, **options))(tokens)
    return jax.vmap(lambda t, s: encoder(t, s, **options))(tokens, sequence_id)


@eqx.filter_jit
def run_one(encoder: ESMC, inputs, sequence_id=None):
    return encoder(inputs, sequence_id)


@pytest.mark.parametrize("length", [1, 50, 2048])
def test_rotary_embedding_is_the_originals(original, length):
    x = torch.randn(1, 2, length, 64, generator=torch.Generator().manual_seed(1))
    cos, sin = original.esmc.rotary_emb(x, torch.arange(length)[None])
    theirs, _ = modeling_esmc.apply_rotary_pos_emb(x, x, cos, sin)
    ours = rotate(jnp.asarray(x[0].numpy()), rotary_turns(length, 64))
    assert relative_l2(ours, theirs[0]) <= 1e-6


def block_inputs(original, length=40):
    x = torch.randn(1, length, TINY.d_model, generator=torch.Generator().manual_seed(2))
    position = original.esmc.rotary_emb(x, torch.arange(length)[None])
    return x, position, rotary_turns(length, 64), jnp.zeros(length, int)


def layer(encoder: ESMC, number: int):
    return jax.tree.map(lambda a: a[number] if eqx.is_array(a) else a, encoder.blocks)


def test_attention_is_the_originals(original, encoder):
    x, position, turns, chains = block_inputs(original)
    with torch.no_grad():
        theirs, _ = original.esmc.layers[1].self_attn(x, None, position)
    ours = layer(encoder, 1).attention(jnp.asarray(x[0].numpy()), turns, chains)
    assert relative_l2(ours, theirs[0]) <= TOLERANCE


def test_block_is_the_originals(original, encoder):
    x, position, turns, chains = block_inputs(original)
    with torch.no_grad():
        theirs = original.esmc.layers[2](x, None, position)
    ours = layer(encoder, 2)(jnp.asarray(x[0].numpy()), turns, chains)
    assert relative_l2(ours, theirs[0]) <= TOLERANCE


def test_lm_head_is_the_originals(original, encoder):
    x = 3 * torch.randn(30, TINY.d_model, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        theirs = original.lm_head(x)
    assert relative_l2(encoder.lm_head(jnp.asarray(x.numpy())), theirs) <= TOLERANCE


def test_stack_before_the_final_norm_is_the_originals(original, encoder, batch):
    seen = []
    hook = original.esmc.norm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    run_original(original, batch)
    hook.remove()
    ours = jax.vmap(lambda t: encoder.run_blocks(t, None, (), False)[0])(jnp.asarray(batch))
    assert relative_l2(ours, seen[0], batch != PAD) <= TOLERANCE


def test_embedding_logits_and_hidden_states_are_the_originals(encoder, batch, theirs):
    layers = tuple(range(TINY.layers + 1))
    ours = run(encoder, batch, hidden_states=layers)
    kept = batch != PAD
    assert relative_l2(ours.logits, theirs.logits, kept) <= TOLERANCE
    assert len(theirs.hidden_states) == len(layers)
    for number in layers:
        distance = relative_l2(ours.hidden_states[:, number], theirs.hidden_states[number], kept)
        assert distance <= TOLERANCE, f"hidden state {number}"
    np.testing.assert_array_equal(ours.embedding, ours.hidden_states[:, -1])


def test_attentions_are_the_originals(original, encoder, batch):
    original.set_attn_implementation("eager")
    try:
        theirs = run_original(original, batch, output_attentions=True).attentions
    finally:
        original.set_attn_implementation("sdpa")
    blocks = tuple(range(TINY.layers))
    ours = run(encoder, batch, attentions=blocks).attentions
    kept = np.broadcast_to((batch != PAD)[:, None, :, None], ours[:, 0].shape)
    for number in blocks:
        # Of padding each implementation puts out something else.
        both = (np.where(kept, np.asarray(each), 0) for each in (ours[:, number], theirs[number]))
        np.testing.assert_allclose(*both, atol=1e-5)
    few = run(encoder, batch, attentions=(-1, 0), hidden_states=(1, 0))
    np.testing.assert_array_equal(few.attentions, ours[:, [-1, 0]])
    np.testing.assert_array_equal(few.hidden_states, run(encoder, batch, hidden_states=(1, 0)).hidden_states)
    assert run(encoder, batch).attentions is None
    with pytest.raises(InputError, match="block 3 has no attentions, expected 0 to 2"):
        encoder(batch[0], attentions=(3,))


def test_features_are_the_embedding(encoder, batch):
    features = eqx.filter_jit(eqx.filter_vmap(encoder.features))(jnp.asarray(batch))
    np.testing.assert_array_equal(features, run(encoder, batch).embedding)


def test_hidden_states_come_in_the_order_asked_for(encoder, batch):
    every = run(encoder, batch, hidden_states=(0, 1, 2, 3)).hidden_states
    chosen = run(encoder, batch, hidden_states=(-1, 0, 2)).hidden_states
    np.testing.assert_array_equal(chosen, every[:, [3, 0, 2]])
    assert run(encoder, batch).hidden_states.shape[1] == 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((4,), "hidden state 4 does not exist, expected 0 to 3"),
        ((-5,), "hidden state -5 does not exist"),
        ((1, 1), r"hidden states \(1, 1\) name a layer twice"),
        ((3, -1), "name a layer twice"),
    ],
)
def test_refuses_hidden_states_that_do_not_exist_or_repeat(encoder, batch, asked, message):
    with pytest.raises(InputError, match=message):
        encoder(batch[0], hidden_states=asked)


@pytest.mark.parametrize("columns", [33, 20])
def test_refuses_probabilities_of_another_vocabulary(encoder, columns):
    for each in (encoder, OneHot()):
        with pytest.raises(ValueError, match=rf"probabilities \[length 64\].* float32 \[5, {columns}\]"):
            each.features(np.zeros((5, columns), np.float32))


def test_chains_are_kept_apart_as_in_the_original(original, encoder):
    tokens = TOKENIZER.encode_batch(["MKTAY|IAKQRQ|ISF", ["ACDEFGHIK", "LMNP"]])
    sequence_id = TOKENIZER.sequence_id(tokens)
    theirs = run_original(original, tokens, sequence_id=torch.tensor(sequence_id))
    ours = run(encoder, tokens, sequence_id)
    kept = tokens != PAD
    assert relative_l2(ours.embedding, theirs.hidden_states[-1], kept) <= TOLERANCE
    one_chain = run(encoder, tokens)
    assert relative_l2(ours.embedding, one_chain.embedding, kept) > 0.01


def test_padding_changes_nothing(encoder):
    tokens = TOKENIZER.encode(PROTEINS[0])
    alone = run_one(encoder, tokens).embedding
    for extra in (1, 30, 200):
        padded = np.concatenate([tokens, np.full(extra, PAD, np.int32)])
        output = run_one(encoder, padded)
        assert relative_l2(output.embedding[: len(tokens)], alone) <= 1e-6
        assert jnp.isfinite(output.embedding).all()


def test_content_of_the_padding_changes_nothing(encoder):
    tokens = np.concatenate([TOKENIZER.encode(PROTEINS[0]), np.full(9, PAD, np.int32)])
    sequence_id = TOKENIZER.sequence_id(tokens)
    other = np.where(tokens == PAD, np.int32(20), tokens)
    kept = tokens != PAD
    ours, same = (run_one(encoder, each, sequence_id).embedding for each in (tokens, other))
    np.testing.assert_array_equal(ours[kept], same[kept])


def test_one_hot_probabilities_give_what_tokens_give(encoder, batch):
    by_tokens = run(encoder, batch)
    by_probabilities = jax.vmap(lambda t: encoder(as_probabilities(t)))(jnp.asarray(batch))
    assert relative_l2(by_probabilities.logits, by_tokens.logits) <= 1e-6


def test_probabilities_give_the_expected_embedding(original, encoder):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(VOCAB_SIZE), 12).astype(np.float32)
    theirs = torch.tensor(probabilities) @ original.esmc.embed_tokens.weight.detach()
    ours = encoder(probabilities, hidden_states=(0,)).hidden_states[0]
    assert relative_l2(ours, theirs) <= 1e-6


def test_gradient_with_respect_to_probabilities(encoder):
    """Against central differences along random directions, in float64, on a padded protein."""
    with jax.enable_x64(True):
        encoder = cast(encoder, jnp.float64)
        tokens = np.concatenate([TOKENIZER.encode("MKTAYIAK"), np.full(3, PAD, np.int32)])
        probabilities = jax.nn.one_hot(tokens, VOCAB_SIZE, dtype=jnp.float64)
        sequence_id = jnp.asarray(TOKENIZER.sequence_id(tokens))
        weights = jax.random.normal(jax.random.key(0), (len(tokens), VOCAB_SIZE), jnp.float64)
        weights = jnp.where((sequence_id >= 0)[:, None], weights, 0)

        @jax.jit
        def objective(probabilities):
            return (encoder(probabilities, sequence_id).logits * weights).sum()

        gradient = jax.jit(jax.grad(objective))(probabilities)
        assert jnp.isfinite(gradient).all()
        for seed in range(3):
            direction = jax.random.normal(jax.random.key(seed + 1), gradient.shape, jnp.float64)
            step = 1e-5
            difference = (objective(probabilities + step * direction) - objective(probabilities - step * direction)) / (
                2 * step
            )
            np.testing.assert_allclose((gradient * direction).sum(), difference, rtol=1e-6)


def test_gradients_of_parameters_are_the_originals(original, encoder):
    tokens = TOKENIZER.encode_batch(PROTEINS[:2])
    kept = tokens != PAD

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(encoder):
        return (run(encoder, tokens).embedding ** 2 * kept[..., None].astype(np.float32)).sum()

    ours = gradient(encoder)
    original.zero_grad()
    output = original.esmc(as_long(tokens), attention_mask=torch.tensor(kept)).last_hidden_state
    (output**2 * torch.tensor(kept)[..., None]).sum().backward()
    layers = original.esmc.layers
    pairs = {
        "query": (ours.blocks.attention.query.weight[0], layers[0].self_attn.q_proj.weight),
        "key norm": (ours.blocks.attention.key_norm.weight[1], layers[1].self_attn.k_norm.weight),
        "down": (ours.blocks.ffn.down.weight[2], layers[2].mlp.down_proj.weight),
        "embedding": (ours.embedding, original.esmc.embed_tokens.weight),
    }
    for name, (mine, theirs) in pairs.items():
        assert relative_l2(mine, theirs.grad) <= 1e-4, name


def test_rematerialisation_changes_no_gradient(encoder):
    tokens = TOKENIZER.encode(PROTEINS[0])

    @eqx.filter_grad
    def gradient(encoder, remat):
        return encoder(tokens, hidden_states=(1, 2), remat=remat).hidden_states.sum()

    plain, remat = (eqx.filter_jit(gradient)(encoder, remat) for remat in (False, True))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(remat), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_as_near_the_truth_as_the_original(original, encoder, batch, theirs):
    truth = theirs
    theirs = run_original(copy.deepcopy(original).to(torch.bfloat16), batch)
    ours = run(cast(encoder, jnp.bfloat16), batch)
    assert ours.embedding.dtype == jnp.bfloat16
    kept = batch != PAD
    for mine, its, true in (
        (ours.embedding, theirs.hidden_states[-1], truth.hidden_states[-1]),
        (ours.logits, theirs.logits, truth.logits),
    ):
        assert relative_l2(mine, its, kept) <= 3e-2
        assert relative_l2(mine, true, kept) <= 1.2 * relative_l2(its, true, kept)


def test_residue_scale_is_the_originals(original):
    assert TINY.residue_scale == pytest.approx(original.esmc.layers[0].scaling_factor, abs=1e-12)


def test_residue_masks_of_tokens_and_of_probabilities_agree():
    tokens = np.array([0, *range(3, VOCAB_SIZE), 2, PAD], np.int32)
    hard = residue_mask(tokens)
    np.testing.assert_array_equal(hard.at[tokens == MASK].set(True), hard)
    np.testing.assert_array_equal(residue_mask(as_probabilities(tokens)), hard)
    assert int(hard.sum()) == 26


def test_one_hot_features_are_the_residue_letters():
    tokens = np.concatenate([TOKENIZER.encode("MKXO_"), [PAD]]).astype(np.int32)
    features = OneHot().features(tokens)
    assert features.shape == (8, OneHot().d_model) == (8, len(RESIDUES))
    letters = [None, *"MKXO", None, None, None]
    expected = [[float(letter == residue) for residue in RESIDUES] for letter in letters]
    np.testing.assert_array_equal(features, expected)
    assert is_residue(tokens).sum() == 5


def test_vmap_jit_and_loop_agree(encoder, batch):
    compiled = run(encoder, batch).embedding
    mapped = jax.vmap(lambda tokens: encoder(tokens).embedding)(jnp.asarray(batch))
    for row, tokens in enumerate(batch):
        alone = run_one(encoder, tokens).embedding
        assert relative_l2(compiled[row], alone, tokens != PAD) <= 1e-6
        assert relative_l2(mapped[row], alone, tokens != PAD) <= 1e-6
    assert relative_l2(encoder(batch[0]).embedding, compiled[0], batch[0] != PAD) <= 1e-6


def test_bfloat16_rotates_in_float32():
    x = jax.random.normal(jax.random.key(0), (2, 1500, 64)).astype(jnp.bfloat16)
    turns = rotary_turns(1500, 64)
    wide = rotate(x.astype(jnp.float32), turns).astype(jnp.bfloat16)
    np.testing.assert_array_equal(rotate(x, turns).astype(jnp.float32), wide.astype(jnp.float32))


@pytest.mark.parametrize("length", [50, 1024, 1279, 1281])
def test_attention_and_its_gradient_are_those_of_torch(length):
    """Two chains and padding; long ones go by chunks of queries."""
    chains = np.repeat([0, 1, -1], [length // 3, length // 2, length - length // 3 - length // 2])
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, weight = (jax.random.normal(key, (2, length, 16)) for key in keys)
    theirs = [torch.tensor(np.asarray(x), dtype=torch.float64, requires_grad=True) for x in (q, k, v)]
    mask = torch.tensor(chains[:, None] == chains[None])
    output = torch.nn.functional.scaled_dot_product_attention(*theirs, attn_mask=mask)
    output.backward(torch.tensor(np.asarray(weight), dtype=torch.float64))
    ours, pull = jax.vjp(lambda q, k, v: attend(q, k, v, jnp.asarray(chains)), q, k, v)
    assert relative_l2(ours, output.detach().numpy()) <= 1e-6
    for found, expected in zip(pull(weight), theirs, strict=True):
        assert relative_l2(found, expected.grad.numpy()) <= 1e-6


def test_the_attention_of_jax_gets_the_same_mask():
    """What runs by cuDNN on a GPU, here by the same function of JAX's in plain products."""
    chains = jnp.repeat(jnp.array([0, 1, -1]), jnp.array([20, 20, 10]))
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (3, 50, 16)) for key in keys)
    ours, pull = jax.vjp(lambda *x: attend(*x, chains), q, k, v)
    theirs, their_pull = jax.vjp(lambda *x: attend_by_cudnn(*x, chains, implementation="xla"), q, k, v)
    assert relative_l2(ours, theirs) <= 1e-6
    for found, expected in zip(pull(ours), their_pull(ours), strict=True):
        assert relative_l2(found, expected) <= 1e-6


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="no GPU")
def test_cudnn_attends_as_chunks_do():
    chains = jnp.repeat(jnp.array([0, 1, -1]), jnp.array([400, 500, 124]))
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (15, 1024, 64), jnp.bfloat16) for key in keys)
    assert suits_cudnn(q)
    ours, pull = jax.vjp(lambda *x: attend(*x, chains), q, k, v)
    chunks, their_pull = jax.vjp(lambda *x: attend_by_chunks(*x, chains), q, k, v)
    assert relative_l2(ours, chunks) <= 1e-2
    for found, expected in zip(pull(ours), their_pull(ours), strict=True):
        assert relative_l2(found, expected) <= 1e-2


@pytest.mark.parametrize("gradient", [False, True])
def test_memory_of_attention_is_linear_in_the_length(gradient):
    def needed(length: int) -> int:
        def loss(q, k, v):
            return attend(q, k, v, jnp.zeros(length, int)).sum()

        shape = jax.ShapeDtypeStruct((4, length, 60), jnp.float32)
        function = jax.grad(loss, argnums=(0, 1, 2)) if gradient else loss
        return jax.jit(function).lower(shape, shape, shape).compile().memory_analysis().temp_size_in_bytes

    assert needed(32_768) <= 4.1 * needed(8_192)
    # The scores of all pairs alone are 17 GB.
    assert needed(32_768) <= 1e9


def test_bfloat16_attends_with_scores_in_float32():
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (2 * jax.random.normal(key, (2, 1000, 64)).astype(jnp.bfloat16) for key in keys)
    scores = np.einsum("hqd,hkd->hqk", *(np.asarray(x, np.float64) for x in (q, k))) / 8
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    expected = np.einsum("hqk,hkd->hqd", weights, np.asarray(v, np.float64))
    found = attend(q, k, v, jnp.zeros(1000, int)).astype(jnp.float32)
    # Rounding of weights and outputs alone; scores in bfloat16 would be ten times further.
    assert relative_l2(found, expected) <= 4e-3


@pytest.mark.slow
def test_300m_is_the_originals(tmp_path):
    """Full size: the deepest rung, on real shapes."""
    original = transformers_original(PRESETS["esmc_300m"])
    original.save_pretrained(tmp_path / "theirs")
    port("esmc_300m", open_source("esmc_300m", str(tmp_path / "theirs")), tmp_path / "ours")
    encoder = ESMC.from_pretrained(tmp_path / "ours")
    rng = np.random.default_rng(0)
    letters = list("LAGVSERTIDPKQNFYMHWCXBUZO")
    tokens = TOKENIZER.encode_batch(["".join(rng.choice(letters, n)) for n in (120, 61)])
    theirs = run_original(original, tokens)
    ours = run(encoder, tokens)
    kept = tokens != PAD
    assert relative_l2(ours.embedding, theirs.hidden_states[-1], kept) <= TOLERANCE
    assert relative_l2(ours.logits, theirs.logits, kept) <= TOLERANCE
