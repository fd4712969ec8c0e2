"""ESM-C against the torch original of the first release, PyPI's `esm`, and the legacy layout.

It needs huggingface-hub 0.36, so it runs in an environment of its own (`make test-esm`).
"""

import copy
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
esmc = pytest.importorskip("esm.models.esmc", reason="PyPI's esm is in an environment of its own")

from esm.tokenization import get_esmc_model_tokenizers
from originals import TINY, as_long, perturb, relative_l2
from safetensors.torch import save_file

from conversion.export import export
from conversion.port import port
from conversion.sources import open_source
from eqxesm import ESMC, ESMCConfig, InputError, Tokenizer
from eqxesm.alphabet import PAD, VOCABULARY
from eqxesm.encoders import PRESETS, cast

TOLERANCE = 1e-5


def make_original(config: ESMCConfig = TINY, seed: int = 0):
    torch.manual_seed(seed)
    model = esmc.ESMC(config.d_model, config.heads, config.layers, get_esmc_model_tokenizers()).eval()
    perturb(model, seed)
    return model


@pytest.fixture(scope="module")
def original():
    return make_original()


@pytest.fixture(scope="module")
def ported(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    torch.save(original.state_dict(), folder / "esmc_tiny_v0.pth")
    report = port(None, open_source("esmc_300m", str(folder / "esmc_tiny_v0.pth")), folder / "ours")
    assert report.layout.name == "legacy"
    return folder / "ours"


@pytest.fixture(scope="module")
def encoder(ported) -> ESMC:
    return ESMC.from_pretrained(ported)


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    tokenizer = Tokenizer()
    rows = ["MKTAYIAKQRQISFVKSHFSRQ", "".join(VOCABULARY[4:31]), "M_K<mask>L"]
    return tokenizer.encode_batch(rows, 40)


def run_original(model, tokens: np.ndarray):
    with torch.no_grad():
        return model(as_long(tokens))


@eqx.filter_jit
def run(encoder: ESMC, tokens, **options):
    return jax.vmap(lambda t: encoder(t, **options))(tokens)


def test_tokenizers_agree(original):
    sequence = "".join(VOCABULARY[4:29]) + "_|<mask>-."
    theirs = original._tokenize([sequence])[0].numpy()
    np.testing.assert_array_equal(Tokenizer().encode(sequence), theirs)


def test_embedding_logits_and_hidden_states_are_the_originals(original, encoder, tokens):
    theirs = run_original(original, tokens)
    layers = tuple(range(TINY.layers))
    ours = run(encoder, tokens, hidden_states=layers)
    kept = tokens != PAD
    assert relative_l2(ours.embedding, theirs.embeddings, kept) <= TOLERANCE
    assert relative_l2(ours.logits, theirs.sequence_logits, kept) <= TOLERANCE
    # Its list starts at the first block, and its last entry comes before the final norm.
    for number in layers[1:]:
        distance = relative_l2(ours.hidden_states[:, number], theirs.hidden_states[number - 1], kept)
        assert distance <= TOLERANCE, f"hidden state {number}"
    last = jax.vmap(lambda t: encoder.run_blocks(t, None, (), False)[0])(jnp.asarray(tokens))
    assert relative_l2(last, theirs.hidden_states[-1], kept) <= TOLERANCE


def test_bfloat16_is_as_near_the_truth_as_the_original(original, encoder, tokens):
    truth = run_original(original, tokens).sequence_logits
    theirs = run_original(copy.deepcopy(original).to(torch.bfloat16), tokens).sequence_logits
    ours = run(cast(encoder, jnp.bfloat16), tokens).logits
    kept = tokens != PAD
    assert relative_l2(ours, theirs, kept) <= 3e-2
    assert relative_l2(ours, truth, kept) <= 1.2 * relative_l2(theirs, truth, kept)


def test_chains_are_kept_apart_as_in_the_original(original, encoder):
    tokenizer = Tokenizer()
    tokens = tokenizer.encode_batch(["MKTAY|IAKQRQ|ISF"])
    sequence_id = tokenizer.sequence_id(tokens)
    with torch.no_grad():
        theirs = original(as_long(tokens), torch.tensor(sequence_id)).embeddings
    ours = encoder(tokens[0], sequence_id[0]).embedding
    assert relative_l2(ours, theirs[0]) <= TOLERANCE


def test_no_tensor_of_its_state_dict_may_be_missing(original, tmp_path):
    state = {name: tensor.contiguous() for name, tensor in original.state_dict().items()}
    del state["sequence_head.2.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"missing sequence_head\.2\.bias"):
        port(None, open_source("esmc_300m", str(tmp_path)), tmp_path / "ours")


def test_it_loads_what_we_export(original, ported, tmp_path):
    export(ported, "legacy", tmp_path / "theirs")
    (file,) = (tmp_path / "theirs" / "data" / "weights").iterdir()
    state = torch.load(file, weights_only=True)
    fresh = make_original(seed=1)
    fresh.load_state_dict(state, strict=True)
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config == {"d_model": TINY.d_model, "n_heads": TINY.heads, "n_layers": TINY.layers}
    for name, tensor in original.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name


@pytest.mark.slow
def test_300m_is_the_originals(tmp_path, tokens, monkeypatch):
    original = make_original(PRESETS["esmc_300m"])
    torch.save(original.state_dict(), tmp_path / "esmc_300m_2024_12_v0.pth")
    port("esmc_300m", open_source("esmc_300m", str(tmp_path)), tmp_path / "ours")
    encoder = ESMC.from_pretrained(tmp_path / "ours")
    theirs = run_original(original, tokens)
    ours = run(encoder, tokens)
    kept = tokens != PAD
    assert relative_l2(ours.embedding, theirs.embeddings, kept) <= TOLERANCE
    assert relative_l2(ours.logits, theirs.sequence_logits, kept) <= TOLERANCE
    # Back again, as its users load it: from the working folder, which is a copy of the release.
    export(tmp_path / "ours", "legacy", tmp_path / "release")
    monkeypatch.setenv("INFRA_PROVIDER", "local")
    monkeypatch.chdir(tmp_path / "release")
    loaded = esmc.ESMC.from_pretrained("esmc_300m", device=torch.device("cpu"))
    again = run_original(loaded, tokens)
    assert torch.equal(again.sequence_logits, theirs.sequence_logits)
