"""Uploading: a model goes up in one commit, comes down elsewhere the same, and keeps its card."""

import json
import subprocess

import equinox as eqx
import jax
import pytest
import yaml
from hub_models import (
    BASE,
    CONFIG,
    ENCODER,
    LARGE,
    NAME,
    TENTHS,
    assert_same,
    make_trained,
    predict_bits,
    predict_elsewhere,
    refusal,
)
from paths import ROOT

from eqxesm import ESMC, Calibration, SolubilityModel
from eqxesm.encoders.lora import find_adapters
from eqxesm.hub.upload import upload

FACTS = json.loads((ROOT / "eqxesm" / "default" / "metrics.json").read_text())


def refused(*arguments, **options) -> str:
    return refusal(ENCODER.push_to_hub, *arguments, **options)


# Predictions


FORMS = [("joint", "full"), ("lora", "full"), ("frozen", "head"), ("lora", "adapter")]


@pytest.mark.parametrize(("strategy", "form"), FORMS)
def test_every_form_comes_back_the_same(strategy, form, base, hub, tmp_path):
    model = make_trained(base, strategy)
    url = model.push_to_hub(NAME, form=form)
    repository = hub.repositories[NAME]
    assert url == f"{hub.endpoint}/{NAME}/commit/{repository.names['main']}"
    assert len(repository.history) == 2, "one commit besides the one that made the repository"
    weights = len(repository.tree()["model.safetensors"].content)
    assert (weights < 20_000) == (form != "full")
    loaded = SolubilityModel.from_pretrained(NAME, cache_dir=tmp_path / "own")
    assert len(find_adapters(loaded)) == len(find_adapters(model)) == (4 if strategy == "lora" else 0)
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    assert eqx.tree_equal(loaded, model)
    assert predict_bits(loaded) == predict_bits(model)


@pytest.mark.parametrize(
    ("strategy", "form"),
    [pytest.param(*each, marks=() if each[1] == "adapter" else pytest.mark.slow) for each in FORMS],
)
def test_another_process_predicts_the_same(strategy, form, base, hub, tmp_path):
    model = make_trained(base, strategy)
    model.push_to_hub(NAME, form=form)
    assert predict_elsewhere(hub, tmp_path / "elsewhere") == predict_bits(model)


def test_shards_replace_one_file_and_the_other_way_round(base, hub, tmp_path):
    model = make_trained(base, "joint")
    model.push_to_hub(NAME, shard_bytes=100_000)
    names = set(hub.repositories[NAME].tree())
    shards = {name for name in names if name.startswith("model-")}
    assert len(shards) >= 3
    assert "model.safetensors.index.json" in names
    assert "model.safetensors" not in names
    loaded = SolubilityModel.from_pretrained(NAME, cache_dir=tmp_path / "own")
    assert predict_bits(loaded) == predict_bits(model)
    model.push_to_hub(NAME)
    names = set(hub.repositories[NAME].tree())
    assert not names & shards, "weights of an earlier checkpoint would be loaded"
    assert "model.safetensors.index.json" not in names
    loaded = SolubilityModel.from_pretrained(NAME, cache_dir=tmp_path / "again")
    assert predict_bits(loaded) == predict_bits(model)


@pytest.mark.slow
def test_a_private_model_is_for_its_owner(base, hub, tmp_path, monkeypatch):
    model = make_trained(base, "frozen")
    model.push_to_hub(NAME, private=True)
    assert hub.repositories[NAME].private
    assert not hub.repositories[BASE].private
    assert predict_elsewhere(hub, tmp_path / "elsewhere") == predict_bits(model)
    monkeypatch.setenv("HF_TOKEN", "token-other")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        predict_elsewhere(hub, tmp_path / "other")
    assert "or a private one" in caught.value.stderr
    loaded = SolubilityModel.from_pretrained(NAME, token="token-owner", cache_dir=tmp_path / "own")
    assert loaded.calibration == Calibration(1.25)


# Cards


def read_card(hub, name: str = NAME) -> str:
    return hub.repositories[name].tree()["README.md"].content.decode()


def test_words_of_a_person_are_kept(base, hub):
    model = make_trained(base, "frozen")
    model.push_to_hub(NAME)
    words = "We measured this on **forty** constructs of our own.\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    edited = read_card(hub).replace("<!-- /eqxesm:use -->\n", f"<!-- /eqxesm:use -->\n\n{words}\n", 1)
    edited = edited.replace("tags:\n", "language: en\nwidget:\n- text: MKV\ntags:\n- our-lab\n", 1)
    edited = edited.replace("# Protein solubility from sequence", "# Changed by hand", 1)
    hub.repositories[NAME].add({"README.md": edited.encode()})
    other = model.replace(head=jax.tree.map(lambda x: x + 1, model.head))
    other.push_to_hub(NAME, form="head")
    renewed = read_card(hub)
    assert renewed.count(words) == 1
    assert renewed.index("## Use") < renewed.index(words) < renewed.index("## Training data")
    assert "Changed by hand" not in renewed
    assert renewed.count("# Protein solubility from sequence") == 1
    assert "This repository holds only the head" in renewed
    fields = yaml.safe_load(renewed.split("---\n")[1])
    assert fields["language"] == "en"
    assert fields["widget"] == [{"text": "MKV"}]
    assert {"our-lab", "solubility", "esm"} <= set(fields["tags"])
    assert fields["base_model"] == BASE
    other.push_to_hub(NAME, form="head")
    assert read_card(hub) == renewed


