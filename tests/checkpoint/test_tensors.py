"""Safetensors files: the standard library reads ours, damaged ones are refused, blocks are checked."""

import errno
import itertools
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from checkpoints import (
    SHARD_BYTES,
    assert_loads_or_is_refused_in_one_line,
    attribute,
    bits,
    key_paths,
    load_file,
    made,
    refusal,
)
from fuzzing import fuzz, json_values
from hypothesis import given
from hypothesis import strategies as st

from eqxesm import ESMC, ESMCConfig, SolubilityModel
from eqxesm.checkpoint import tensors
from eqxesm.checkpoint.tensors import INDEX, WEIGHTS, TensorSpec, open_folder, weight_files, write_tensors
from eqxesm.encoders import cast
from eqxesm.errors import InputError

# Writing


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", ["encoder", "model", "small"])
def test_the_safetensors_library_reads_the_same_tensors(kind, dtype, tmp_path):
    tree = cast(made(kind), dtype)
    tree.save_pretrained(tmp_path / "out")
    stored = load_file(tmp_path / "out" / WEIGHTS)
    assert len(stored) == len(bits(tree))
    for name, value in stored.items():
        leaf = np.asarray(attribute(tree, name))
        assert value.dtype == leaf.dtype == dtype
        assert value.shape == leaf.shape
        assert value.tobytes() == leaf.tobytes(), name


def test_the_safetensors_library_reads_our_shards(saved):
    folder = saved / "sharded"
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    whole = load_file(saved / "model" / WEIGHTS)
    assert set(weight_map) == set(whole)
    for name, shard in weight_map.items():
        with safetensors.safe_open(folder / shard, framework="np") as file:
            np.testing.assert_array_equal(file.get_tensor(name), whole[name])
    shards = set(weight_map.values())
    sizes = {shard: sum(value.nbytes for value in load_file(folder / shard).values()) for shard in shards}
    counts = {shard: list(weight_map.values()).count(shard) for shard in shards}
    assert all(size <= SHARD_BYTES or counts[shard] == 1 for shard, size in sizes.items())
    total = json.loads((folder / INDEX).read_text())["metadata"]["total_size"]
    assert total == sum(value.nbytes for value in whole.values()) == sum(sizes.values())
    assert not (folder / WEIGHTS).exists()
    assert weight_files(folder) == sorted(shards)
    assert weight_files(saved / "model") == [WEIGHTS]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", ["encoder", "small"])
def test_tensors_are_aligned(kind, dtype, tmp_path):
    cast(made(kind), dtype).save_pretrained(tmp_path / "out")
    data = (tmp_path / "out" / WEIGHTS).read_bytes()
    header_bytes = int.from_bytes(data[:8], "little")
    assert (8 + header_bytes) % 64 == 0
    header = json.loads(data[8 : 8 + header_bytes])
    header.pop("__metadata__")
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert spans[0][0] == 0
    assert spans[-1][1] == len(data) - 8 - header_bytes
    assert all(start == end for (_, end), (start, _) in itertools.pairwise(spans))
    # Only a tensor after one of odd size is not aligned, and those come last.
    odd = [(end - start) % 64 != 0 for start, end in spans]
    assert odd == sorted(odd)
    for name, tensor in open_folder(tmp_path / "out").items():
        if (header[name]["data_offsets"][0]) % 64 == 0:
            assert tensor.map().ctypes.data % 64 == 0


def blocks(*arrays, then=None):
    def parts(_name):
        yield from arrays
        if then is not None:
            raise then

    return parts


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        (blocks(np.zeros(2, np.float32)), ValueError),
        (blocks(np.zeros(4, np.float64)), ValueError),
        (blocks(np.zeros(4, np.float32), np.zeros(1, np.float32)), ValueError),
        (blocks(np.zeros(2, np.float32), then=OSError(errno.ENOSPC, "full")), OSError),
        (blocks(np.zeros(2, np.float32), then=KeyboardInterrupt()), KeyboardInterrupt),
    ],
)
def test_blocks_that_differ_from_their_specification_are_refused(parts, error, tmp_path):
    with pytest.raises(error):
        write_tensors(tmp_path, {"a": TensorSpec((4,), np.dtype(np.float32))}, parts)


