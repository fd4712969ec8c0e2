import contextlib
import errno
import functools
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eqxesm import ESMC, Calibration, ESMCConfig, OneHot, SolubilityModel
from eqxesm.checkpoint import format, tensors  # noqa: A004
from eqxesm.checkpoint.schema import Provenance
from eqxesm.data.cleaning import Cleaning
from eqxesm.declarations import Limits
from eqxesm.encoders import cast
from eqxesm.errors import InputError
from heads import CompositionMLP, CompositionMLPConfig, MeanPoolMLP, MeanPoolMLPConfig

PROVENANCE = Provenance("someone/somewhere", "0123abc", ("ff  model.safetensors",), "mit")
SMALL = 50_000
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"


def scrambled(tree):
    """Every leaf of its own random values, gains and biases too."""
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: (
            jnp.asarray(generator.standard_normal(x.shape), x.dtype) if eqx.is_array(x) else x
        ),
        tree,
    )


def make_encoder(provenance: Provenance | None = PROVENANCE, **changes) -> ESMC:
    config = ESMCConfig(**{"layers": 3, "d_model": 128, "heads": 2, "d_ffn": 256, **changes})
    return scrambled(ESMC(config, key=jax.random.key(0), provenance=provenance))


def make_model() -> SolubilityModel:
    head = MeanPoolMLP(MeanPoolMLPConfig(128, (16, 8), 0.1), key=jax.random.key(1))
    return scrambled(
        SolubilityModel(
            make_encoder(None, lm_head=False),
            head,
            Cleaning(strip_tags=True),
            Calibration(1.5, 0.25),
            Limits(700),
            PROVENANCE,
        )
    )


def make_small() -> SolubilityModel:
    config = CompositionMLPConfig(OneHot().d_model, (4,))
    return scrambled(SolubilityModel(OneHot(), CompositionMLP(config, key=jax.random.key(0))))


MAKERS = {"encoder": make_encoder, "model": make_model, "small": make_small}


@functools.cache
def made(kind: str):
    return MAKERS[kind]()


def save_sharded(tree, folder: Path, shard_bytes: int = SMALL) -> None:
    tree.save_pretrained(folder)
    config = json.loads((folder / CONFIG).read_text())
    sections = {key: value for key, value in config.items() if not key.endswith("_version")}
    format.save(folder, tree, sections, {}, shard_bytes=shard_bytes)


def bits(tree) -> list:
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]
    return [(array.dtype.name, array.shape, array.tobytes()) for array in arrays]


def attribute(tree, name: str):
    step = lambda x, part: x[int(part)] if part.isdigit() else getattr(x, part)  # noqa: E731
    return functools.reduce(step, name.split("."), tree)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def load_file(path: Path) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in safetensors.numpy.load_file(path).items()}