def test_files_of_other_people_are_kept(hub):
    ENCODER.push_to_hub(NAME)
    hub.repositories[NAME].add({"notes.txt": b"ours", "sub/model.safetensors": b"theirs", "metrics.json": b"stale"})
    ENCODER.push_to_hub(NAME)
    tree = hub.repositories[NAME].tree()
    assert (tree["notes.txt"].content, tree["sub/model.safetensors"].content) == (b"ours", b"theirs")
    assert "metrics.json" not in tree


def test_refuses_a_card_on_the_hub_that_cannot_be_merged(hub):
    ENCODER.push_to_hub(NAME)
    history = list(hub.repositories[NAME].history)
    for content, part in (
        ("Tübingen".encode("latin-1"), "not UTF-8 text"),
        (b"<!-- eqxesm:use -->\nlost the end", "has lost the mark <!-- /eqxesm:use -->"),
    ):
        hub.repositories[NAME].add({"README.md": content})
        message = refused(NAME)
        assert message.startswith(f"{NAME}: README.md: ")
        assert part in message
    assert len(hub.repositories[NAME].history) == len(history) + 2


def test_the_record_travels(base, hub, tmp_path):
    model = make_trained(base, "frozen")
    model.save_pretrained(tmp_path / "run", FACTS, {"calibration.png": b"\x89PNG made up"})
    saved = SolubilityModel.from_pretrained(tmp_path / "run")
    saved.push_to_hub(NAME, form="head")
    tree = hub.repositories[NAME].tree()
    assert tree["calibration.png"].content == b"\x89PNG made up"
    card = tree["README.md"].content.decode()
    assert FACTS["summary"] in card
    assert "![Share of soluble proteins" in card
    pulled = SolubilityModel.from_pretrained(NAME)
    assert pulled.about.record == saved.about.record
    assert FACTS["summary"] in repr(pulled.about.record)
    assert len(repr(pulled.about.record)) < 1000


# Branches, logins and rights


def test_pushes_to_a_branch_or_opens_a_pull_request(hub):
    ENCODER.push_to_hub(BASE)
    repository = hub.repositories[BASE]
    first = repository.names["main"]
    other = ESMC(CONFIG, key=jax.random.key(3))
    other.push_to_hub(BASE, revision="trial", commit_message="Another one")
    assert repository.names["main"] == first != repository.names["trial"]
    assert ESMC.from_pretrained(BASE, revision="trial").config == CONFIG
    url = other.push_to_hub(BASE, create_pr=True)
    assert url == f"{hub.endpoint}/{BASE}/discussions/1"
    assert repository.names["main"] == first
    assert ESMC.from_pretrained(BASE, revision="refs/pr/1").config == CONFIG
    assert f"{first} is a commit. Name a branch." in refused(BASE, revision=first)


def test_refuses_names_that_are_not_of_a_repository(hub):
    for name in ("solubility", "a/b/c", "", "me/ x", "../x", "https://huggingface.co/me/x", "me/x\n"):
        assert "not the name of a Hub repository. Expected owner/name." in refused(name)
    assert hub.requests == []


