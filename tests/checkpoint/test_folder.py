"""Checkpoint folders: a model comes back to the bit, and writing replaces a checkpoint or nothing."""

import contextlib
import errno
import json
import os
from importlib.metadata import version as installed_version
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import (
    MAKERS,
    PROVENANCE,
    SHARD_BYTES,
    bits,
    contents,
    load_file,
    load_or_refuse,
    made,
    make_encoder,
    refusal,
)
from paths import FIXTURES

from eqxesm import ESMC, About, Calibration, ESMCConfig, SolubilityModel
from eqxesm.checkpoint.folder import CONFIG, keep_words, read_config, write_checkpoint
from eqxesm.checkpoint.record import METRICS
from eqxesm.checkpoint.tensors import INDEX, WEIGHTS, TensorSpec
from eqxesm.config import describe
from eqxesm.data.cleaning import Cleaning
from eqxesm.encoders import cast
from eqxesm.encoders.language_model import EncoderSections
from eqxesm.errors import InputError
from eqxesm.forms import Limits

# A model comes back


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", list(MAKERS))
def test_a_model_comes_back_to_the_bit(kind, dtype, sharded, tmp_path):
    tree = cast(made(kind), dtype)
    tree.save_pretrained(tmp_path / "out", **({"shard_bytes": 2_000} if sharded else {}))
    if sharded:
        assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 1 or kind == "small"
    again = type(tree).from_pretrained(tmp_path / "out")
    assert bits(again) == bits(tree)
    assert {name for name, _, _ in bits(again)} == {np.dtype(dtype).name}
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert again.about == tree.about


def test_the_configuration_comes_back(saved):
    model, again = made("model"), SolubilityModel.from_pretrained(saved / "model")
    assert again.encoder.config == model.encoder.config
    assert again.head.config == model.head.config
    assert (again.cleaning, again.calibration, again.limits, again.about) == (
        Cleaning(strip_tags=True),
        Calibration(1.5, 0.25),
        Limits(700),
        About(PROVENANCE),
    )


@pytest.mark.parametrize("lm_head", [True, False])
def test_outputs_are_the_same_after_loading(lm_head, tmp_path):
    encoder = make_encoder(layers=1, lm_head=lm_head)
    encoder.save_pretrained(tmp_path / "out")
    tokens = np.array([0, 4, 5, 6, 2], np.int32)
    ours, again = encoder(tokens), ESMC.from_pretrained(tmp_path / "out")(tokens)
    np.testing.assert_array_equal(again.embedding, ours.embedding)
    assert (again.logits is None) == (not lm_head)
    if lm_head:
        np.testing.assert_array_equal(again.logits, ours.logits)


def test_one_kind_of_checkpoint_is_not_read_as_the_other(saved):
    assert "unknown key 'head'" in refusal(ESMC, saved / "model")
    message = refusal(SolubilityModel, saved / "encoder")
    assert "holds an encoder, not a model with a head" in message


def test_an_encoder_without_its_lm_head_is_another_model(edit):
    message = refusal(ESMC, edit("encoder", "encoder/lm_head", False))
    assert "unknown lm_head.decoder.weight" in message
    assert "missing" not in message


def test_a_folder_has_no_revision(saved):
    with pytest.raises(InputError, match=r"is a folder, which has no revision. Leave out abc"):
        ESMC.from_pretrained(saved / "encoder", revision="abc")


# Version 0.1.0


@pytest.mark.parametrize(("kind", "cls"), [("encoder", ESMC), ("model", SolubilityModel)])
def test_a_checkpoint_of_0_1_0_is_saved_again_as_it_was(kind, cls, tmp_path):
    earlier = FIXTURES / "0.1.0" / kind
    cls.from_pretrained(earlier).save_pretrained(tmp_path / kind)
    before, after = contents(earlier), contents(tmp_path / kind)
    assert set(after) == set(before)
    for name in (WEIGHTS, METRICS):
        assert after[name] == before[name], name
    configs = [json.loads(each[CONFIG]) for each in (before, after)]
    assert configs[1].pop("library_version") == installed_version("eqxesm")
    del configs[0]["library_version"]
    assert configs[1] == configs[0]