def refusal(cls, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        cls.from_pretrained(folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(folder) in message
    return message


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    for kind in MAKERS:
        made(kind).save_pretrained(root / kind)
    save_sharded(made("model"), root / "sharded")
    return root


@pytest.fixture
def copy(saved, tmp_path):
    def _copy(kind: str) -> Path:
        return Path(shutil.copytree(saved / kind, tmp_path / kind))

    return _copy


@pytest.fixture
def edit(copy):
    """A copy of a checkpoint whose configuration was changed in one place."""

    def _edit(kind: str, path: str, value) -> Path:
        folder = copy(kind)
        config = json.loads((folder / CONFIG).read_text())
        *parents, key = path.split("/")
        place = functools.reduce(dict.__getitem__, parents, config)
        if value is None and key in place:
            del place[key]
        else:
            place[key] = value
        (folder / CONFIG).write_text(json.dumps(config))
        return folder

    return _edit


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", list(MAKERS))
def test_round_trip_to_the_bit(kind, dtype, sharded, tmp_path):
    tree = cast(made(kind), dtype)
    if sharded:
        save_sharded(tree, tmp_path / "out", 2_000)
        assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 1 or kind == "small"
    else:
        tree.save_pretrained(tmp_path / "out")
    again = type(tree).from_pretrained(tmp_path / "out")
    assert bits(again) == bits(tree)
    assert {name for name, _, _ in bits(again)} == {np.dtype(dtype).name}
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert again.provenance == tree.provenance


def test_configuration_survives(saved):
    model, again = made("model"), SolubilityModel.from_pretrained(saved / "model")
    assert again.encoder.config == model.encoder.config
    assert again.head.config == model.head.config
    assert (again.cleaning, again.calibration, again.limits, again.provenance) == (
        Cleaning(strip_tags=True),
        Calibration(1.5, 0.25),
        Limits(700),
        PROVENANCE,
    )


@pytest.mark.parametrize("lm_head", [True, False])
def test_outputs_survive(lm_head, tmp_path):
    encoder = make_encoder(layers=1, lm_head=lm_head)
    encoder.save_pretrained(tmp_path / "out")
    tokens = np.array([0, 4, 5, 6, 2], np.int32)
    ours, again = encoder(tokens), ESMC.from_pretrained(tmp_path / "out")(tokens)
    np.testing.assert_array_equal(again.embedding, ours.embedding)
    assert (again.logits is None) == (not lm_head)
    if lm_head:
        np.testing.assert_array_equal(again.logits, ours.logits)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", list(MAKERS))
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
    sizes = {shard: sum(v.nbytes for v in load_file(folder / shard).values()) for shard in
             set(weight_map.values())}  # fmt: skip
    counts = {shard: list(weight_map.values()).count(shard) for shard in sizes}
    assert all(size <= SMALL or counts[shard] == 1 for shard, size in sizes.items())
    total = json.loads((folder / INDEX).read_text())["metadata"]["total_size"]
    assert total == sum(value.nbytes for value in whole.values()) == sum(sizes.values())
    assert not (folder / WEIGHTS).exists()


def test_names_are_dotted_and_their_order_in_the_file_does_not_matter(copy):
    folder = copy("model")
    leaves = load_file(folder / WEIGHTS)
    assert "encoder.blocks.attention.query.weight" in leaves
    backwards = dict(reversed(leaves.items()))
    shards = {"model-00001-of-00002.safetensors": list(backwards)[::2],
              "model-00002-of-00002.safetensors": list(backwards)[1::2]}  # fmt: skip
    weight_map = {}
    for shard, names in shards.items():
        safetensors.numpy.save_file({name: backwards[name] for name in names}, folder / shard)
        weight_map |= dict.fromkeys(names, shard)
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    assert bits(SolubilityModel.from_pretrained(folder)) == bits(made("model"))


def test_keys_of_the_configuration_come_in_any_order(copy):
    folder = copy("model")

    def backwards(value):
        if not isinstance(value, dict):
            return value
        return {key: backwards(each) for key, each in reversed(value.items())}

    (folder / CONFIG).write_text(json.dumps(backwards(json.loads((folder / CONFIG).read_text()))))
    assert bits(SolubilityModel.from_pretrained(folder)) == bits(made("model"))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", ["encoder", "small"])
def test_tensors_are_aligned(kind, dtype, tmp_path):
    tree = cast(made(kind), dtype)
    tree.save_pretrained(tmp_path / "out")
    data = (tmp_path / "out" / WEIGHTS).read_bytes()
    header_bytes = int.from_bytes(data[:8], "little")
    assert (8 + header_bytes) % 64 == 0
    header = json.loads(data[8 : 8 + header_bytes])
    header.pop("__metadata__")
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert spans[0][0] == 0
    assert spans[-1][1] == len(data) - 8 - header_bytes
    assert all(start == end for (_, end), (start, _) in itertools.pairwise(spans))
    # Only a tensor behind one of odd size is not aligned, and those come last.
    odd = [(end - start) % 64 != 0 for start, end in spans]
    assert odd == sorted(odd)
    for name, tensor in tensors.open_folder(tmp_path / "out").items():
        if (header[name]["data_offsets"][0]) % 64 == 0:
            assert tensor.view().ctypes.data % 64 == 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system lists no mappings")
def test_weights_stay_in_the_file(saved):
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
def test_reading_rows(start, stop, saved):
    expected = load_file(saved / "model" / WEIGHTS)
    for name, tensor in tensors.open_folder(saved / "model").items():
        rows = tensor.read(start, stop)
        np.testing.assert_array_equal(rows, expected[name][start:stop])
        assert rows.flags.writeable


# Weights that cannot be read.


def cut(size):
    return lambda data: data[:size]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: data[:-1], id="last byte missing"),
        pytest.param(lambda data: data[: len(data) // 2], id="half"),
        pytest.param(lambda data: data + b"\0", id="a byte too many"),
        pytest.param(cut(0), id="empty"),
        pytest.param(cut(5), id="shorter than its length"),
        pytest.param(cut(8), id="no header"),
        pytest.param(cut(100), id="header cut"),
        pytest.param(lambda data: b"\xff" * 8 + data[8:], id="header length beyond everything"),
        pytest.param(
            lambda data: (len(data) + 1).to_bytes(8, "little") + data[8:], id="header beyond file"
        ),
        pytest.param(lambda data: data[:8] + b"[" + data[9:], id="header no object"),
        pytest.param(lambda data: data[:20] + b"\0\xff" + data[22:], id="header not text"),
        pytest.param(lambda data: data.replace(b'"F32"', b'"F33"', 1), id="unknown dtype"),
        pytest.param(lambda data: data.replace(b'"F32"', b'"U32"', 1), id="dtype not read here"),
        pytest.param(lambda data: data.replace(b'offsets":[0,', b'offsets":[8,', 1), id="overlap"),
        pytest.param(lambda _: b"version https://git-lfs.github.com/spec/v1\n", id="git lfs"),
        pytest.param(lambda _: b"\x80\x04\x95\x05\0\0\0\0\0\0\0\x8c\x01a\x94.", id="pickle"),
    ],
)
@pytest.mark.parametrize("kind", ["model", "sharded"])
def test_damaged_weights_are_refused(kind, change, copy):
    folder = copy(kind)
    path = min(folder.glob("*.safetensors"))
    data = path.read_bytes()
    assert change(data) != data
    path.write_bytes(change(data))
    assert path.name in refusal(SolubilityModel, folder)


def test_missing_weights(copy):
    folder = copy("model")
    (folder / WEIGHTS).unlink()
    assert "no such file" in refusal(SolubilityModel, folder)


def test_weights_that_are_a_folder(copy):
    folder = copy("model")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    refusal(SolubilityModel, folder)


def test_missing_shard(copy):
    folder = copy("sharded")
    shard = min(folder.glob("model-*.safetensors"))
    shard.unlink()
    assert shard.name in refusal(SolubilityModel, folder)


@pytest.mark.parametrize(
    "shard",
    ["../secret.safetensors", "/etc/passwd", "..", ".", "", "sub/model.safetensors", "\0", "a\nb"],
)
def test_index_that_names_an_odd_shard(shard, copy, tmp_path):
    folder = copy("sharded")
    first = min(folder.glob("model-*.safetensors"))
    shutil.copy(first, tmp_path / "secret.safetensors")
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {
        name: shard if name_of == first.name else name_of
        for name, name_of in index["weight_map"].items()
    }
    (folder / INDEX).write_text(json.dumps(index))
    message = refusal(SolubilityModel, folder)
    if os.path.basename(shard) != shard:
        assert "outside" in message


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}',
     '{"weight_map": {"a": [1]}}', '{"weight_map": {}}', "\ufffe", "[" * 100_000],
    ids=lambda text: text[:24] or "empty",
)  # fmt: skip
def test_index_that_is_none(text, copy):
    folder = copy("sharded")
    (folder / INDEX).write_text(text, encoding="utf-16" if text == "\ufffe" else "utf-8")
    refusal(SolubilityModel, folder)