def test_refuses_to_push_without_a_login(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "not logged in. Run 'hf auth login', or set HF_TOKEN." in refused(NAME)
    assert "not logged in" in refused(NAME, token=False)
    assert hub.repositories == {}
    assert hub.requests == []
    ENCODER.push_to_hub(NAME, token="token-owner")


def test_refuses_a_login_that_the_hub_does_not_know(hub):
    assert "the Hub does not know this login" in refused(NAME, token="token-unknown")
    assert hub.repositories == {}


def test_refuses_a_token_that_cannot_be_sent_without_repeating_it():
    message = refused(NAME, token="hf_secret\n")
    assert "token is not valid" in message
    assert "secret" not in message


def test_refuses_to_push_without_the_rights(hub):
    ENCODER.push_to_hub(NAME)
    history = list(hub.repositories[NAME].history)
    for name in (NAME, "me/other"):
        assert "lacks the rights" in refused(name, token="token-other")
    assert hub.repositories[NAME].history == history


def test_a_public_repository_does_not_become_private_silently(hub):
    ENCODER.push_to_hub(NAME)
    assert "is public. Make it private on its page" in refused(NAME, private=True)
    assert len(hub.repositories[NAME].history) == 2


def test_refuses_folders_that_are_not_a_checkpoint(tmp_path):
    assert "config.json is missing" in refusal(upload, tmp_path, NAME)
    ENCODER.save_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refusal(upload, tmp_path / "encoder", NAME)


@pytest.mark.parametrize("name", ["config.json", "README.md", "model.safetensors"])
def test_what_a_link_leads_to_is_not_uploaded(name, hub, tmp_path):
    ENCODER.save_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder" / name).rename(tmp_path / "secret")
    (tmp_path / "encoder" / name).symlink_to(tmp_path / "secret")
    assert "link that leads out of its folder" in refusal(upload, tmp_path / "encoder", NAME)
    assert hub.requests == []


# Failures on the way


def test_a_lost_answer_does_not_commit_twice(hub, delays):
    hub.fail("POST", "/commit/", cut_at=0)
    url = ENCODER.push_to_hub(NAME)
    repository = hub.repositories[NAME]
    assert url.endswith(f"/{NAME}/commit/{repository.names['main']}")
    assert len(repository.history) == 2
    assert delays


@pytest.mark.usefixtures("delays")
def test_a_lost_answer_does_not_open_a_second_pull_request(hub):
    ENCODER.push_to_hub(NAME)
    hub.fail("POST", "/commit/", cut_at=0)
    assert NAME in refused(NAME, create_pr=True)
    assert [name for name in hub.repositories[NAME].names if name.startswith("refs/pr")] == ["refs/pr/1"]


def test_a_refusal_of_the_commit_is_given(hub, delays):
    for status in (400, 413, 451):
        hub.fail("POST", "/commit/", status=status)
        assert f"refused by the Hub (HTTP {status}" in refused(NAME)
    assert delays == []
    ENCODER.push_to_hub(NAME)
    assert_same(ESMC.from_pretrained(NAME), ENCODER)


def test_a_change_by_somebody_else_is_not_overwritten(hub, monkeypatch):
    ENCODER.push_to_hub(NAME)
    repository = hub.repositories[NAME]

    def merge(new: str, _: str) -> str:
        repository.add({"note.txt": b"of somebody else"})
        return new

    monkeypatch.setattr("eqxesm.hub.upload.merge_cards", merge)
    assert "somebody changed the repository in the meantime" in refused(NAME)
    assert "note.txt" in repository.tree()


@pytest.mark.usefixtures("delays")
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/repos/create"), ("GET", "/api/models/"), ("POST", "/preupload/"),
     ("POST", "/objects/batch"), ("PUT", "/store/"), ("POST", "/commit/")],
)  # fmt: skip
@pytest.mark.parametrize("status", [500, pytest.param(429, marks=pytest.mark.slow)])
def test_waits_out_server_errors_and_keeps_what_was_there_if_they_last(status, method, path, hub):
    hub.fail(method, path, times=2, status=status)
    ENCODER.push_to_hub(NAME)
    assert_same(ESMC.from_pretrained(NAME), ENCODER)
    hub.fail(method, path, times=9999, status=status)
    hub.requests.clear()
    other = ESMC(ENCODER.config, key=jax.random.key(1))
    message = refusal(other.push_to_hub, NAME)
    assert "the Hub fails (HTTP 500)" in message if status == 500 else "rate limit of the Hub reached" in message
    assert len(hub.requests) < 200
    hub.faults.clear()
    assert_same(ESMC.from_pretrained(NAME), ENCODER)
    other.push_to_hub(NAME)
    assert_same(ESMC.from_pretrained(NAME), other)


@pytest.mark.usefixtures("delays")
@pytest.mark.parametrize("tenth", TENTHS)
def test_a_cut_upload_is_repeated_and_keeps_what_was_there_if_it_never_ends(tenth, hub):
    ESMC(LARGE.config, key=jax.random.key(9)).push_to_hub(NAME)
    before = hub.repositories[NAME].names["main"]
    cut = 12_000_000 * tenth // 10
    hub.fail("PUT", "/store/", times=9999, cut_in=cut)
    hub.requests.clear()
    refusal(LARGE.push_to_hub, NAME)
    assert len(hub.requests) < 200
    assert hub.repositories[NAME].names["main"] == before
    hub.faults.clear()
    hub.fail("PUT", "/store/", cut_in=cut)
    LARGE.push_to_hub(NAME)
    assert_same(ESMC.from_pretrained(NAME), LARGE)


@pytest.mark.usefixtures("delays")
@pytest.mark.parametrize("path", ["/preupload/", "/objects/batch", "/commit/"])
def test_a_cut_request_is_repeated(path, hub):
    hub.fail("POST", path, cut_in=20)
    ENCODER.push_to_hub(NAME)
    assert_same(ESMC.from_pretrained(NAME), ENCODER)


def test_without_a_network_nothing_is_retried(monkeypatch, hub, delays):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the Hub cannot be reached" in refused(NAME)
    assert hub.requests == []
    assert delays == []


def test_the_token_is_in_no_log_and_in_no_file(base, tmp_path, capsys, caplog):
    caplog.set_level("DEBUG")
    model = make_trained(base, "frozen")
    model.push_to_hub(NAME, form="head", token="token-owner")
    loaded = SolubilityModel.from_pretrained(NAME, token="token-owner", cache_dir=tmp_path / "own")
    assert "token-owner" not in "".join(capsys.readouterr()) + caplog.text + repr(model) + repr(loaded)
    kept = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert kept
    assert not [file for file in kept if b"token-owner" in file.read_bytes()]
