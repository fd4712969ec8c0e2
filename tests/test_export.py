"""Back to torch: the same bytes, and the originals load them whole."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")

from originals import TINY, relative_l2, three_layouts, transformers_original

from conversion.export import export, main
from conversion.names import LAYOUTS
from conversion.port import port
from conversion.sources import open_source
from eqxesm import ESMC, ESMCConfig, OneHot, SolubilityModel, Tokenizer
from eqxesm.encoders import cast
from heads import CompositionMLP, CompositionMLPConfig, MeanPoolMLP, MeanPoolMLPConfig

SIZE = "esmc_300m"


@pytest.fixture(scope="module")
def original():
    return transformers_original(**TINY)


@pytest.fixture(scope="module")
def ported(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ported")
    original.save_pretrained(folder / "theirs")
    port(None, open_source(SIZE, str(folder / "theirs")), folder / "ours")
    return folder / "ours"


def read(folder, layout) -> dict[str, np.ndarray]:
    if layout == "legacy":
        (file,) = folder.rglob("*.pth")
        state = torch.load(file, weights_only=True)
        return {name: tensor.numpy() for name, tensor in state.items()}
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip_is_the_same_bytes(original, tmp_path, layout):
    state = {
        name: np.ascontiguousarray(array)
        for name, array in three_layouts(original)[layout].items()
        if not name.endswith("_extra_state")
    }
    save_file(state, tmp_path / "model.safetensors")
    port(None, open_source(SIZE, str(tmp_path / "model.safetensors")), tmp_path / "ours")
    export(tmp_path / "ours", layout, tmp_path / "theirs")
    back = read(tmp_path / "theirs", layout)
    assert set(back) == set(state)
    for name, array in state.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back_is_our_encoder(ported, tmp_path, layout):
    export(ported, layout, tmp_path / "theirs")
    port(None, open_source(SIZE, str(tmp_path / "theirs")), tmp_path / "ours")
    first, second = (ESMC.from_pretrained(folder) for folder in (ported, tmp_path / "ours"))
    for name in ("embedding", "blocks", "norm", "lm_head"):
        assert eqx.tree_equal(getattr(first, name), getattr(second, name)), name


def load(folder):
    model, info = transformers.EsmcForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in info), info
    return model.eval()


def test_transformers_loads_it_whole(original, ported, tmp_path):
    export(ported, "split", tmp_path / "theirs")
    model = load(tmp_path / "theirs")
    ours, theirs = model.config.to_dict(), original.config.to_dict()
    saved = json.loads((tmp_path / "theirs" / "config.json").read_text())
    for key in saved:
        assert ours[key] == theirs[key] or key in ("architectures", "dtype"), key
    tokens = torch.tensor([[0, 4, 5, 6, 7, 2]])
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, original(tokens).logits)


def test_a_fine_tuned_model_leaves_with_its_encoder(ported, tmp_path):
    encoder = ESMC.from_pretrained(ported)
    tuned = eqx.tree_at(lambda e: e.blocks.ffn.gate.weight, encoder, replace_fn=lambda w: w * 1.1)
    head = MeanPoolMLP(MeanPoolMLPConfig(encoder.d_model), key=jax.random.key(0))
    SolubilityModel(tuned, head).save_pretrained(tmp_path / "model")
    export(tmp_path / "model", "split", tmp_path / "theirs")
    tokens = Tokenizer().encode("MKTAYIAKQR")
    with torch.no_grad():
        theirs = load(tmp_path / "theirs")(torch.tensor(tokens[None]).long()).logits[0]
    assert relative_l2(tuned(tokens).logits, theirs) <= 1e-5
    assert relative_l2(encoder(tokens).logits, theirs) > 1e-3


def test_bfloat16(ported, tmp_path):
    cast(ESMC.from_pretrained(ported), jnp.bfloat16).save_pretrained(tmp_path / "half")
    export(tmp_path / "half", "split", tmp_path / "split")
    export(tmp_path / "half", "legacy", tmp_path / "legacy")
    model = load(tmp_path / "split")
    assert model.dtype == torch.bfloat16
    (file,) = (tmp_path / "legacy").rglob("*.pth")
    legacy = torch.load(file, weights_only=True)
    theirs = model.esmc.layers[1].mlp
    gate_up = legacy["transformer.blocks.1.ffn.1.weight"]
    assert torch.equal(gate_up, torch.cat([theirs.gate_proj.weight, theirs.up_proj.weight]))


def test_a_bare_encoder(tmp_path):
    bare = ESMC(ESMCConfig(**TINY, lm_head=False), key=jax.random.key(0))
    bare.save_pretrained(tmp_path / "ours")
    export(tmp_path / "ours", "split", tmp_path / "theirs")
    model, info = transformers.EsmcModel.from_pretrained(
        tmp_path / "theirs", output_loading_info=True
    )
    assert not any(info[kind] for kind in info), info
    tokens = Tokenizer().encode("MKTAYIAKQR")
    with torch.no_grad():
        theirs = model.eval()(torch.tensor(tokens[None]).long()).last_hidden_state[0]
    assert relative_l2(bare(tokens).embedding, theirs) <= 1e-5


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


def refused(capsys, *arguments) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("conversion.export: error: ")
    assert output.err.count("\n") == 1
    return output.err


def test_what_is_refused(ported, tmp_path, capsys):
    out = tmp_path / "out"
    split = ("--layout", "split", "--out", out)
    assert "holds no config.json" in refused(capsys, tmp_path, *split)
    head = CompositionMLP(CompositionMLPConfig(25), key=jax.random.key(0))
    SolubilityModel(OneHot(), head).save_pretrained(tmp_path / "baseline")
    assert "is no ESM-C" in refused(capsys, tmp_path / "baseline", *split)
    assert not out.exists()
    out.mkdir()
    assert "exists already" in refused(capsys, ported, *split)
    assert not list(out.iterdir())


def test_truncated_weights_leave_nothing(ported, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in ported.iterdir():
        data = file.read_bytes()
        (broken / file.name).write_bytes(data[:-64] if file.suffix == ".safetensors" else data)
    error = refused(capsys, broken, "--layout", "fused", "--out", tmp_path / "out")
    assert "not a readable safetensors file" in error
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_wrote(ported, tmp_path, capsys):
    arguments = [ported, "--layout", "fused", "--out", tmp_path / "out"]
    assert main([str(argument) for argument in arguments]) == 0
    size = sum(array.nbytes for array in load_file(tmp_path / "out" / "model.safetensors").values())
    assert f"fused layout, 38 tensors, {size:,} bytes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state | {"lora.a": np.zeros(2, np.float32)}, "unknown lora.a"),
        (lambda state: state | {"norm.weight": np.ones(128, np.int32)}, "norm.weight has dtype"),
        (lambda state: state | {"norm.weight": np.ones(128)}, "which JAX would narrow"),
        (lambda state: {k: v for k, v in state.items() if k != "embedding"}, "missing embedding"),
    ],
)
def test_weights_that_do_not_fit(ported, tmp_path, capsys, change, message):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in ported.iterdir():
        if file.suffix != ".safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    save_file(change(load_file(ported / "model.safetensors")), broken / "model.safetensors")
    error = refused(capsys, broken, "--layout", "fused", "--out", tmp_path / "out")
    assert message in error