def test_index_that_is_a_folder(copy):
    folder = copy("sharded")
    (folder / INDEX).unlink()
    (folder / INDEX).mkdir()
    refusal(SolubilityModel, folder)


@pytest.mark.parametrize("change", ["dropped", "added", "moved"])
def test_index_and_shards_that_disagree(change, copy):
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
    assert "disagree about 1 tensors" in message
    assert name in message


def test_everything_wrong_with_the_weights_is_named_at_once(copy):
    folder = copy("model")
    leaves = load_file(folder / WEIGHTS)
    del leaves["encoder.norm.weight"], leaves["head.mlp.layers.0.bias"]
    leaves["extra.one"] = np.zeros(1, np.float32)
    leaves["extra\ntwo"] = np.zeros(1, np.float32)
    leaves["encoder.embedding"] = np.zeros((65, 128), np.float32)
    leaves["head.mlp.layers.1.bias"] = leaves["head.mlp.layers.1.bias"].reshape(1, -1)
    leaves["head.mlp.layers.2.bias"] = np.zeros(1, np.int32)
    safetensors.numpy.save_file(leaves, folder / WEIGHTS)
    message = refusal(SolubilityModel, folder)
    for part in (
        "missing encoder.norm.weight",
        "missing head.mlp.layers.0.bias",
        "unknown extra.one",
        "unknown extra two",
        "encoder.embedding has shape [65, 128], not [64, 128]",
        "head.mlp.layers.1.bias has shape [1, 8], not [8]",
        "head.mlp.layers.2.bias has dtype int32",
    ):
        assert part in message
    assert "head.mlp.layers.1.weight" not in message


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.bool_])
def test_leaves_that_are_no_floating_point(dtype, copy):
    folder = copy("small")
    leaves = {name: value.astype(dtype) for name, value in load_file(folder / WEIGHTS).items()}
    safetensors.numpy.save_file(leaves, folder / WEIGHTS)
    message = refusal(SolubilityModel, folder)
    assert all(f"{name} has dtype" in message for name in leaves)


