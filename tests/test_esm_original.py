"""ESM-C against the torch original of the first release, PyPI's `esm`, and the legacy layout.

It needs huggingface-hub 0.36, so it runs in an environment of its own (`make test-esm`).
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
esmc = pytest.importorskip("esm.models.esmc", reason="PyPI's esm is in an environment of its own")

from esm.tokenization import get_esmc_model_tokenizers
from originals import TINY, perturb, relative_l2
from safetensors.torch import save_file

from conversion.export import export
from conversion.port import port
from conversion.sources import open_source
from eqxesm import ESMC, InputError, Tokenizer
from eqxesm.alphabet import PAD, VOCABULARY
from eqxesm.encoders import PRESETS, cast

TOLERANCE = 1e-5
LAYERS, D_MODEL, HEADS = TINY["layers"], TINY["d_model"], TINY["heads"]


def make_original(layers: int = LAYERS, d_model: int = D_MODEL, heads: int = HEADS, seed: int = 0):
    torch.manual_seed(seed)
    model = esmc.ESMC(d_model, heads, layers, get_esmc_model_tokenizers()).eval()
    perturb(model, seed)
    return model


@pytest.fixture(scope="module")
def original():
    return make_original()


@pytest.fixture(scope="module")
def encoder(original, tmp_path_factory) -> ESMC:
    folder = tmp_path_factory.mktemp("original")
    torch.save(original.state_dict(), folder / "esmc_tiny_v0.pth")
    report = port(None, open_source("esmc_300m", str(folder / "esmc_tiny_v0.pth")), folder / "ours")
    assert report.layout.name == "legacy"
    return ESMC.from_pretrained(folder / "ours")


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    tokenizer = Tokenizer()
    rows = ["MKTAYIAKQRQISFVKSHFSRQ", "".join(VOCABULARY[4:31]), "M_K<mask>L"]
    return tokenizer.encode_batch(rows, 40)


def run_original(model, tokens: np.ndarray):
    with torch.no_grad():
        return model(torch.tensor(tokens, dtype=torch.long))


def test_tokenizers_agree(original):
    sequence = "".join(VOCABULARY[4:29]) + "_|<mask>-."
    theirs = original._tokenize([sequence])[0].numpy()
    np.testing.assert_array_equal(Tokenizer().encode(sequence), theirs)


def test_embedding_logits_and_hidden_states(original, encoder, tokens):
    theirs = run_original(original, tokens)
    layers = tuple(range(LAYERS))
    ours = jax.vmap(lambda t: encoder(t, hidden_states=layers))(jnp.asarray(tokens))
    kept = tokens != PAD
    where = torch.tensor(kept)
    assert relative_l2(np.asarray(ours.embedding)[kept], theirs.embeddings[where]) <= TOLERANCE
    assert relative_l2(np.asarray(ours.logits)[kept], theirs.sequence_logits[where]) <= TOLERANCE
    # Its list starts at the first block, and its last entry comes before the final norm.
    for number in layers[1:]:
        distance = relative_l2(
            np.asarray(ours.hidden_states)[:, number][kept], theirs.hidden_states[number - 1][where]
        )
        assert distance <= TOLERANCE, f"hidden state {number}"
    last = jax.vmap(lambda t: encoder.run_blocks(t, None, (), False)[0])(jnp.asarray(tokens))
    assert relative_l2(np.asarray(last)[kept], theirs.hidden_states[-1][where]) <= TOLERANCE


def test_bfloat16(original, encoder, tokens):
    truth = run_original(original, tokens).sequence_logits
    theirs = run_original(make_original().to(torch.bfloat16), tokens).sequence_logits
    half = cast(encoder, jnp.bfloat16)
    ours = jax.vmap(lambda t: half(t).logits)(jnp.asarray(tokens)).astype(jnp.float32)
    kept = tokens != PAD
    where = torch.tensor(kept)
    ours = np.asarray(ours)[kept]
    assert relative_l2(ours, theirs[where]) <= 3e-2
    assert relative_l2(ours, truth[where]) <= 1.2 * relative_l2(theirs[where], truth[where])


def test_chains_are_kept_apart(original, encoder):
    tokenizer = Tokenizer()
    tokens = tokenizer.encode_batch(["MKTAY|IAKQRQ|ISF"])
    sequence_id = tokenizer.sequence_id(tokens)
    with torch.no_grad():
        theirs = original(
            torch.tensor(tokens, dtype=torch.long), torch.tensor(sequence_id)
        ).embeddings
    ours = encoder(tokens[0], sequence_id[0]).embedding
    assert relative_l2(ours, theirs[0]) <= TOLERANCE


def test_its_state_dict_is_the_legacy_layout_whole(original, tmp_path):
    state = {name: tensor.contiguous() for name, tensor in original.state_dict().items()}
    del state["sequence_head.2.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"missing sequence_head\.2\.bias"):
        port(None, open_source("esmc_300m", str(tmp_path)), tmp_path / "ours")


def test_it_loads_what_we_export(original, encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "ours")
    export(tmp_path / "ours", "legacy", tmp_path / "theirs")
    (file,) = (tmp_path / "theirs" / "data" / "weights").iterdir()
    state = torch.load(file, weights_only=True)
    fresh = make_original(seed=1)
    fresh.load_state_dict(state, strict=True)
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config == {"d_model": D_MODEL, "n_heads": HEADS, "n_layers": LAYERS}
    for name, tensor in original.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name


@pytest.mark.slow
def test_300m(tmp_path, tokens, monkeypatch):
    preset = PRESETS["esmc_300m"]
    original = make_original(preset.layers, preset.d_model, preset.heads)
    torch.save(original.state_dict(), tmp_path / "esmc_300m_2024_12_v0.pth")
    port("esmc_300m", open_source("esmc_300m", str(tmp_path)), tmp_path / "ours")
    encoder = ESMC.from_pretrained(tmp_path / "ours")
    theirs = run_original(original, tokens)
    ours = jax.jit(jax.vmap(lambda t: encoder(t)))(jnp.asarray(tokens))
    kept = tokens != PAD
    where = torch.tensor(kept)
    assert relative_l2(np.asarray(ours.embedding)[kept], theirs.embeddings[where]) <= TOLERANCE
    assert relative_l2(np.asarray(ours.logits)[kept], theirs.sequence_logits[where]) <= TOLERANCE
    # Back again, through the door that its users take: where they work on a copy of the release.
    export(tmp_path / "ours", "legacy", tmp_path / "release")
    monkeypatch.setenv("INFRA_PROVIDER", "local")
    monkeypatch.chdir(tmp_path / "release")
    loaded = esmc.ESMC.from_pretrained("esmc_300m", device=torch.device("cpu"))
    again = run_original(loaded, tokens)
    assert torch.equal(again.sequence_logits, theirs.sequence_logits)
