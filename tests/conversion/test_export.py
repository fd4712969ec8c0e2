"""Back to torch: the same bytes, and the originals load them whole."""

import dataclasses
import json
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")

from originals import TINY, as_long, relative_l2, write_state

from conversion.export import export, main
from conversion.port import port
from conversion.sources import open_source
from eqxesm import ESMC, OneHot, SolubilityModel, Tokenizer
from eqxesm.encoders import cast
from eqxesm.encoders.lora import LoRAConfig, add_lora, merge_lora
from eqxesm.encoders.published.table import LAYOUTS
from heads import CompositionMLP, CompositionMLPConfig, MeanPoolMLP, MeanPoolMLPConfig

SIZE = "esmc_300m"
TOKENS = Tokenizer().encode("MKTAYIAKQR")


@pytest.fixture
def refused(refuse, tmp_path):
    """Refuse an export, and check that nothing was written."""

    def run(folder, layout: str = "split") -> str:
        message = refuse(main, folder, "--layout", layout, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob(".out.*"))
        return message

    return run


def read(folder, layout: str) -> dict[str, np.ndarray]:
    if layout == "legacy":
        (file,) = folder.rglob("*.pth")
        state = torch.load(file, weights_only=True)
        return {name: tensor.numpy() for name, tensor in state.items()}
    return load_file(folder / "model.safetensors")


def load(folder, kind=transformers.EsmcForMaskedLM):
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in info), info
    return model.eval()


