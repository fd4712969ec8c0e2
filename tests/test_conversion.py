"""The port: every layout, every size, and everything that is refused."""

import json
import pickle
import subprocess
import sys

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")

from originals import TINY, three_layouts, transformers_original

from conversion.layouts import infer_config, recognise
from conversion.names import LAYOUTS, TABLE
from conversion.port import add_proof, main, port, skeleton
from conversion.sources import RELEASES, open_source
from eqxesm import ESMC, InputError
from eqxesm.encoders import PRESETS

SIZE = "esmc_300m"


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, np.ndarray]]:
    return three_layouts(transformers_original(**TINY))


def write(state, file):
    save_file({name: np.ascontiguousarray(value) for name, value in state.items()}, file)
    return file


@pytest.fixture(scope="module")
def expected(states, tmp_path_factory) -> ESMC:
    folder = tmp_path_factory.mktemp("expected")
    write(states["split"], folder / "model.safetensors")
    port(None, open_source(SIZE, str(folder)), folder / "ours")
    return ESMC.from_pretrained(folder / "ours")


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_ports_to_the_same_encoder(states, expected, tmp_path, layout, bare):
    state = states[layout]
    if bare:
        state = {
            name.removeprefix("esmc."): value
            for name, value in state.items()
            if not name.startswith(("lm_head.", "sequence_head."))
        }
    file = write(state, tmp_path / "any name.safetensors")
    report = port(None, open_source(SIZE, str(file)), tmp_path / "ours")
    assert report.layout.name == layout
    assert report.layout.bare == (bare and layout != "legacy")
    assert report.source.ignored == (9 if layout == "fused" else 0)
    encoder = ESMC.from_pretrained(tmp_path / "ours")
    wanted = eqx.tree_at(lambda e: e.lm_head, expected, None) if bare else expected
    for name in ("embedding", "blocks", "norm", "lm_head"):
        assert eqx.tree_equal(getattr(encoder, name), getattr(wanted, name)), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pth(states, expected, tmp_path, layout):
    state = {name: torch.tensor(value) for name, value in states[layout].items()}
    folder = tmp_path / "data" / "weights"
    folder.mkdir(parents=True)
    torch.save(state, folder / "esmc_2024_12_v0.pth")
    port(None, open_source(SIZE, str(tmp_path)), tmp_path / "ours")
    assert eqx.tree_equal(ESMC.from_pretrained(tmp_path / "ours").blocks, expected.blocks)


def test_bfloat16_pth_and_conversion(states, tmp_path):
    half = {name: torch.tensor(value).to(torch.bfloat16) for name, value in states["split"].items()}
    torch.save(half, tmp_path / "half.pth")
    port(None, open_source(SIZE, str(tmp_path / "half.pth")), tmp_path / "kept")
    file = write(states["split"], tmp_path / "model.safetensors")
    port(None, open_source(SIZE, str(file)), tmp_path / "cast", np.dtype(jnp.bfloat16))
    kept, cast = ESMC.from_pretrained(tmp_path / "kept"), ESMC.from_pretrained(tmp_path / "cast")
    assert kept.embedding.dtype == jnp.bfloat16
    assert eqx.tree_equal(kept.blocks, cast.blocks)
    theirs = half["esmc.layers.1.mlp.down_proj.weight"].float().numpy()
    ours = kept.blocks.ffn.down.weight[1].astype(jnp.float32)
    np.testing.assert_array_equal(ours, theirs)