# config.json


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "holds no config.json"),
        (b"", "not readable as JSON"),
        (b"{", "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"[]", "no checkpoint of eqxesm"),
        (b"3", "no checkpoint of eqxesm"),
        (b"null", "no checkpoint of eqxesm"),
        (b'"schema_version"', "no checkpoint of eqxesm"),
        (b'{"model_type": "esmc"}', "no checkpoint of eqxesm"),
    ],
)
@pytest.mark.parametrize("cls", [ESMC, SolubilityModel])
def test_no_configuration(cls, content, part, copy):
    folder = copy("model")
    if content is None:
        (folder / CONFIG).unlink()
    else:
        (folder / CONFIG).write_bytes(content)
    assert part in refusal(cls, folder)


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, [1], {}])
def test_other_schemas_are_refused(version, edit):
    message = refusal(SolubilityModel, edit("model", "schema_version", version))
    assert f"schema_version {version!r} is not 1" in message


@pytest.mark.parametrize("place", ["", "encoder/", "head/", "cleaning/", "calibration/", "limits/"])
def test_unknown_keys(place, edit):
    message = refusal(SolubilityModel, edit("model", f"{place}surprise", 1))
    assert "unknown key 'surprise'" in message
    assert place.removesuffix("/") in message


@pytest.mark.parametrize(
    "path",
    ["encoder", "head", "cleaning", "calibration", "limits", "provenance", "encoder/layers",
     "encoder/heads", "head/d_model", "provenance/source"],
)  # fmt: skip
def test_missing_keys(path, edit):
    message = refusal(SolubilityModel, edit("model", path, None))
    assert f"missing key {path.split('/')[-1]!r}" in message


