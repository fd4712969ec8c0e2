"""Published ESM-C by name: fetched at the commit that was reviewed, and loaded in whatever layout, without torch."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from hub_models import assert_same, predict_bits, refusal
from hub_server import environment, put_repository

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")

import h5py
from originals import three_layouts, transformers_original, write_shards, write_state
from safetensors.numpy import save

from eqxesm import ESMC, SSM, SolubilityModel
from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.checkpoint.record import Base
from eqxesm.cli.main import main
from eqxesm.encoders import PRESETS
from eqxesm.encoders.published.reader import open_published
from eqxesm.encoders.published.table import LAYOUTS
from eqxesm.hub.releases import RELEASES
from eqxesm.training.recipe import Pretrained, build_encoder, check_pretrained
from heads import MeanPoolMLP, MeanPoolMLPConfig

SIZE = "esmc_300m"
RELEASE = RELEASES[SIZE]
THEIRS = b'{"architectures": ["EsmcForMaskedLM"], "model_type": "esmc"}'
CARD = b"---\nlicense: mit\ntags:\n- biology\n---\n# ESM-C\n"

FASTA = ">a\nMKVLLAAGIVGLLLAQWERYTC\n>b\nMSTNPKPQRKTKRNTNRRPQDVKF\n"


def as_files(state: dict[str, np.ndarray]) -> dict[str, bytes]:
    whole = {name: np.ascontiguousarray(value) for name, value in state.items()}
    return {"config.json": THEIRS, "README.md": CARD, "model.safetensors": save(whole), "tokenizer.json": b"{}"}


def publish(hub, layout_state, name: str = RELEASE.repository, commit: str = RELEASE.revision) -> None:
    put_repository(hub, name, commit, as_files(layout_state))


def fetched(hub) -> list[str]:
    return [path for method, path in hub.requests if "/resolve/" in path and method == "GET"]


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [SIZE, RELEASE.repository])
def test_a_release_is_loaded_by_its_name_in_every_layout(name, layout, states, encoder, hub, caplog):
    caplog.set_level("INFO", "eqxesm")
    publish(hub, states[layout])
    loaded = ESMC.from_pretrained(name)
    assert_same(loaded, encoder)
    about = loaded.about
    assert about.base == Base(RELEASE.repository, RELEASE.revision)
    assert (about.provenance.source, about.provenance.revision) == (RELEASE.repository, RELEASE.revision)
    assert about.provenance.license == "mit"
    (sha256,) = hub.large
    assert about.provenance.sha256 == (f"{sha256}  model.safetensors",)
    assert caplog.messages == [f"{RELEASE.repository} at {RELEASE.revision}: ESM-C as published, licence: mit"]


@pytest.mark.usefixtures("tiny_preset")
def test_the_reviewed_commit_is_loaded_and_no_later_one(states, encoder, hub):
    publish(hub, states["fused"])
    other = {name: value + 1 if value.dtype.kind == "f" else value for name, value in states["fused"].items()}
    hub.repositories[RELEASE.repository].add(as_files(other))
    assert_same(ESMC.from_pretrained(SIZE), encoder)
    assert all(RELEASE.revision in path for path in fetched(hub))
    assert not any("tokenizer" in path for path in fetched(hub))
    later = ESMC.from_pretrained(SIZE, revision="main")
    np.testing.assert_array_equal(later.embedding, encoder.embedding + 1)
    assert later.about.base.revision == hub.repositories[RELEASE.repository].names["main"]


@pytest.mark.usefixtures("tiny_preset")
def test_what_was_fetched_is_loaded_again_without_a_network(states, encoder, hub, monkeypatch):
    publish(hub, states["split"])
    ESMC.from_pretrained(SIZE)
    count = len(fetched(hub))
    assert_same(ESMC.from_pretrained(SIZE, local_files_only=True), encoder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_same(ESMC.from_pretrained(RELEASE.repository), encoder)
    assert len(fetched(hub)) == count


def test_any_other_repository_is_loaded_too_under_the_licence_of_its_card(states, encoder, hub):
    publish(hub, states["legacy"], "Synthyra/ESMplusplus_small", "1" * 40)
    loaded = ESMC.from_pretrained("Synthyra/ESMplusplus_small", dtype="bfloat16")
    assert loaded.about.provenance.license == "mit"
    assert loaded.about.base == Base("Synthyra/ESMplusplus_small", "1" * 40)
    assert_same(loaded, jax.tree.map(lambda leaf: leaf.astype("bfloat16"), encoder))


def test_the_first_release_is_under_its_own_licence(states, hub, tmp_path):
    name, licence = "EvolutionaryScale/esmc-600m-2024-12", "cambrian-non-commercial-license-agreement"
    card = f"---\nlicense: other\nlicense_name: {licence}\n---\n# ESM-C\n".encode()
    put_repository(hub, name, "2" * 40, {**as_files(states["legacy"]), "README.md": card})
    loaded = ESMC.from_pretrained(name)
    assert loaded.about.provenance.license == licence
    assert open_published(SIZE, name).license == licence
    assert open_published(SIZE, f"{name}@{'2' * 40}").license == licence
    loaded.save_pretrained(tmp_path / "saved")
    text = (tmp_path / "saved" / "README.md").read_text()
    assert f"license: other\nlicense_name: {licence}\nlicense_link: https://www.evolutionaryscale.ai/" in text
    assert "license: mit" not in text


def test_a_folder_of_shards_is_loaded_too(states, encoder, tmp_path):
    loaded = ESMC.from_pretrained(write_shards(states["fused"], tmp_path / "theirs"))
    assert_same(loaded, encoder)
    assert loaded.about.base is None
    assert (loaded.about.provenance.source, loaded.about.provenance.license) == ("theirs", None)
    assert len(loaded.about.provenance.sha256) == 2


def test_a_bare_encoder_has_no_head(states, encoder, tmp_path):
    bare = {name: value for name, value in states["split"].items() if name.startswith("esmc.")}
    write_state({name.removeprefix("esmc."): value for name, value in bare.items()}, tmp_path / "model.safetensors")
    loaded = ESMC.from_pretrained(tmp_path)
    assert loaded.lm_head is None
    np.testing.assert_array_equal(loaded.blocks.ffn.up.weight, encoder.blocks.ffn.up.weight)


@pytest.mark.usefixtures("tiny_preset")
def test_a_head_refers_to_the_release(states, encoder, hub, tmp_path):
    """Nothing of the encoder is stored, and it comes back from the publisher's own repository."""
    publish(hub, states["fused"])
    head = MeanPoolMLP(MeanPoolMLPConfig(encoder.d_model, (8,)), key=jax.random.key(1))
    model = SolubilityModel(ESMC.from_pretrained(SIZE), head)
    assert model.about.provenance.source == f"trained on top of {RELEASE.repository}"
    model.save_pretrained(tmp_path / "model", form="head")
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 50_000
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["base"]["repository"] == RELEASE.repository
    assert config["base"]["revision"] == RELEASE.revision
    assert predict_bits(SolubilityModel.from_pretrained(tmp_path / "model")) == predict_bits(model)