def test_blocks_that_are_not_contiguous_are_written_in_order(tmp_path):
    whole = np.arange(24, dtype=np.float32).reshape(6, 4)
    specs = {"a": TensorSpec((4, 6), np.dtype(np.float32))}
    write_tensors(tmp_path, specs, blocks(whole.T[:1], whole.T[1:]))
    np.testing.assert_array_equal(load_file(tmp_path / WEIGHTS)["a"], whole.T)


# Reading


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system lists no mappings")
def test_weights_are_mapped_not_copied(saved):
    encoder = ESMC.from_pretrained(saved / "encoder")
    path = str(saved / "encoder" / WEIGHTS)
    spans = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(path)
    ]
    pointer = encoder.blocks.attention.query.weight.unsafe_buffer_pointer()
    assert any(start <= pointer < end for start, end in spans)


@pytest.mark.parametrize(("start", "stop"), [(0, None), (1, 3), (2, 2), (-1, None), (5, 100)])
def test_rows_are_read_as_numpy_slices_them(start, stop, saved):
    expected = load_file(saved / "model" / WEIGHTS)
    for name, tensor in open_folder(saved / "model").items():
        rows = tensor.read(start, stop)
        np.testing.assert_array_equal(rows, expected[name][start:stop])
        assert rows.flags.writeable


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: data[:-1], id="last byte missing"),
        pytest.param(lambda data: data[: len(data) // 2], id="half"),
        pytest.param(lambda data: data + b"\0", id="a byte too many"),
        pytest.param(lambda data: data[:0], id="empty"),
        pytest.param(lambda data: data[:5], id="shorter than its length"),
        pytest.param(lambda data: data[:8], id="no header"),
        pytest.param(lambda data: data[:100], id="header cut"),
        pytest.param(lambda data: b"\xff" * 8 + data[8:], id="header longer than any file"),
        pytest.param(lambda data: (len(data) + 1).to_bytes(8, "little") + data[8:], id="header longer than this file"),
        pytest.param(lambda data: data[:8] + b"[" + data[9:], id="header is no object"),
        pytest.param(lambda data: data[:20] + b"\0\xff" + data[22:], id="header is no text"),
        pytest.param(lambda data: data.replace(b'"F32"', b'"F33"', 1), id="unknown dtype"),
        pytest.param(lambda data: data.replace(b'"F32"', b'"U32"', 1), id="dtype not read here"),
        pytest.param(lambda data: data.replace(b'offsets":[0,', b'offsets":[8,', 1), id="overlap"),
        pytest.param(lambda _: b"version https://git-lfs.github.com/spec/v1\n", id="git lfs"),
        pytest.param(lambda _: b"\x80\x04\x95\x05\0\0\0\0\0\0\0\x8c\x01a\x94.", id="pickle"),
    ],
)
@pytest.mark.parametrize("kind", ["model", "sharded"])
def test_refuses_damaged_weights(kind, change, copy):
    folder = copy(kind)
    path = min(folder.glob("*.safetensors"))
    data = path.read_bytes()
    assert change(data) != data
    path.write_bytes(change(data))
    assert path.name in refusal(SolubilityModel, folder)


def test_refuses_missing_weights(copy):
    folder = copy("model")
    (folder / WEIGHTS).unlink()
    assert "file not found" in refusal(SolubilityModel, folder)


def test_refuses_a_folder_in_the_place_of_weights(copy):
    folder = copy("model")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    assert WEIGHTS in refusal(SolubilityModel, folder)


def test_refuses_a_missing_shard_by_its_name(copy):
    folder = copy("sharded")
    shard = min(folder.glob("model-*.safetensors"))
    shard.unlink()
    assert shard.name in refusal(SolubilityModel, folder)