def test_all_wrong_keys_are_named_at_once(copy):
    folder = copy("model")
    config = json.loads((folder / CONFIG).read_text())
    del config["head"], config["limits"]
    (folder / CONFIG).write_text(json.dumps({**config, "one": 1, "two\n": 2}))
    message = refusal(SolubilityModel, folder)
    for part in ("key 'one'", "key 'two\\n'", "missing key 'head'", "missing key 'limits'"):
        assert part in message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("encoder/layers", "3"),
        ("encoder/layers", True),
        ("encoder/layers", 3.0),
        ("encoder/layers", [3]),
        ("encoder/layers", {}),
        ("encoder/layers", 0),
        ("encoder/layers", -3),
        ("encoder/layers", 10**30),
        ("encoder/d_model", 10**400),
        ("encoder/d_model", 129),
        ("encoder/heads", 3),
        ("encoder/lm_head", 0),
        ("encoder/lm_head", "false"),
        ("encoder/type", "esm2"),
        ("encoder/type", ["esmc"]),
        ("encoder", "esmc"),
        ("encoder", []),
        ("head", False),
        ("head/type", "transformer"),
        ("head/hidden", "16"),
        ("head/hidden", 16),
        ("head/hidden", [16, "8"]),
        ("head/hidden", ["16", 8]),
        ("head/hidden", [16, True]),
        ("head/hidden", [16, 8.0]),
        ("head/hidden", [[16], 8]),
        ("head/hidden", [16, 0]),
        ("head/dropout", 2),
        ("head/dropout", 1.0),
        ("head/dropout", -0.1),
        ("head/dropout", float("nan")),
        ("head/dropout", "0.1"),
        ("head/dropout", False),
        ("head/dropout", 10**400),
        ("head/d_model", 64),
        ("cleaning/strip_tags", 1),
        ("cleaning/strip_tags", "yes"),
        ("calibration/temperature", 0),
        ("calibration/temperature", -1.5),
        ("calibration/temperature", float("nan")),
        ("calibration/temperature", float("inf")),
        ("calibration/threshold", 0),
        ("calibration/threshold", 1),
        ("calibration/threshold", float("nan")),
        ("limits/max_residues", 0),
        ("limits/max_residues", 700.0),
        ("provenance", "someone"),
        ("provenance/source", 3),
        ("provenance/revision", 3),
        ("provenance/sha256", "ff"),
        ("provenance/sha256", ["ff", 3]),
    ],
)
def test_wrong_values_are_refused(path, value, edit):
    message = refusal(SolubilityModel, edit("model", path, value))
    assert CONFIG in message
    assert path.split("/")[0] in message


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("calibration/temperature", 2, lambda model: model.calibration.temperature == 2.0),
        ("head/dropout", 0, lambda model: model.head.config.dropout == 0.0),
        ("provenance/license", None, lambda model: model.provenance.license is None),
        ("limits/max_residues", 1, lambda model: model.limits == Limits(1)),
        ("library_version", "9.9", lambda model: model.limits == Limits(700)),
    ],
)
def test_other_values_are_taken(path, value, read, edit):
    model = SolubilityModel.from_pretrained(edit("model", path, value))
    assert read(model)
    assert bits(model) == bits(made("model"))


def test_widths_that_do_not_meet_name_both(edit):
    message = refusal(SolubilityModel, edit("model", "head/d_model", 64))
    assert "64 wide" in message
    assert "128 wide" in message


def test_one_kind_of_checkpoint_is_not_read_as_the_other(saved):
    assert "unknown key 'head'" in refusal(ESMC, saved / "model")
    message = refusal(SolubilityModel, saved / "encoder")
    assert "holds an encoder, not a solubility model" in message


def test_an_encoder_without_its_lm_head_is_another_model(edit):
    message = refusal(ESMC, edit("encoder", "encoder/lm_head", False))
    assert "unknown lm_head.decoder.weight" in message
    assert "missing" not in message


# Writing


def test_saving_over_an_earlier_checkpoint_replaces_it(saved, tmp_path):
    folder = tmp_path / "out"
    save_sharded(made("model"), folder)
    assert (folder / INDEX).exists()
    made("small").save_pretrained(folder)
    assert contents(folder) == contents(saved / "small")
    assert os.listdir(tmp_path) == ["out"]
    save_sharded(made("model"), folder)
    assert not (folder / WEIGHTS).exists()
    assert bits(SolubilityModel.from_pretrained(folder)) == bits(made("model"))