# config.json


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "not a checkpoint of eqxesm: config.json is missing"),
        (b"", "not readable as JSON"),
        (b"{", "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"[]", "not a checkpoint of eqxesm"),
        (b"3", "not a checkpoint of eqxesm"),
        (b"null", "not a checkpoint of eqxesm"),
        (b'"schema_version"', "not a checkpoint of eqxesm"),
        (b'{"model_type": "esmc"}', "not a checkpoint of eqxesm"),
    ],
)
@pytest.mark.parametrize("cls", [ESMC, SolubilityModel])
def test_refuses_a_folder_without_a_configuration_of_ours(cls, content, part, copy):
    folder = copy("model")
    if content is None:
        (folder / CONFIG).unlink()
    else:
        (folder / CONFIG).write_bytes(content)
    assert part in refusal(cls, folder)


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, [1], {}])
def test_refuses_other_schemas(version, edit):
    message = refusal(SolubilityModel, edit("model", "schema_version", version))
    assert f"schema_version is {version!r}, expected 1." in message


def test_a_later_schema_names_the_version_that_reads_it(copy):
    folder = copy("model")
    config = json.loads((folder / CONFIG).read_text())
    config |= {"schema_version": 2, "library_version": "9.7.0"}
    (folder / CONFIG).write_text(json.dumps(config))
    assert "written by eqxesm '9.7.0': use that or a later version" in refusal(SolubilityModel, folder)


def test_versions_are_no_part_of_the_sections(saved):
    sections = read_config(saved / "encoder")
    assert sections == describe(EncoderSections(made("encoder").config, PROVENANCE))


# Writing


def test_saving_over_an_earlier_checkpoint_replaces_it(saved, tmp_path):
    folder = tmp_path / "out"
    made("model").save_pretrained(folder, shard_bytes=SHARD_BYTES)
    assert (folder / INDEX).exists()
    made("small").save_pretrained(folder)
    assert contents(folder) == contents(saved / "small")
    assert os.listdir(tmp_path) == ["out"]
    made("model").save_pretrained(folder, shard_bytes=SHARD_BYTES)
    assert not (folder / WEIGHTS).exists()
    assert bits(SolubilityModel.from_pretrained(folder)) == bits(made("model"))


def test_saving_into_an_empty_folder_and_below_missing_ones(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        made("small").save_pretrained(str(folder))
        assert bits(SolubilityModel.from_pretrained(folder)) == bits(made("small"))


def test_a_folder_in_the_place_of_a_file_is_left_alone(copy):
    folder = copy("small")
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    (folder / "README.md" / "notes.txt").write_text("mine")
    before = contents(folder)
    with pytest.raises(InputError, match=r"holds README\.md, which is no part of the checkpoint"):
        made("model").save_pretrained(folder)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "stranger",
    ["notes.txt", "vocab.json", "weights.safetensors", "sub", "model-notes.safetensors",
     "model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors.bak"],
)  # fmt: skip
def test_a_folder_with_another_file_is_left_alone(stranger, copy):
    folder = copy("small")
    (folder / stranger).mkdir() if stranger == "sub" else (folder / stranger).write_text("mine")
    before = contents(folder)
    with pytest.raises(InputError, match=f"holds {stranger}, which is no part of the checkpoint"):
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
def test_files_of_another_library_are_left_alone(files, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    before = contents(folder)
    with pytest.raises(InputError, match="no checkpoint of eqxesm"):
        made("small").save_pretrained(folder)
    assert contents(tmp_path) == {f"out/{name}": data for name, data in before.items()}


def test_pictures_without_a_record_are_a_persons_own(tmp_path):
    made("small").save_pretrained(tmp_path / "out")
    (tmp_path / "out" / METRICS).unlink(missing_ok=True)
    (tmp_path / "out" / "calibration.png").write_text("mine")
    with pytest.raises(InputError, match=r"holds calibration\.png, which is no part of the checkpoint"):
        made("small").save_pretrained(tmp_path / "out")


def test_a_folder_that_was_being_replaced_when_the_process_was_killed_is_loaded(tmp_path):
    made("small").save_pretrained(tmp_path / "out")
    (tmp_path / ".out.0123abcd").mkdir()
    (tmp_path / "out").rename(tmp_path / ".out.0123abcd" / "out")
    assert bits(SolubilityModel.from_pretrained(tmp_path / "out")) == bits(made("small"))
    assert os.listdir(tmp_path) == ["out"]


def fill_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_last_rename(monkeypatch):
    rename = Path.rename

    def refuse(self, target):
        if self.name.startswith(".out"):
            fill_disk()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)


