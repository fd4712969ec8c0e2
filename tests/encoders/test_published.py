"""Published checkpoints: the name table, the layouts, and a reader that refuses what does not fit."""

import dataclasses
import subprocess
import sys

import equinox as eqx
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")

from originals import TINY, build_transformers, write_shards, write_state
from paths import ROOT

from eqxesm import ESMC, InputError
from eqxesm.checkpoint.leaves import named_leaves
from eqxesm.encoders import PRESETS
from eqxesm.encoders.published.layouts import Layout, infer_config, leaf_shapes, plan_tensors, recognise
from eqxesm.encoders.published.reader import open_published, understand
from eqxesm.encoders.published.table import LAYOUTS, TABLE
from eqxesm.hub.releases import RELEASES

SIZE = "esmc_300m"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def refusal(source, size: str | None = None) -> str:
    """The message, one line, with which a source is refused."""
    with pytest.raises(InputError) as caught:
        understand(size, open_published(SIZE, source and str(source)))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


# -- the table


@pytest.mark.parametrize(
    ("size", "layout", "count"),
    [
        (size, layout, count)
        for size, counts in {
            "esmc_300m": (308, 308, 398),
            "esmc_600m": (368, 368, 476),
            "esmc_6b": (808, 808, 1048),
        }.items()
        for layout, count in zip(LAYOUTS, counts, strict=True)
    ],
)
def test_table_names_as_many_tensors_as_are_published(size, layout, count):
    layers = PRESETS[size].layers
    names = {
        row.part(layout).name.format(n=layer)
        for row in TABLE
        for layer in range(layers if row.ours.startswith("blocks.") else 1)
    }
    assert len(names) == count
    assert set(plan_tensors(Layout(layout), PRESETS[size])) == names


@pytest.mark.parametrize("lm_head", [True, False])
@pytest.mark.parametrize("size", PRESETS)
def test_table_has_every_leaf_of_the_encoder_once_in_its_shape(size, lm_head):
    config = dataclasses.replace(PRESETS[size], lm_head=lm_head)
    assert [row.ours for row in TABLE] == list(dict.fromkeys(row.ours for row in TABLE))
    encoder = eqx.filter_eval_shape(lambda: ESMC(config, key=jax.random.key(0)))
    assert leaf_shapes(config) == {name: leaf.shape for name, leaf in named_leaves(encoder).items()}


@pytest.mark.parametrize(("size", "parameters"), [("esmc_300m", 332_997_184), ("esmc_600m", 575_036_992)])
def test_sizes_are_those_of_transformers(size, parameters):
    with torch.device("meta"):
        original = build_transformers(PRESETS[size])
    theirs = sum(parameter.numel() for parameter in original.parameters())
    assert sum(int(np.prod(shape)) for shape in leaf_shapes(PRESETS[size]).values()) == theirs == parameters


# -- layouts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_and_architecture_are_recognised_by_the_tensors(states, layout):
    shapes = {name: value.shape for name, value in states[layout].items()}
    found = recognise(shapes, "here")
    assert found == Layout(layout)
    assert infer_config(found, shapes, "here") == TINY


def test_all_wrong_tensors_are_named(states, tmp_path):
    state = dict(states["split"])
    del state["esmc.layers.1.mlp.up_proj.weight"]
    state["esmc.layers.0.mystery"] = np.zeros(3, np.float32)
    state["esmc.norm.weight"] = np.zeros(5, np.float32)
    message = refusal(write_state(state, tmp_path / "x.safetensors"))
    assert "3 wrong tensors" in message
    assert "missing esmc.layers.1.mlp.up_proj.weight" in message
    assert "unknown esmc.layers.0.mystery" in message
    assert "esmc.norm.weight has shape [5], not [128]" in message


@pytest.mark.parametrize("number", ["007", "9" * 5000, "12345"])
def test_refuses_impossible_layer_numbers(states, tmp_path, number):
    state = {**states["split"], f"esmc.layers.{number}.self_attn.q_proj.weight": np.zeros((2, 2))}
    message = refusal(write_state(state, tmp_path / "x.safetensors"))
    assert "1 wrong tensor: unknown esmc.layers." in message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_refuses_another_size_than_the_one_named(states, tmp_path, layout):
    message = refusal(write_state(states[layout], tmp_path / "x.safetensors"), SIZE)
    assert "3 layers of width 128" in message
    assert "not esmc_300m but none of the published sizes" in message


def test_the_right_size_is_suggested(tmp_path):
    """The file holds only what tells the size of a 300M. The size is checked before the rest is missed."""
    state = {
        "esmc.embed_tokens.weight": np.zeros((64, 960), np.float32),
        "esmc.layers.0.mlp.down_proj.weight": np.zeros((960, 2560), np.float32),
        "esmc.layers.29.self_attn.q_proj.weight": np.zeros((960, 960), np.float32),
        "lm_head.decoder.weight": np.zeros((64, 960), np.float32),
    }
    message = refusal(write_state(state, tmp_path / "x.safetensors"), "esmc_600m")
    assert "30 layers of width 960" in message
    assert "not esmc_600m but esmc_300m" in message