def run(model, tokens: np.ndarray = TOKENS):
    with torch.no_grad():
        return model(as_long(tokens[None]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip_gives_the_same_bytes(states, tmp_path, layout):
    state = {name: array for name, array in states[layout].items() if not name.endswith("_extra_state")}
    file = write_state(state, tmp_path / "model.safetensors")
    port(None, open_source(SIZE, str(file)), tmp_path / "ours")
    export(tmp_path / "ours", layout, tmp_path / "theirs")
    back = read(tmp_path / "theirs", layout)
    assert set(back) == set(state)
    for name, array in state.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_export_and_port_give_the_same_encoder(encoder, ported, tmp_path, layout):
    export(ported, layout, tmp_path / "theirs")
    port(None, open_source(SIZE, str(tmp_path / "theirs")), tmp_path / "ours")
    back = ESMC.from_pretrained(tmp_path / "ours")
    for name in ("embedding", "blocks", "norm", "lm_head"):
        assert eqx.tree_equal(getattr(encoder, name), getattr(back, name)), name


def test_transformers_loads_the_split_layout_whole(original, ported, tmp_path):
    export(ported, "split", tmp_path / "theirs")
    model = load(tmp_path / "theirs")
    ours, theirs = model.config.to_dict(), original.config.to_dict()
    saved = json.loads((tmp_path / "theirs" / "config.json").read_text())
    for key in saved:
        assert ours[key] == theirs[key] or key in ("architectures", "dtype"), key
    assert torch.equal(run(model).logits, run(original).logits)


def test_a_fine_tuned_model_is_exported_with_its_encoder(encoder, tmp_path):
    tuned = eqx.tree_at(lambda e: e.blocks.ffn.gate.weight, encoder, replace_fn=lambda w: w * 1.1)
    head = MeanPoolMLP(MeanPoolMLPConfig(encoder.d_model), key=jax.random.key(0))
    SolubilityModel(tuned, head).save_pretrained(tmp_path / "model")
    export(tmp_path / "model", "split", tmp_path / "theirs")
    theirs = run(load(tmp_path / "theirs")).logits[0]
    assert relative_l2(tuned(TOKENS).logits, theirs) <= 1e-5
    assert relative_l2(encoder(TOKENS).logits, theirs) > 1e-3


def test_adapters_are_merged(encoder, tmp_path):
    adapted = add_lora(encoder, LoRAConfig(2, targets=("query", "up")), key=jax.random.key(0))
    adapted = eqx.tree_at(lambda e: e.blocks.ffn.up.lora_b, adapted, replace_fn=lambda b: b + 0.1)
    head = MeanPoolMLP(MeanPoolMLPConfig(encoder.d_model), key=jax.random.key(0))
    SolubilityModel(adapted, head).save_pretrained(tmp_path / "model")
    export(tmp_path / "model", "split", tmp_path / "theirs")
    back = read(tmp_path / "theirs", "split")
    merged = merge_lora(adapted).blocks
    for layer in range(TINY.layers):
        name = f"esmc.layers.{layer}.mlp.up_proj.weight"
        np.testing.assert_array_equal(back[name], merged.ffn.up.weight[layer])
        assert np.abs(back[name] - np.asarray(encoder.blocks.ffn.up.weight[layer])).max() > 0.01
        name = f"esmc.layers.{layer}.self_attn.q_proj.weight"
        np.testing.assert_array_equal(back[name], encoder.blocks.attention.query.weight[layer])


def test_bfloat16_stays_bfloat16(encoder, tmp_path):
    cast(encoder, jnp.bfloat16).save_pretrained(tmp_path / "half")
    export(tmp_path / "half", "split", tmp_path / "split")
    export(tmp_path / "half", "legacy", tmp_path / "legacy")
    model = load(tmp_path / "split")
    assert model.dtype == torch.bfloat16
    (file,) = (tmp_path / "legacy").rglob("*.pth")
    legacy = torch.load(file, weights_only=True)
    theirs = model.esmc.layers[1].mlp
    gate_up = legacy["transformer.blocks.1.ffn.1.weight"]
    assert torch.equal(gate_up, torch.cat([theirs.gate_proj.weight, theirs.up_proj.weight]))


def test_transformers_loads_a_bare_encoder_whole(tmp_path):
    bare = ESMC(dataclasses.replace(TINY, lm_head=False), key=jax.random.key(0))
    bare.save_pretrained(tmp_path / "ours")
    export(tmp_path / "ours", "split", tmp_path / "theirs")
    theirs = run(load(tmp_path / "theirs", transformers.EsmcModel)).last_hidden_state[0]
    assert relative_l2(bare(TOKENS).embedding, theirs) <= 1e-5


def test_fused_configuration_is_that_of_the_release(ported, tmp_path):
    export(ported, "fused", tmp_path / "theirs")
    assert json.loads((tmp_path / "theirs" / "config.json").read_text()) == {
        "architectures": ["ESMCForMaskedLM"],
        "model_type": "esmc",
        "vocab_size": 64,
        "pad_token_id": 1,
        "mask_token_id": 32,
        "tie_word_embeddings": False,
        "dtype": "float32",
        "d_model": 128,
        "n_heads": 2,
        "n_layers": 3,
    }


def test_the_command_reports_what_it_wrote(ported, command, tmp_path):
    done = command(main, ported, "--layout", "fused", "--out", tmp_path / "out")
    assert done.status == 0
    size = sum(array.nbytes for array in load_file(tmp_path / "out" / "model.safetensors").values())
    assert f"fused layout, 38 tensors, {size:,} bytes" in done.out


def test_refuses_a_folder_without_a_checkpoint(refused, tmp_path):
    assert "config.json is missing" in refused(tmp_path)


def test_refuses_another_encoder(refused, tmp_path):
    head = CompositionMLP(CompositionMLPConfig(25), key=jax.random.key(0))
    SolubilityModel(OneHot(), head).save_pretrained(tmp_path / "baseline")
    assert "its encoder is not an ESM-C" in refused(tmp_path / "baseline")


def test_refuses_to_write_over_a_folder(ported, refuse, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    assert "exists already" in refuse(main, ported, "--layout", "split", "--out", out)
    assert not list(out.iterdir())


def test_refuses_truncated_weights(ported, refused, tmp_path):
    broken = shutil.copytree(ported, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    assert "not a readable safetensors file" in refused(broken, "fused")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state | {"lora.a": np.zeros(2, np.float32)}, "unknown lora.a"),
        (lambda state: state | {"norm.weight": np.ones(128, np.int32)}, "norm.weight has dtype int32"),
        (lambda state: state | {"norm.weight": np.ones(128)}, "which JAX would narrow"),
        (lambda state: {k: v for k, v in state.items() if k != "embedding"}, "missing embedding"),
    ],
)
def test_refuses_weights_that_do_not_fit(ported, refused, tmp_path, change, message):
    broken = shutil.copytree(ported, tmp_path / "broken")
    save_file(change(load_file(ported / "model.safetensors")), broken / "model.safetensors")
    assert message in refused(broken, "fused")
