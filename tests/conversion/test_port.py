"""The port: every layout gives the same encoder, and nothing is written of what is refused."""

import os
import pickle
import subprocess
import sys
import zipfile

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")

from originals import write_shards, write_state
from paths import ROOT

from conversion.port import main, port
from conversion.sources import open_source
from eqxesm import ESMC, InputError
from eqxesm.encoders.published.table import LAYOUTS

SIZE = "esmc_300m"


@pytest.fixture
def refused(refuse, tmp_path):
    """Refuse a port, and check that nothing was written."""

    def run(*arguments) -> str:
        folder = tmp_path / "ours"
        message = refuse(main, SIZE, *arguments, "--out", folder)
        assert not folder.exists()
        assert not list(tmp_path.glob(".ours.*"))
        return message

    return run


def write_pth(state: dict[str, np.ndarray], file, **changes):
    torch.save({**{name: torch.tensor(value) for name, value in state.items()}, **changes}, file)
    return file


def port_file(file, folder, dtype=None) -> ESMC:
    port(None, open_source(SIZE, str(file)), folder, dtype and np.dtype(dtype))
    return ESMC.from_pretrained(folder)


def assert_same(found: ESMC, expected: ESMC) -> None:
    for name in ("embedding", "blocks", "norm", "lm_head"):
        assert eqx.tree_equal(getattr(found, name), getattr(expected, name)), name