def test_saving_into_an_empty_folder_and_below_missing_ones(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        made("small").save_pretrained(str(folder))
        assert bits(SolubilityModel.from_pretrained(folder)) == bits(made("small"))


@pytest.mark.parametrize("stranger", ["notes.txt", "vocab.json", "weights.safetensors", "sub"])
def test_a_folder_with_a_stranger_is_left_alone(stranger, copy):
    folder = copy("small")
    (folder / stranger).mkdir() if stranger == "sub" else (folder / stranger).write_text("mine")
    before = contents(folder)
    with pytest.raises(InputError, match=stranger):
        made("model").save_pretrained(folder)
    assert contents(folder) == before
    assert os.listdir(folder.parent) == [folder.name]


@pytest.mark.parametrize(
    "files",
    [
        {"README.md": "# My project"},
        {"metrics.json": "{}"},
        {"config.json": '{"model_type": "esmc"}', WEIGHTS: "another library's"},
        {"model-00001-of-00002.safetensors": "x", INDEX: "{}"},
    ],
    ids=lambda files: min(files),
)
def test_files_of_the_same_names_that_are_no_checkpoint_are_left_alone(files, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    before = contents(folder)
    with pytest.raises(InputError, match="no checkpoint of eqxesm"):
        made("small").save_pretrained(folder)
    assert contents(tmp_path) == {f"out/{name}": data for name, data in before.items()}


def test_a_file_is_left_alone(tmp_path):
    (tmp_path / "out").write_text("mine")
    for folder in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(InputError, match="choose another"):
            made("small").save_pretrained(folder)
    assert contents(tmp_path) == {"out": b"mine"}


def test_a_name_too_long_is_refused(tmp_path):
    with pytest.raises(InputError, match="too long"):
        made("small").save_pretrained(tmp_path / ("a" * 300))
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_parent_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            made("small").save_pretrained(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def last_rename(monkeypatch):
    rename = Path.rename

    def refuse(self, target):
        if self.name.startswith(".out"):
            full()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)


FAILURES = {
    "weights": lambda patch: patch.setattr(os, "fsync", full),
    "texts": lambda patch: patch.setattr(Path, "write_text", full),
    "putting in place": last_rename,
    "temporary folder": lambda patch: patch.setattr(tempfile, "mkdtemp", full),
}


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("failure", list(FAILURES))
def test_a_failure_while_writing_changes_nothing(failure, earlier, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    if earlier:
        made("small").save_pretrained(folder)
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        FAILURES[failure](patch)
        with pytest.raises(InputError, match="No space left on device") as caught:
            made("encoder").save_pretrained(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert contents(tmp_path) == before
    assert os.listdir(tmp_path) == ["out"] * earlier
    made("encoder").save_pretrained(folder)
    assert bits(ESMC.from_pretrained(folder)) == bits(made("encoder"))


def pieces(*arrays, then=None):
    def parts(_name):
        yield from arrays
        if then is not None:
            raise then

    return parts


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        (pieces(np.zeros(2, np.float32)), ValueError),
        (pieces(np.zeros(4, np.float64)), ValueError),
        (pieces(np.zeros(4, np.float32), np.zeros(1, np.float32)), ValueError),
        (pieces(np.zeros(2, np.float32), then=OSError(errno.ENOSPC, "full")), InputError),
        (pieces(np.zeros(2, np.float32), then=KeyboardInterrupt()), KeyboardInterrupt),
    ],
)
def test_pieces_that_do_not_come_as_announced_leave_nothing(parts, error, tmp_path):
    specs = {"a": tensors.Spec((4,), np.dtype(np.float32))}
    with pytest.raises(error):
        format.write(tmp_path / "out", specs, parts, {}, {})
    assert os.listdir(tmp_path) == []


def test_pieces_that_are_not_contiguous_are_written_in_order(tmp_path):
    whole = np.arange(24, dtype=np.float32).reshape(6, 4)
    specs = {"a": tensors.Spec((4, 6), np.dtype(np.float32))}
    parts = pieces(whole.T[:1], whole.T[1:])
    format.write(tmp_path / "out", specs, parts, {}, {})
    np.testing.assert_array_equal(load_file(tmp_path / "out" / WEIGHTS)["a"], whole.T)


@pytest.mark.parametrize("kind", ["encoder", "small"])
def test_saving_a_loaded_model_over_itself(kind, copy):
    folder = copy(kind)
    before = contents(folder)
    loaded = type(made(kind)).from_pretrained(folder)
    for _ in range(2):
        loaded.save_pretrained(folder)
    assert contents(folder) == before
    # The old file is gone from the folder, and its pages are still good.
    assert bits(loaded) == bits(made(kind))


# Fuzzing: whatever stands in the file, a model or one line.

fuzz = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 300)
    | st.sampled_from([2**31 - 1, 2**31, 2**63, 10**30, 10**400, -(10**400)])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["esmc", "one_hot", "convolution", "attention_pool_mlp"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


def paths(config: dict, prefix: tuple[str, ...] = ()):
    for key, value in config.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from paths(value, (*prefix, key))


@pytest.fixture
def fuzzed(saved, tmp_path):
    for kind in ("model", "small"):
        shutil.copytree(saved / kind, tmp_path / kind)
    return tmp_path


def outcome(folder: Path) -> SolubilityModel | InputError:
    try:
        return SolubilityModel.from_pretrained(folder)
    except InputError as error:
        return error


def model_or_one_line(folder: Path) -> None:
    result = outcome(folder)
    if isinstance(result, InputError):
        assert len(str(result).splitlines()) == 1
        assert str(folder) in str(result)
    else:
        assert result.calibration.temperature > 0
        arrays = jax.tree.leaves(eqx.filter(result, eqx.is_array))
        assert arrays
        assert all(jnp.issubdtype(array.dtype, jnp.floating) for array in arrays)


@fuzz
@given(data=st.data())
def test_any_value_in_the_configuration(data, saved, fuzzed):
    kind = data.draw(st.sampled_from(["model", "small"]))
    config = json.loads((saved / kind / CONFIG).read_text())
    *parents, key = data.draw(st.sampled_from(list(paths(config))))
    functools.reduce(dict.__getitem__, parents, config)[key] = data.draw(json_values)
    (fuzzed / kind / CONFIG).write_text(json.dumps(config))
    model_or_one_line(fuzzed / kind)


@fuzz
@given(data=st.data())
def test_any_damage_to_the_header(data, saved, fuzzed):
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
    model_or_one_line(fuzzed / "small")


@fuzz
@given(data=st.data())
def test_any_record(data, saved, fuzzed):
    """A record that is none is told when it is read, or when a card shall be made of it."""
    record = {"summary": "x", "training": {"data": [], "hygiene": "", "calibrated_on": "",
              "recipe": {}}, "evaluation": {"intervals": "", "sets": []}, "limits": []}  # fmt: skip
    *parents, key = data.draw(st.sampled_from(list(paths(record))))
    functools.reduce(dict.__getitem__, parents, record)[key] = data.draw(json_values)
    (fuzzed / "model" / "metrics.json").write_text(json.dumps(record))
    model_or_one_line(fuzzed / "model")
    model = SolubilityModel.from_pretrained(saved / "model")
    with contextlib.suppress(InputError):
        model.save_pretrained(fuzzed / "copy", record)
        assert (fuzzed / "copy" / "README.md").read_text().startswith("---\n")


@fuzz
@given(data=st.data())
def test_any_index(data, fuzzed):
    weights = fuzzed / "model" / WEIGHTS
    shard = fuzzed / "model" / "model-00001-of-00001.safetensors"
    if weights.exists():
        weights.rename(shard)
    index = {"metadata": {"total_size": 1}, "weight_map": {"head.x": shard.name, "y": "../y"}}
    *parents, key = data.draw(st.sampled_from(list(paths(index))))
    functools.reduce(dict.__getitem__, parents, index)[key] = data.draw(json_values)
    (fuzzed / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError) as caught:
        SolubilityModel.from_pretrained(fuzzed / "model")
    assert len(str(caught.value).splitlines()) == 1


def test_saving_from_inside_the_folder(tmp_path, monkeypatch):
    """Relative paths and the place where the process stands must not confuse the swap."""
    model = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0))
    model.save_pretrained(tmp_path / "mine")
    other = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(1))
    monkeypatch.chdir(tmp_path / "mine")
    other.save_pretrained("../mine")
    monkeypatch.chdir(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["mine"]
    assert eqx.tree_equal(ESMC.from_pretrained("mine").blocks, other.blocks)


def test_saving_through_a_link(tmp_path):
    model = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0))
    model.save_pretrained(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    model.save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert eqx.tree_equal(ESMC.from_pretrained(tmp_path / "real").blocks, model.blocks)


def test_shards_beside_a_whole_file_are_refused(tmp_path):
    ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0)).save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="only one can count"):
        ESMC.from_pretrained(tmp_path / "mine")


