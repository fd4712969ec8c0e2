"""A port is compared with its original before it is published, and stays whole if that fails."""

import json
import sys

import equinox as eqx
import jax.numpy as jnp
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")

from conversion.compare import TOLERANCES
from conversion.panel import make_cases
from conversion.port import main, port
from conversion.publish import add_parity
from conversion.sources import open_source
from eqxesm import ESMC, InputError

SIZE = "esmc_300m"

pytestmark = pytest.mark.usefixtures("tiny_preset")


@pytest.mark.parametrize(
    ("options", "dtype", "cases"),
    [([], jnp.float32, 4), pytest.param(["--dtype", "bfloat16"], jnp.bfloat16, 5, marks=pytest.mark.slow)],
)
def test_a_port_is_published_with_its_parity(options, dtype, cases, hub, command, split_file, tmp_path, monkeypatch):
    """The fifth case, of 2,048 residues, takes most of the time."""
    monkeypatch.setattr("conversion.check.make_cases", lambda: make_cases()[:cases])
    arguments = (SIZE, "--source", split_file, "--out", tmp_path / "ours", "--push", "me/tiny", *options)
    done = command(main, *arguments)
    assert done.status == 0, done.err
    assert "comparing" in done.err
    repository = hub.repositories["me/tiny"]
    assert f"pushed  {hub.endpoint}/me/tiny/commit/{repository.names['main']}" in done.out
    assert repository.private
    assert set(repository.tree()) == {
        ".gitattributes", "README.md", "config.json", "metrics.json", "model.safetensors", "parity.png",
    }  # fmt: skip
    (parity,) = json.loads(repository.tree()["metrics.json"].content)["parity"]
    assert 0 < parity["distance"] <= parity["tolerance"] == 1e-5
    card = repository.tree()["README.md"].content.decode()
    assert f"{parity['distance']:.1e}" in card
    assert 'ESMC.from_pretrained("me/tiny")' in card
    assert repository.tree()["parity.png"].content.startswith(b"\x89PNG")
    assert ESMC.from_pretrained("me/tiny").embedding.dtype == dtype


def test_one_command_proves_a_port_and_puts_the_figures_on_its_card(command, split_file, tmp_path, monkeypatch):
    """Without publishing it. Whoever has the weights needs no more than this."""
    monkeypatch.setattr("conversion.check.make_cases", lambda: make_cases()[:2])
    folder, reports = tmp_path / "ours", tmp_path / "parity"
    done = command(main, SIZE, "--source", split_file, "--out", folder, "--parity", reports)
    assert done.status == 0, done.err
    (parity,) = json.loads((folder / "metrics.json").read_text())["parity"]
    assert f"parity  {parity['distance']:.1e}, largest relative L2 of any layer; on the card of {folder}" in done.out
    assert f"{parity['distance']:.1e}" in (folder / "README.md").read_text()
    assert (folder / "parity.png").exists()
    (written,) = reports.glob("*.json")
    report = json.loads(written.read_text())
    assert written.name.startswith("esmc_300m-float32-cpu-")
    assert (report["failures"], report["sha256"]) == ([], list(ESMC.from_pretrained(folder).about.provenance.sha256))
    assert written.with_suffix(".png").exists()


def test_refuses_to_publish_with_parity_but_without_torch(hub, command, split_file, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "conversion.check", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    done = command(main, SIZE, "--source", split_file, "--out", tmp_path / "ours", "--push", "me/tiny")
    assert done.status == 2
    assert f'torch is not installed. Run: {sys.executable} -m pip install "eqxesm[convert]"' in done.err
    assert "Or port without --parity, and publish with --no-parity." in done.err
    assert hub.repositories == {}


def test_parity_may_be_left_out(hub, command, split_file, tmp_path):
    arguments = (SIZE, "--source", split_file, "--out", tmp_path / "ours", "--push", "me/tiny")
    assert command(main, *arguments, "--no-parity", "--public").status == 0
    repository = hub.repositories["me/tiny"]
    assert not repository.private
    assert "metrics.json" not in repository.tree()
    assert b"Not measured on these weights" in repository.tree()["README.md"].content


def test_refuses_to_publish_other_weights(split_file, tmp_path):
    source = open_source(SIZE, str(split_file))
    port(SIZE, source, tmp_path / "ours")
    encoder = ESMC.from_pretrained(tmp_path / "ours")
    changed = eqx.tree_at(lambda e: e.norm.weight, encoder, encoder.norm.weight + 1e-3)
    changed.save_pretrained(tmp_path / "ours")
    with pytest.raises(InputError, match="has other parameters than"):
        add_parity(tmp_path / "ours", source)


def test_refuses_to_publish_what_is_out_of_tolerance(hub, command, split_file, tmp_path, monkeypatch):
    monkeypatch.setattr("conversion.check.make_cases", lambda: make_cases()[:1])
    monkeypatch.setitem(TOLERANCES, "float32", 1e-12)
    done = command(main, SIZE, "--source", split_file, "--out", tmp_path / "ours", "--push", "me/tiny")
    assert done.status == 2
    assert "out of tolerance in" in done.err
    assert hub.repositories == {}
    assert not (tmp_path / "ours" / "metrics.json").exists()


@pytest.mark.parametrize(("login", "reason"), [("", "not logged in"), ("x", "the Hub cannot be reached")])
def test_a_failed_push_leaves_the_port(command, split_file, tmp_path, monkeypatch, tiny_preset, login, reason):
    """Offline, as every test is."""
    monkeypatch.setenv("HF_TOKEN", login)
    arguments = ("--source", split_file, "--out", tmp_path / "ours", "--no-parity", "--push", "me/tiny")
    done = command(main, SIZE, *arguments)
    assert done.status == 2
    assert reason in done.err
    assert f"The port is whole. Push it with: eqxesm push {tmp_path / 'ours'} me/tiny" in done.err
    assert ESMC.from_pretrained(tmp_path / "ours").config == tiny_preset


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--push", "tiny"], "tiny: not the name of a Hub repository"),
        (["--public"], "need --push"),
        (["--no-parity"], "need --push"),
        (["--push", "me/tiny", "--no-parity", "--parity", "reports"], "exclude each other"),
    ],
)
def test_refuses_options_before_anything_is_written(refuse, split_file, tmp_path, options, reason):
    assert reason in refuse(main, SIZE, "--source", split_file, "--out", tmp_path / "ours", *options)
    assert not (tmp_path / "ours").exists()