@pytest.mark.parametrize(
    "shard", ["../secret.safetensors", "/etc/passwd", "..", ".", "", "sub/model.safetensors", "\0", "a\nb"]
)
def test_refuses_an_index_that_names_a_shard_elsewhere(shard, copy, tmp_path):
    folder = copy("sharded")
    first = min(folder.glob("model-*.safetensors"))
    shutil.copy(first, tmp_path / "secret.safetensors")
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {name: shard if file == first.name else file for name, file in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps(index))
    message = refusal(SolubilityModel, folder)
    if os.path.basename(shard) != shard:
        assert "names a shard that is no plain file name" in message


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}',
     '{"weight_map": {"a": [1]}}', '{"weight_map": {}}', "\ufffe", "[" * 100_000],
    ids=lambda text: text[:24] or "empty",
)  # fmt: skip
def test_refuses_an_index_that_is_not_one(text, copy):
    folder = copy("sharded")
    (folder / INDEX).write_text(text, encoding="utf-16" if text == "\ufffe" else "utf-8")
    assert str(folder) in refusal(SolubilityModel, folder)


def test_refuses_a_folder_in_the_place_of_an_index(copy):
    folder = copy("sharded")
    (folder / INDEX).unlink()
    (folder / INDEX).mkdir()
    assert f"{folder / INDEX}: not an index of shards" in refusal(SolubilityModel, folder)


@pytest.mark.parametrize("change", ["dropped", "added", "moved"])
def test_refuses_an_index_that_disagrees_with_its_shards(change, copy):
    folder = copy("sharded")
    index = json.loads((folder / INDEX).read_text())
    weight_map = index["weight_map"]
    name = "head.mlp.layers.0.weight"
    if change == "dropped":
        del weight_map[name]
    elif change == "added":
        name = "extra"
        weight_map[name] = weight_map["encoder.embedding"]
    else:
        weight_map[name] = next(s for s in weight_map.values() if s != weight_map[name])
    (folder / INDEX).write_text(json.dumps(index))
    message = refusal(SolubilityModel, folder)
    assert "disagree about 1 tensor," in message
    assert name in message


def test_refuses_a_tensor_that_is_in_two_shards(copy):
    folder = copy("sharded")
    first, second, *_ = sorted(folder.glob("model-*.safetensors"))
    repeated = next(iter(load_file(first)))
    safetensors.numpy.save_file(load_file(second) | {repeated: load_file(first)[repeated]}, second)
    assert f"tensor {repeated} is in another shard too" in refusal(SolubilityModel, folder)


def test_refuses_shards_beside_a_whole_file(tmp_path):
    ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0)).save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / INDEX).write_text("{}")
    with pytest.raises(InputError, match=rf"holds both {WEIGHTS} and {INDEX}. Delete one"):
        ESMC.from_pretrained(tmp_path / "mine")


def test_refuses_a_header_that_is_too_long_to_be_one(copy, monkeypatch):
    """A header is parsed as a whole, so its size is checked first."""
    monkeypatch.setattr(tensors, "MAX_BYTES", 100)
    assert "over 100" in refusal(SolubilityModel, copy("model"))


@fuzz
@given(data=st.data())
def test_any_damage_to_the_header_loads_or_is_refused(data, saved, fuzzed):
    original = (saved / "small" / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(original[:8], "little")
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, end - 1))
        damaged[place] = data.draw(
            st.integers(0, 255) | st.sampled_from(b'\\",[]{}0189FB') | st.just(damaged[place] ^ 1)
        )
    if data.draw(st.booleans()):
        damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    (fuzzed / "small" / WEIGHTS).write_bytes(damaged)
    assert_loads_or_is_refused_in_one_line(fuzzed / "small")


@fuzz
@given(data=st.data())
def test_any_damage_to_the_index_is_refused_in_one_line(data, fuzzed):
    shard = fuzzed / "small" / "model-00001-of-00001.safetensors"
    if (fuzzed / "small" / WEIGHTS).exists():
        (fuzzed / "small" / WEIGHTS).rename(shard)
    index = {"metadata": {"total_size": 1}, "weight_map": {"head.x": shard.name, "y": "../y"}}
    *parents, key = data.draw(st.sampled_from(list(key_paths(index))))
    place = index
    for parent in parents:
        place = place[parent]
    place[key] = data.draw(json_values)
    (fuzzed / "small" / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError) as caught:
        SolubilityModel.from_pretrained(fuzzed / "small")
    assert len(str(caught.value).splitlines()) == 1