def test_a_folder_has_no_revision(tmp_path):
    ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0)).save_pretrained(tmp_path / "mine")
    with pytest.raises(InputError, match="is a folder, which has no revision abc"):
        ESMC.from_pretrained(tmp_path / "mine", revision="abc")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "metrics.json"])
def test_what_is_no_file_does_not_hang(name, fuzzed):
    """A pipe would be waited at for ever."""
    (fuzzed / "model" / name).unlink(missing_ok=True)
    os.mkfifo(fuzzed / "model" / name)
    if name != "metrics.json":
        assert isinstance(outcome(fuzzed / "model"), InputError)
    with pytest.raises(InputError) if name == "config.json" else contextlib.nullcontext():
        made("model").save_pretrained(fuzzed / "model")


def change_config(folder: Path, text: str) -> str:
    (folder / CONFIG).write_text(text)
    result = outcome(folder)
    assert isinstance(result, InputError)
    return str(result)


def test_sizes_are_checked_before_anything_is_built(fuzzed):
    config = json.loads((fuzzed / "model" / CONFIG).read_text())
    head = {"type": "mean_pool_mlp", "d_model": 64, "hidden": [1] * 20_000, "dropout": 0.0}
    said = change_config(fuzzed / "model", json.dumps({**config, "head": head}))
    assert "20000 layers: at most 64" in said
    said = change_config(fuzzed / "model", json.dumps({**config, "form": "x" * 10**6}))
    assert len(said) < 3000
    said = change_config(fuzzed / "model", " " * 2**25)
    assert "refused unread" in said


def test_a_key_that_stands_twice(fuzzed):
    text = (fuzzed / "model" / CONFIG).read_text()
    said = change_config(fuzzed / "model", text.replace("{", '{"schema_version": 99, ', 1))
    assert "a key stands twice" in said


def test_text_that_cannot_be_written_again(fuzzed):
    config = json.loads((fuzzed / "model" / CONFIG).read_text())
    config["provenance"] = {"source": "\ud800"}
    assert "not readable as JSON" in change_config(fuzzed / "model", json.dumps(config))


def test_a_later_schema_names_the_version_that_reads_it(fuzzed):
    config = json.loads((fuzzed / "model" / CONFIG).read_text())
    config |= {"schema_version": 2, "library_version": "9.7.0"}
    said = change_config(fuzzed / "model", json.dumps(config))
    assert "it was written by eqxesm '9.7.0', use that or a later one" in said


def test_nothing_odd_reaches_the_terminal():
    error = InputError("a\x1b[31mname\nof\u202ea file")
    assert str(error).isprintable()
    assert len(str(InputError("x" * 10**6))) < 2100