def test_shards(states, expected, tmp_path):
    names = sorted(states["fused"])
    weight_map = {}
    for number, chosen in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        write({name: states["fused"][name] for name in chosen}, tmp_path / shard)
        weight_map |= dict.fromkeys(chosen, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    report = port(None, open_source(SIZE, str(tmp_path)), tmp_path / "ours")
    assert len(report.provenance.sha256) == 2
    assert eqx.tree_equal(ESMC.from_pretrained(tmp_path / "ours").blocks, expected.blocks)


def test_the_hash_is_that_of_the_file(states, tmp_path):
    file = write(states["legacy"], tmp_path / "model.safetensors")
    port(None, open_source(SIZE, str(file)), tmp_path / "ours")
    printed = subprocess.run(["sha256sum", file.name], cwd=tmp_path, capture_output=True, text=True)
    encoder = ESMC.from_pretrained(tmp_path / "ours")
    assert encoder.provenance.sha256 == (printed.stdout.strip(),)


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
def test_the_table_names_as_many_tensors_as_are_published(size, layout, count):
    layers = PRESETS[size].layers
    names = {
        row.part(layout).name.format(n=layer)
        for row in TABLE
        for layer in range(layers if row.ours.startswith("blocks.") else 1)
    }
    assert len(names) == count


def test_the_table_covers_every_leaf_once():
    assert [row.ours for row in TABLE] == list(dict.fromkeys(row.ours for row in TABLE))
    assert {row.ours for row in TABLE} == set(skeleton(PRESETS["esmc_6b"]))


@pytest.mark.parametrize(
    ("size", "parameters"), [("esmc_300m", 332_997_184), ("esmc_600m", 575_036_992)]
)
def test_sizes_match_transformers(size, parameters):
    from transformers import EsmcConfig, EsmcForMaskedLM

    preset = PRESETS[size]
    with torch.device("meta"):
        original = EsmcForMaskedLM(
            EsmcConfig(
                hidden_size=preset.d_model,
                num_hidden_layers=preset.layers,
                num_attention_heads=preset.heads,
                intermediate_size=preset.d_ffn,
            )
        )
    theirs = sum(parameter.numel() for parameter in original.parameters())
    assert sum(int(np.prod(shape)) for shape in skeleton(preset).values()) == theirs == parameters


def test_config_is_read_off_the_tensors(states):
    for layout, state in states.items():
        shapes = {name: value.shape for name, value in state.items()}
        config = infer_config(recognise(shapes, "here"), shapes, "here")
        assert (config.layers, config.d_model, config.heads, config.d_ffn) == tuple(TINY.values())
        assert layout in LAYOUTS


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


def refused(capsys, folder, *arguments) -> str:
    """Run the command line, and expect one line, status 2 and nothing written."""
    status, out, err = run(capsys, *arguments, "--out", folder)
    assert status == 2
    assert out == ""
    assert err.startswith("conversion.port: error: ")
    assert err.count("\n") == 1
    assert not folder.exists()
    assert not list(folder.parent.glob(f".{folder.name}.*"))
    return err


def test_wrong_tensors_are_all_named(states, tmp_path):
    state = dict(states["split"])
    del state["esmc.layers.1.mlp.up_proj.weight"]
    state["esmc.layers.0.mystery"] = np.zeros(3, np.float32)
    state["esmc.norm.weight"] = np.zeros(5, np.float32)
    source = open_source(SIZE, str(write(state, tmp_path / "x.safetensors")))
    with pytest.raises(InputError) as error:
        port(None, source, tmp_path / "ours")
    message = str(error.value)
    assert "missing esmc.layers.1.mlp.up_proj.weight" in message
    assert "unknown esmc.layers.0.mystery" in message
    assert "esmc.norm.weight has shape [5], not [128]" in message
    assert "\n" not in message
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_size_than_named(states, tmp_path, capsys, layout):
    file = write(states[layout], tmp_path / "x.safetensors")
    assert "3 layers of width 128" in refused(capsys, tmp_path / "ours", SIZE, "--source", file)


def test_a_named_size_is_suggested(tmp_path, capsys):
    """A 300M skeleton under the name of the 600M."""
    shapes = skeleton(PRESETS["esmc_300m"])
    row = {row.ours: row.split.name for row in TABLE}
    state = {}
    for name, shape in shapes.items():
        stacked = name.startswith("blocks.")
        for layer in range(30 if stacked else 1):
            kept = shape[1:] if stacked else shape
            # Only what tells the size is there: the port must say so before it misses the rest.
            if name in ("embedding", "blocks.ffn.down.weight") and layer in (0, 29):
                state[row[name].format(n=layer)] = np.zeros(kept, np.float32)
    state["esmc.layers.29.self_attn.q_proj.weight"] = np.zeros((960, 960), np.float32)
    file = write(state, tmp_path / "x.safetensors")
    error = refused(capsys, tmp_path / "ours", "esmc_600m", "--source", file)
    assert "name esmc_300m instead" in error


def test_not_a_checkpoint(tmp_path, capsys):
    file = write({"bert.embeddings": np.zeros(2, np.float32)}, tmp_path / "x.safetensors")
    assert "bert.embeddings" in refused(capsys, tmp_path / "ours", SIZE, "--source", file)


@pytest.mark.parametrize("damage", ["truncated", "corrupt", "empty"])
def test_damaged_safetensors(states, tmp_path, capsys, damage):
    file = write(states["split"], tmp_path / "x.safetensors")
    data = file.read_bytes()
    broken = {"truncated": data[:-100], "corrupt": b"\xff" * 64 + data[64:], "empty": b""}
    file.write_bytes(broken[damage])
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", file)
    assert "x.safetensors: not a readable safetensors file" in error


class Payload:
    """What a hostile pickle would do."""

    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("kind", ["code", "not torch", "no tensors", "text"])
def test_pth_that_is_no_weights(tmp_path, capsys, kind):
    file = tmp_path / "x.pth"
    if kind == "code":
        torch.save({"x": Payload()}, file)
    elif kind == "not torch":
        file.write_bytes(pickle.dumps({"x": 1}))
    elif kind == "no tensors":
        torch.save({"x": [1, 2]}, file)
    else:
        file.write_text("hello")
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", file)
    assert "refused" in error
    assert "executed" not in error


@pytest.mark.parametrize("source", ["absent.safetensors", "absent/deeper/still", "absent"])
def test_source_that_is_not_there(tmp_path, capsys, source):
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", tmp_path / source)
    assert "no such file or folder" in error


def test_folder_without_weights(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", tmp_path / "source")
    assert "holds neither" in error


def test_the_pinned_release_is_asked_for(tmp_path, capsys):
    """Offline, as every test is, the error names what would have been fetched."""
    error = refused(capsys, tmp_path / "ours", "esmc_6b")
    assert f"{RELEASES['esmc_6b'].repository}@{RELEASES['esmc_6b'].revision}" in error


def test_the_report_says_what_was_read_and_written(states, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, SIZE, infer_tiny())
    file = write(states["fused"], tmp_path / "model.safetensors")
    status, out, err = run(capsys, SIZE, "--source", file, "--out", tmp_path / "ours")
    assert (status, err) == (0, "")
    for part in (str(file), "fused", "3 layers of width 128", "9 of extra state", "21 tensors"):
        assert part in out
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    assert len(stored) == 21
    assert f"{sum(array.size for array in stored.values()):,} parameters" in out


def infer_tiny():
    from eqxesm import ESMCConfig

    return ESMCConfig(**TINY)


def test_safetensors_are_read_without_torch(states, tmp_path):
    file = write(states["split"], tmp_path / "x.safetensors")
    code = f"""
import sys
from pathlib import Path
from conversion.port import port
from conversion.sources import open_source
port(None, open_source("{SIZE}", r"{file}"), r"{tmp_path / "ours"}")
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number(states, tmp_path, capsys, monkeypatch, bad):
    monkeypatch.setitem(PRESETS, SIZE, infer_tiny())
    name = "esmc.layers.2.mlp.up_proj.weight"
    broken = states["split"][name].copy()
    broken[5, 7] = bad
    file = write({**states["split"], name: broken}, tmp_path / "x.safetensors")
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", file)
    assert f"{name} holds NaN or infinity as float32" in error


def test_a_weight_too_large_for_the_precision(states, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, SIZE, infer_tiny())
    name = "esmc.norm.weight"
    large = states["split"][name].copy()
    large[3] = np.finfo(np.float32).max
    file = write({**states["split"], name: large}, tmp_path / "x.safetensors")
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", file, "--dtype", "bfloat16")
    assert f"{name} holds NaN or infinity as bfloat16" in error


def test_float16_wants_a_precision_named(states, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, SIZE, infer_tiny())
    half = {name: value.astype(np.float16) for name, value in states["split"].items()}
    file = write(half, tmp_path / "x.safetensors")
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", file)
    assert "is float16: name --dtype float32 or bfloat16" in error
    name = "esmc.norm.weight"
    with np.errstate(over="ignore"):
        half[name] = (states["split"][name] * np.float32(1e6)).astype(np.float16)
    write(half, file)
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", file, "--dtype", "float32")
    assert f"{name} holds NaN or infinity" in error


def shards(states, folder):
    """A split checkpoint in two shards."""
    folder.mkdir()
    names = sorted(states["split"])
    weight_map = {}
    for number, chosen in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        write({name: states["split"][name] for name in chosen}, folder / shard)
        weight_map |= dict.fromkeys(chosen, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("damage", ["truncated", "absent", "outside", "another"])
def test_damaged_shards(states, tmp_path, capsys, damage):
    source = shards(states, tmp_path / "source")
    shard, index = (
        source / "model-00002-of-00002.safetensors",
        source / "model.safetensors.index.json",
    )
    expected = "model-00002-of-00002.safetensors"
    if damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif damage == "absent":
        shard.unlink()
    elif damage == "outside":
        shard.rename(tmp_path / "elsewhere.safetensors")
        index.write_text(index.read_text().replace(shard.name, "../elsewhere.safetensors"))
        expected = "outside of its folder"
    else:
        shard.write_bytes((source / "model-00001-of-00002.safetensors").read_bytes())
        expected = "stands in another shard too"
    assert expected in refused(capsys, tmp_path / "ours", SIZE, "--source", source)


def test_an_interrupted_write_leaves_nothing(states, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, SIZE, infer_tiny())
    file = write(states["split"], tmp_path / "x.safetensors")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", file)
    assert "No space left on device" in error


@pytest.mark.parametrize("named", [[], ["--dtype", "bfloat16"]])
def test_a_port_is_published_with_its_proof(named, states, hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, SIZE, infer_tiny())
    file = write(states["split"], tmp_path / "x.safetensors")
    arguments = (SIZE, "--source", file, "--out", tmp_path / "ours", "--push", "me/tiny", *named)
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    repository = hub.repositories["me/tiny"]
    assert f"pushed  {hub.endpoint}/me/tiny/commit/{repository.names['main']}" in out
    assert repository.private
    assert set(repository.tree()) == {
        ".gitattributes", "README.md", "config.json", "metrics.json", "model.safetensors",
        "parity.png",
    }  # fmt: skip
    parity = json.loads(repository.tree()["metrics.json"].content)["parity"]
    assert 0 < parity[0]["distance"] <= parity[0]["tolerance"]
    card = repository.tree()["README.md"].content.decode()
    assert f"{parity[0]['distance']:.1e}" in card
    assert 'ESMC.from_pretrained("me/tiny")' in card
    assert repository.tree()["parity.png"].content.startswith(b"\x89PNG")
    dtype = jnp.bfloat16 if named else jnp.float32
    assert ESMC.from_pretrained("me/tiny").embedding.dtype == dtype


def test_a_port_is_published_without_its_proof(states, hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, SIZE, infer_tiny())
    file = write(states["split"], tmp_path / "x.safetensors")
    arguments = (SIZE, "--source", file, "--out", tmp_path / "ours", "--push", "me/tiny")
    status, _, _ = run(capsys, *arguments, "--no-parity", "--public")
    assert status == 0
    assert not hub.repositories["me/tiny"].private
    assert "metrics.json" not in hub.repositories["me/tiny"].tree()
    assert (
        b"Not measured on these weights" in hub.repositories["me/tiny"].tree()["README.md"].content
    )


def test_a_second_port_keeps_a_person_s_words(states, tmp_path):
    source = open_source(SIZE, str(write(states["split"], tmp_path / "x.safetensors")))
    port(None, source, tmp_path / "ours")
    with open(tmp_path / "ours" / "README.md", "a", encoding="utf-8") as file:
        file.write("\nour words\n")
    port(None, source, tmp_path / "ours")
    assert "our words" in (tmp_path / "ours" / "README.md").read_text()


def test_a_port_that_is_wrong_is_not_published(states, hub, tmp_path, capsys, monkeypatch):
    """Whether its folder holds other weights, or the original computes something else."""
    monkeypatch.setitem(PRESETS, SIZE, infer_tiny())
    file = write(states["split"], tmp_path / "x.safetensors")
    source = open_source(SIZE, str(file))
    port(SIZE, source, tmp_path / "ours")
    encoder = ESMC.from_pretrained(tmp_path / "ours")
    eqx.tree_at(lambda e: e.norm.weight, encoder, encoder.norm.weight + 1e-3).save_pretrained(
        tmp_path / "ours"
    )
    with pytest.raises(InputError, match="holds other parameters than"):
        add_proof(tmp_path / "ours", source)
    monkeypatch.setattr("conversion.parity.FLOAT32_TOLERANCE", 1e-12)
    monkeypatch.setattr("conversion.compare.FLOAT32_TOLERANCE", 1e-12)
    arguments = (SIZE, "--source", file, "--out", tmp_path / "other", "--push", "me/tiny")
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert "the port is out of tolerance in" in err
    assert hub.repositories == {}


def test_a_push_that_fails_leaves_the_port(states, tmp_path, capsys, monkeypatch):
    """Offline, as every test is, and without a login."""
    monkeypatch.setitem(PRESETS, SIZE, infer_tiny())
    file = write(states["split"], tmp_path / "x.safetensors")
    arguments = (SIZE, "--source", file, "--out", tmp_path / "ours", "--no-parity")
    for login, part in (("", "pushing wants a login"), ("x", "the Hub cannot be reached")):
        monkeypatch.setenv("HF_TOKEN", login)
        status, _, err = run(capsys, *arguments, "--push", "me/tiny")
        assert status == 2
        assert part in err
        assert f"the port is whole: eqxesm push {tmp_path / 'ours'} me/tiny" in err
        assert ESMC.from_pretrained(tmp_path / "ours").config == infer_tiny()
    error = refused(capsys, tmp_path / "else", SIZE, "--source", file, "--push", "tiny")
    assert "no name of a Hub repository" in error
    error = refused(capsys, tmp_path / "else", SIZE, "--source", file, "--public")
    assert "go with --push" in error


def test_hub_addresses(tmp_path, capsys):
    address = "hf://someone/esmc@abc"
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", address)
    assert error.startswith("conversion.port: error: someone/esmc@abc:")


@pytest.mark.parametrize("named", [None, "float32"])
def test_mixed_precisions_are_told(states, tmp_path, named):
    mixed = {k: torch.tensor(v) for k, v in states["split"].items()}
    mixed["esmc.embed_tokens.weight"] = mixed["esmc.embed_tokens.weight"].to(torch.bfloat16)
    torch.save(mixed, tmp_path / "x.pth")
    source = open_source(SIZE, str(tmp_path / "x.pth"))
    if named is None:
        with pytest.raises(InputError, match="is bfloat16 and float32: name --dtype"):
            port(None, source, tmp_path / "ours")
    else:
        port(None, source, tmp_path / "ours", np.dtype(named))
        assert ESMC.from_pretrained(tmp_path / "ours").embedding.dtype == jnp.float32


def test_quantised_weights_are_refused(states, tmp_path):
    name = "esmc.layers.0.self_attn.q_proj.weight"
    state = {**states["split"], name: states["split"][name].astype(np.int8)}
    source = open_source(SIZE, str(write(state, tmp_path / "x.safetensors")))
    with pytest.raises(InputError, match=f"{name} is int8"):
        port(None, source, tmp_path / "ours", np.dtype(np.float32))


def test_odd_tensors_in_a_pth(states, tmp_path, capsys):
    state = {k: torch.tensor(v) for k, v in states["split"].items()}
    state["esmc.norm.weight"] = state["esmc.norm.weight"].to_sparse()
    torch.save(state, tmp_path / "x.pth")
    error = refused(capsys, tmp_path / "ours", SIZE, "--source", tmp_path / "x.pth")
    assert "esmc.norm.weight is torch.float32, torch.sparse_coo: refused" in error


def test_the_release_is_no_folder_of_the_same_name(states, tmp_path, capsys, monkeypatch):
    """Else its files would be recorded under the release's commit and licence."""
    folder = tmp_path / "biohub" / "ESMC-300M"
    folder.mkdir(parents=True)
    write(states["split"], folder / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, SIZE, infer_tiny())
    assert "biohub/ESMC-300M@" in refused(capsys, tmp_path / "ours", SIZE)


@pytest.mark.parametrize("number", ["007", "9" * 5000, "12345"])
def test_layer_numbers_that_cannot_be(states, tmp_path, number):
    state = {**states["split"], f"esmc.layers.{number}.self_attn.q_proj.weight": np.zeros((2, 2))}
    source = open_source(SIZE, str(write(state, tmp_path / "x.safetensors")))
    with pytest.raises(InputError, match=r"unknown esmc\.layers"):
        port(None, source, tmp_path / "ours", np.dtype(np.float32))


def test_a_tensor_in_two_shards_is_refused(states, tmp_path, capsys):
    source = shards(states, tmp_path / "source")
    first = dict(load_file(source / "model-00001-of-00002.safetensors"))
    second = load_file(source / "model-00002-of-00002.safetensors")
    first[next(iter(second))] = next(iter(second.values()))
    write(first, source / "model-00001-of-00002.safetensors")
    assert "stands in another shard too" in refused(
        capsys, tmp_path / "ours", SIZE, "--source", source
    )