# Commands


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.parametrize("layout", ["legacy", "fused", "split"])
@pytest.mark.parametrize("name", [SIZE, RELEASE.repository])
def test_embed_and_score_take_a_release(name, layout, states, encoder, hub, tmp_path, monkeypatch, capsys):
    publish(hub, states[layout])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.fasta").write_text(FASTA)
    assert main(["embed", "p.fasta", "-o", "out.h5", "--model", name]) == 0
    said = capsys.readouterr().err
    assert said.count("ESM-C as published, licence: mit") == 1
    assert main(["score", "p.fasta", "-o", "out.csv", "--model", name, "--one-pass"]) == 0
    encoder.save_pretrained(tmp_path / "ours")
    assert main(["embed", "p.fasta", "-o", "ours.h5", "--model", "ours"]) == 0
    with h5py.File("out.h5") as found, h5py.File("ours.h5") as wanted:
        assert sorted(found) == sorted(wanted) == ["a", "b"]
        for each in found:
            np.testing.assert_array_equal(found[each][()], wanted[each][()])


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.parametrize("name", [SIZE, RELEASE.repository])
def test_recipes_take_a_release(name, states, encoder, hub):
    publish(hub, states["split"])
    wanted = Pretrained(name)
    check_pretrained(wanted, "model.encoder")
    assert_same(build_encoder(wanted, jax.random.key(0)), encoder)


@pytest.mark.usefixtures("tiny_preset")
def test_no_torch_is_needed(states, hub, tmp_path):
    publish(hub, states["legacy"], "someone/esmc", "2" * 40)
    code = """
import sys
from eqxesm import ESMC
print(ESMC.from_pretrained("someone/esmc"))
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment(hub, tmp_path), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"


# What is refused


def test_refuses_a_release_of_another_size(states, hub):
    publish(hub, states["split"])
    message = refusal(ESMC.from_pretrained, SIZE)
    assert message.startswith(f"{RELEASE.repository}: not esmc_300m but none of the published sizes: 3 layers")


def test_refuses_what_is_missing_or_unknown(states, hub):
    state = {name: value for name, value in states["split"].items() if name != "esmc.norm.weight"}
    publish(hub, {**state, "esmc.mystery": np.zeros(2, np.float32)}, "someone/esmc", "3" * 40)
    message = refusal(ESMC.from_pretrained, "someone/esmc")
    assert "2 wrong tensors: missing esmc.norm.weight; unknown esmc.mystery" in message


def test_refuses_pth_and_says_what_reads_it(hub):
    name = "EvolutionaryScale/esmc-300m-2024-12"
    files = {"README.md": CARD, "config.json": b"{}", "data/weights/esmc_300m_2024_12_v0.pth": b"x"}
    put_repository(hub, name, "4" * 40, files)
    message = refusal(ESMC.from_pretrained, name)
    assert (
        f"has weights as data/weights/esmc_300m_2024_12_v0.pth only. Use python -m conversion.port --source {name}"
        in message
    )


@pytest.mark.usefixtures("tiny_preset")
def test_refuses_it_as_another_kind_of_model(states, hub):
    publish(hub, states["split"])
    assert "holds an encoder, not a model with a head" in refusal(SolubilityModel.from_pretrained, SIZE)
    assert "schema_version is missing" in refusal(SSM.from_pretrained, RELEASE.repository)


def test_float16_needs_a_precision_to_be_named(states, tmp_path):
    half = {name: value.astype(np.float16) for name, value in states["split"].items()}
    write_state(half, tmp_path / "model.safetensors")
    assert "is float16. Choose a dtype: float32 or bfloat16." in refusal(ESMC.from_pretrained, tmp_path)
    assert ESMC.from_pretrained(tmp_path, dtype="float32").embedding.dtype == np.float32


# At full size


@pytest.mark.slow
def test_a_release_of_full_size_is_loaded_in_every_layout(tmp_path):
    """Random weights of 1.3 GB, from a folder, so that the loopback Hub need not hold them."""
    prints = set()
    for state in three_layouts(transformers_original(PRESETS[SIZE])).values():
        write_state(state, tmp_path / "model.safetensors")
        loaded = ESMC.from_pretrained(tmp_path)
        assert loaded.config == PRESETS[SIZE]
        prints.add(fingerprint(loaded))
    assert len(prints) == 1