FAILURES = {
    "weights": lambda patch: patch.setattr(os, "fsync", fill_disk),
    "texts": lambda patch: patch.setattr(Path, "write_text", fill_disk),
    "card": lambda patch: patch.setattr(Path, "write_bytes", fill_disk),
    "putting in place": fail_last_rename,
    "temporary folder": lambda patch: patch.setattr(Path, "mkdir", fill_disk),
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
        with pytest.raises(InputError, match=r"No space left on device.*Nothing was changed") as caught:
            made("encoder").save_pretrained(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert contents(tmp_path) == before
    assert os.listdir(tmp_path) == ["out"] * earlier
    made("encoder").save_pretrained(folder)
    assert bits(ESMC.from_pretrained(folder)) == bits(made("encoder"))


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError(errno.ENOSPC, "full"), InputError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_blocks_that_end_early_leave_nothing(error, raised, tmp_path):
    def parts(_name):
        yield np.zeros(2, np.float32)
        raise error

    specs = {"a": TensorSpec((4,), np.dtype(np.float32))}
    sections = describe(EncoderSections(ESMCConfig(1, 64, 1, 64), None))
    with pytest.raises(raised):
        write_checkpoint(tmp_path / "out", specs, parts, sections)
    assert os.listdir(tmp_path) == []


def test_blocks_of_a_tensor_are_written_one_after_the_other(tmp_path):
    whole = np.arange(24, dtype=np.float32).reshape(6, 4)
    specs = {"a": TensorSpec((6, 4), np.dtype(np.float32))}
    sections = describe(EncoderSections(ESMCConfig(1, 64, 1, 64), None))
    write_checkpoint(tmp_path / "out", specs, lambda _: (whole[:2], whole[2:]), sections)
    np.testing.assert_array_equal(load_file(tmp_path / "out" / WEIGHTS)["a"], whole)
    assert read_config(tmp_path / "out") == sections


@pytest.mark.parametrize("kind", ["encoder", "small"])
def test_saving_a_loaded_model_over_itself_changes_nothing(kind, copy):
    folder = copy(kind)
    before = contents(folder)
    loaded = type(made(kind)).from_pretrained(folder)
    for _ in range(2):
        loaded.save_pretrained(folder)
    assert contents(folder) == before
    # The old file is gone from the folder, and the pages that are mapped from it are still good.
    assert bits(loaded) == bits(made(kind))


def test_saving_from_inside_the_folder(tmp_path, monkeypatch):
    """Relative paths and the working directory must not confuse the swap."""
    model = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0))
    model.save_pretrained(tmp_path / "mine")
    other = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(1))
    monkeypatch.chdir(tmp_path / "mine")
    other.save_pretrained("../mine")
    monkeypatch.chdir(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["mine"]
    assert eqx.tree_equal(ESMC.from_pretrained("mine").blocks, other.blocks)


def test_saving_through_a_link_keeps_the_link(tmp_path):
    model = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0))
    model.save_pretrained(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    model.save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert eqx.tree_equal(ESMC.from_pretrained(tmp_path / "real").blocks, model.blocks)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, METRICS])
def test_a_pipe_in_the_place_of_a_file_does_not_hang(name, copy):
    folder = copy("model")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    if name != METRICS:
        assert isinstance(load_or_refuse(folder), InputError)
    with pytest.raises(InputError) if name == CONFIG else contextlib.nullcontext():
        made("model").save_pretrained(folder)


def test_words_of_a_person_stay_in_the_card(copy):
    folder = copy("small")
    assert keep_words(folder / "nowhere", "new") == "new"
    with open(folder / "README.md", "a") as card:
        card.write("\nAsk us before you use it.\n")
    made("model").save_pretrained(folder)
    card = (folder / "README.md").read_text()
    assert "Ask us before you use it." in card
    assert "head on features of ESM-C" in card
    (folder / "README.md").write_text("<!-- eqxesm:use -->\nno end\n")
    before = contents(folder)
    with pytest.raises(InputError, match=r"README\.md: card has lost the mark"):
        made("small").save_pretrained(folder)
    assert contents(folder) == before