# -- what is read


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_encoder(states, encoder, tmp_path, layout, bare):
    state = states[layout]
    if bare:
        state = {
            name.removeprefix("esmc."): value
            for name, value in state.items()
            if not name.startswith(("lm_head.", "sequence_head."))
        }
    file = write_state(state, tmp_path / "any name.safetensors")
    report = port(None, open_source(SIZE, str(file)), tmp_path / "ours")
    assert report.layout.name == layout
    assert report.layout.bare == (bare and layout != "legacy")
    assert report.source.ignored == (9 if layout == "fused" else 0)
    wanted = eqx.tree_at(lambda e: e.lm_head, encoder, None) if bare else encoder
    assert_same(ESMC.from_pretrained(tmp_path / "ours"), wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pth_gives_the_same_encoder(states, encoder, tmp_path, layout):
    folder = tmp_path / "data" / "weights"
    folder.mkdir(parents=True)
    write_pth(states[layout], folder / "esmc_2024_12_v0.pth")
    assert_same(port_file(tmp_path, tmp_path / "ours"), encoder)


def test_shards_give_the_same_encoder(states, encoder, tmp_path):
    source = open_source(SIZE, str(write_shards(states["fused"], tmp_path / "theirs")))
    report = port(None, source, tmp_path / "ours")
    assert len(report.provenance.sha256) == 2
    assert_same(ESMC.from_pretrained(tmp_path / "ours"), encoder)


def test_bfloat16_is_kept_and_may_be_asked_for(states, split_file, tmp_path):
    half = {name: torch.tensor(value).to(torch.bfloat16) for name, value in states["split"].items()}
    torch.save(half, tmp_path / "half.pth")
    kept = port_file(tmp_path / "half.pth", tmp_path / "kept")
    cast = port_file(split_file, tmp_path / "cast", jnp.bfloat16)
    assert kept.embedding.dtype == jnp.bfloat16
    assert_same(kept, cast)
    theirs = half["esmc.layers.1.mlp.down_proj.weight"].float().numpy()
    ours = kept.blocks.ffn.down.weight[1].astype(jnp.float32)
    np.testing.assert_array_equal(ours, theirs)


def test_provenance_holds_the_hash_of_the_file(split_file, tmp_path):
    printed = subprocess.run(["sha256sum", split_file.name], cwd=tmp_path, capture_output=True, text=True)
    provenance = port_file(split_file, tmp_path / "ours").about.provenance
    assert provenance.sha256 == (printed.stdout.strip(),)
    assert (provenance.source, provenance.revision, provenance.license) == (split_file.name, None, None)


@pytest.mark.usefixtures("tiny_preset")
def test_the_command_reports_what_it_read_and_wrote(states, command, tmp_path):
    file = write_state(states["fused"], tmp_path / "model.safetensors")
    done = command(main, SIZE, "--source", file, "--out", tmp_path / "ours")
    assert (done.status, done.err) == (0, "")
    for part in (str(file), "fused", "3 layers of width 128", "9 of extra state", "21 tensors"):
        assert part in done.out
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    assert len(stored) == 21
    assert f"{sum(array.size for array in stored.values()):,} parameters" in done.out


def test_says_that_a_folder_hides_a_repository(states, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "biohub" / "ESMC-300M").mkdir(parents=True)
    write_state(states["split"], tmp_path / "biohub" / "ESMC-300M" / "model.safetensors")
    assert main([SIZE, "--source", "biohub/ESMC-300M", "--out", "ours"]) == 2  # a small encoder, not a 300M
    said = "conversion.port: biohub/ESMC-300M: read from what is here, not from the Hub\n"
    assert capsys.readouterr().err.startswith(said)


def test_safetensors_are_ported_without_torch(split_file, tmp_path):
    code = f"""
import sys
from conversion.port import port
from conversion.sources import open_source
port(None, open_source("{SIZE}", r"{split_file}"), r"{tmp_path / "ours"}")
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_second_port_keeps_what_people_wrote_on_the_card(split_file, tmp_path):
    port_file(split_file, tmp_path / "ours")
    with open(tmp_path / "ours" / "README.md", "a", encoding="utf-8") as file:
        file.write("\nour words\n")
    port_file(split_file, tmp_path / "ours")
    assert "our words" in (tmp_path / "ours" / "README.md").read_text()


# -- what is refused


@pytest.mark.parametrize("source", ["absent.safetensors", "absent/deeper/still", "absent"])
def test_refuses_a_source_that_is_not_there(refused, tmp_path, source):
    assert "not found" in refused("--source", tmp_path / source)


def test_refuses_a_folder_without_weights(refused, tmp_path):
    (tmp_path / "source").mkdir()
    assert "holds neither" in refused("--source", tmp_path / "source")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_refuses_another_size_than_the_one_named(states, refused, tmp_path, layout):
    file = write_state(states[layout], tmp_path / "x.safetensors")
    assert "3 layers of width 128" in refused("--source", file)


@pytest.mark.usefixtures("tiny_preset")
def test_refuses_a_missing_tensor(states, refused, tmp_path):
    state = {name: value for name, value in states["split"].items() if name != "esmc.norm.weight"}
    assert "missing esmc.norm.weight" in refused("--source", write_state(state, tmp_path / "x.safetensors"))


@pytest.mark.usefixtures("tiny_preset")
def test_refuses_a_truncated_file(refused, split_file):
    split_file.write_bytes(split_file.read_bytes()[:-100])
    assert "x.safetensors: not a readable safetensors file" in refused("--source", split_file)


class Payload:
    """What a hostile pickle would do."""

    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("kind", ["code", "not torch", "no tensors", "text"])
def test_refuses_pth_that_hold_anything_but_weights(refused, tmp_path, kind):
    file = tmp_path / "x.pth"
    if kind == "code":
        torch.save({"x": Payload()}, file)
    elif kind == "not torch":
        file.write_bytes(pickle.dumps({"x": 1}))
    elif kind == "no tensors":
        torch.save({"x": [1, 2]}, file)
    else:
        file.write_text("hello")
    error = refused("--source", file)
    expected = "holds something other than tensors by name" if kind == "no tensors" else "not a plain file of weights"
    assert f"{file}: {expected}" in error
    assert "executed" not in error


def test_refuses_a_pth_that_would_take_much_memory(states, refused, tmp_path):
    plain = write_pth(states["split"], tmp_path / "plain.pth")
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for record in archive.infolist():
            packed.writestr(record.filename, archive.read(record))
    assert "is compressed, which torch.save does not do. Not read." in refused("--source", tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "y.pth", "w") as packed:
        packed.writestr("x/data.pkl", bytes(2**21))
    assert "x/data.pkl has 2,097,152 bytes, over 1,048,576. Not read." in refused("--source", tmp_path / "y.pth")
    name = "esmc.norm.weight"
    huge = torch.zeros(1).expand(10**6, 10**6)
    assert f"{name} is torch.float32" in refused(
        "--source", write_pth(states["split"], tmp_path / "z.pth", **{name: huge})
    )


def test_refuses_a_pipe_in_the_place_of_weights(refused, tmp_path):
    for name in ("x.pth", "model.safetensors"):
        (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / name / name)
        assert "is a named pipe. Name a file." in refused("--source", tmp_path / name)
        assert "is a named pipe. Name a file." in refused("--source", tmp_path / name / name)


def test_refuses_pth_without_torch(refused, tmp_path, monkeypatch):
    (tmp_path / "x.pth").touch()
    monkeypatch.setitem(sys.modules, "torch", None)
    assert f'torch is not installed. Run: {sys.executable} -m pip install "eqxesm[convert]"' in refused(
        "--source", tmp_path / "x.pth"
    )


def test_refuses_sparse_tensors_in_a_pth(states, refused, tmp_path):
    name = "esmc.norm.weight"
    sparse = torch.tensor(states["split"][name]).to_sparse()
    error = refused("--source", write_pth(states["split"], tmp_path / "x.pth", **{name: sparse}))
    assert f"{name} is torch.float32, torch.sparse_coo, expected dense" in error


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.usefixtures("tiny_preset")
def test_refuses_a_weight_that_is_not_finite(states, refused, tmp_path, bad):
    name = "esmc.layers.2.mlp.up_proj.weight"
    broken = states["split"][name].copy()
    broken[5, 7] = bad
    file = write_state({**states["split"], name: broken}, tmp_path / "x.safetensors")
    assert f"{name} holds NaN or infinity in float32" in refused("--source", file)


@pytest.mark.usefixtures("tiny_preset")
def test_refuses_a_weight_too_large_for_the_precision(states, refused, tmp_path):
    name = "esmc.norm.weight"
    large = states["split"][name].copy()
    large[3] = np.finfo(np.float32).max
    file = write_state({**states["split"], name: large}, tmp_path / "x.safetensors")
    error = refused("--source", file, "--dtype", "bfloat16")
    assert f"{name} holds NaN or infinity in bfloat16" in error


@pytest.mark.usefixtures("tiny_preset")
def test_float16_needs_a_precision_to_be_named(states, refused, tmp_path):
    half = {name: value.astype(np.float16) for name, value in states["split"].items()}
    file = write_state(half, tmp_path / "x.safetensors")
    assert "is float16. Choose a dtype: float32 or bfloat16." in refused("--source", file)
    name = "esmc.norm.weight"
    with np.errstate(over="ignore"):
        half[name] = (states["split"][name] * np.float32(1e6)).astype(np.float16)
    write_state(half, file)
    assert f"{name} holds NaN or infinity" in refused("--source", file, "--dtype", "float32")


def test_mixed_precisions_need_one_to_be_named(states, tmp_path):
    name = "esmc.embed_tokens.weight"
    half = torch.tensor(states["split"][name]).to(torch.bfloat16)
    file = write_pth(states["split"], tmp_path / "x.pth", **{name: half})
    with pytest.raises(InputError, match=r"is bfloat16 and float32\. Choose a dtype"):
        port_file(file, tmp_path / "ours")
    assert port_file(file, tmp_path / "ours", np.float32).embedding.dtype == jnp.float32


@pytest.mark.usefixtures("tiny_preset")
def test_an_interrupted_write_leaves_nothing(refused, split_file, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left on device" in refused("--source", split_file)