def test_refuses_tensors_of_another_model(tmp_path):
    message = refusal(write_state({"bert.embeddings": np.zeros(2, np.float32)}, tmp_path / "x.safetensors"))
    assert "not an ESM-C checkpoint in a known layout. It holds bert.embeddings." in message


@pytest.mark.parametrize("shape", [(960,), (64, 3, 4), (64, 0), (64, 40)])
def test_refuses_an_embedding_of_an_impossible_shape(states, tmp_path, shape):
    state = {**states["split"], "esmc.embed_tokens.weight": np.zeros(shape, np.float32)}
    message = refusal(write_state(state, tmp_path / "x.safetensors"))
    assert "split layout, but its size cannot be inferred" in message


def test_refuses_quantised_weights(states, tmp_path):
    name = "esmc.layers.0.self_attn.q_proj.weight"
    state = {**states["split"], name: states["split"][name].astype(np.int8)}
    message = refusal(write_state(state, tmp_path / "x.safetensors"))
    assert f"{name} is int8" in message


# -- the reader


def test_extra_state_is_counted_and_left_out(states, tmp_path):
    source = open_published(SIZE, str(write_state(states["fused"], tmp_path / "x.safetensors")))
    assert source.ignored == 9
    assert set(source.tensors) == {name for name in states["fused"] if not name.endswith("_extra_state")}


def test_hashes_are_those_of_the_files(states, tmp_path):
    write_shards(states["legacy"], tmp_path)
    printed = subprocess.run(["sha256sum", FIRST, SECOND], cwd=tmp_path, capture_output=True, text=True)
    assert open_published(SIZE, str(tmp_path)).hashes() == tuple(printed.stdout.splitlines())


@pytest.mark.parametrize("damage", ["truncated", "corrupt", "empty"])
def test_refuses_a_damaged_file(states, tmp_path, damage):
    file = write_state(states["split"], tmp_path / "x.safetensors")
    data = file.read_bytes()
    file.write_bytes({"truncated": data[:-100], "corrupt": b"\xff" * 64 + data[64:], "empty": b""}[damage])
    assert "x.safetensors: not a readable safetensors file" in refusal(file)


@pytest.mark.parametrize("damage", ["truncated", "absent", "outside", "another", "repeated"])
def test_refuses_damaged_shards(states, tmp_path, damage):
    source = write_shards(states["split"], tmp_path / "source")
    first, second, index = source / FIRST, source / SECOND, source / "model.safetensors.index.json"
    expected = SECOND
    if damage == "truncated":
        second.write_bytes(second.read_bytes()[:-1])
    elif damage == "absent":
        second.unlink()
    elif damage == "outside":
        second.rename(tmp_path / "elsewhere.safetensors")
        index.write_text(index.read_text().replace(SECOND, "../elsewhere.safetensors"))
        expected = "names a shard that is no plain file name"
    elif damage == "another":
        second.write_bytes(first.read_bytes())
        expected = "is in another shard too"
    else:
        name, value = next(iter(load_file(second).items()))
        write_state({**load_file(first), name: value}, first)
        expected = f"tensor {name} is in another shard too"
    assert expected in refusal(source)


@pytest.mark.parametrize("source", ["absent.safetensors", "absent.pth", "absent/deeper/still", "absent"])
def test_refuses_a_source_that_is_not_there(tmp_path, source):
    assert "not found, and not the name of a Hub repository" in refusal(tmp_path / source)


def test_refuses_a_folder_without_weights(tmp_path):
    assert "holds neither model.safetensors, model.safetensors.index.json nor a .pth file" in refusal(tmp_path)


def test_refuses_to_choose_among_pth_files(tmp_path):
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).touch()
    assert "holds 2 .pth files" in refusal(tmp_path)


def test_refuses_pth_without_their_reader(tmp_path):
    (tmp_path / "a.pth").touch()
    assert "a.pth: .pth files are read by python -m conversion.port" in refusal(tmp_path)


def test_a_repository_is_asked_for_at_its_revision():
    """Offline, as every test is, the error names what would have been fetched."""
    assert refusal("hf://someone/esmc@abc").startswith("someone/esmc@abc:")


@pytest.mark.parametrize("size", RELEASES)
def test_the_reviewed_release_is_asked_for(size):
    with pytest.raises(InputError, match=f"^{RELEASES[size].repository}@{RELEASES[size].revision}:"):
        open_published(size, None)


def test_a_folder_is_not_taken_for_the_release(states, tmp_path, monkeypatch):
    """Its files would be recorded under the release's commit and licence."""
    folder = tmp_path / "biohub" / "ESMC-300M"
    folder.mkdir(parents=True)
    write_state(states["split"], folder / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    assert "biohub/ESMC-300M@" in refusal(None)
    assert open_published(SIZE, "biohub/ESMC-300M").license is None


def test_safetensors_are_read_without_torch(states, tmp_path):
    file = write_state(states["split"], tmp_path / "x.safetensors")
    code = f"""
import sys
from eqxesm.encoders.published.reader import open_published, understand
print(understand(None, open_published("{SIZE}", r"{file}"))[0].name)
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n") == ["split", "[]", ""]
