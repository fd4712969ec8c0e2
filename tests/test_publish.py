"""Publishing: a model goes up in one commit, comes down elsewhere the same, and keeps its card."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from test_hub import ENCODER, LARGE, environment

from eqxesm import ESMC, Calibration, ESMCConfig, InputError, SolubilityModel, Tokenizer
from eqxesm.checkpoint.publish import push
from eqxesm.cli import main
from eqxesm.data.cleaning import Cleaning
from eqxesm.encoders import cast
from eqxesm.encoders.lora import LoRAConfig, adapters, add_lora, merge_lora
from eqxesm.training import Examples, TrainConfig, fit
from heads import MeanPoolMLP, MeanPoolMLPConfig

BASE, NAME = "me/esmc-tiny", "me/solubility"
CONFIG = ESMCConfig(2, 64, 2, 96)
SEQUENCES = [
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV",
    "MSHHHHHHGSENLYFQGMKTAYIAKQRQISFVKSHFSRQ",
    "ACDEFGHIKLMNPQRSTVWY" * 5,
]
FACTS = json.loads((Path(__file__).parents[1] / "eqxesm/default/metrics.json").read_text())

ELSEWHERE = """
import json, sys
from eqxesm import SolubilityModel
model = SolubilityModel.from_pretrained(sys.argv[1])
print(json.dumps([p.hex() for p in model.predict(json.loads(sys.argv[2])).astype(float).tolist()]))
"""


def by_another_process(hub, home: Path, name: str = NAME) -> list[str]:
    """Predict where nothing is cached yet."""
    result = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, name, json.dumps(SEQUENCES)],
        env=environment(hub, home), capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return json.loads(result.stdout)


def spell(model: SolubilityModel) -> list[str]:
    return [value.hex() for value in model.predict(SEQUENCES).astype(float).tolist()]


TRAINED: dict[tuple, SolubilityModel] = {}


def train(encoder: ESMC, strategy: str) -> SolubilityModel:
    """A model that was trained, for a moment, on proteins drawn at random."""
    # The same repository on every test's Hub has the same commits.
    key = (encoder.base, encoder.config, strategy)
    if key not in TRAINED:
        TRAINED[key] = train_anew(encoder, strategy)
    return TRAINED[key]


def train_anew(encoder: ESMC, strategy: str) -> SolubilityModel:
    head = MeanPoolMLP(MeanPoolMLPConfig(encoder.d_model, (8,)), key=jax.random.key(1))
    model = SolubilityModel(encoder, head, Cleaning(strip_tags=True), Calibration(1.25))
    draw = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    examples = Examples(
        [Tokenizer().encode("".join(draw.choice(letters, 30))) for _ in range(16)],
        np.arange(16) % 2,
    )
    config = TrainConfig(
        strategy=strategy, epochs=2, learning_rate=1e-2, lora_rank=2, tokens_per_batch=256
    )
    return fit(model, examples, examples, config)[0]


@pytest.fixture
def base(hub):  # noqa: ARG001
    ESMC(CONFIG, key=jax.random.key(0)).push_to_hub(BASE)
    return ESMC.from_pretrained(BASE)


def refused(*arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        ENCODER.push_to_hub(*arguments, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "token-" not in message
    return message


@pytest.mark.parametrize(
    ("strategy", "form"),
    [("joint", "full"), ("lora", "full"), ("frozen", "head"), ("lora", "adapter")],
)
def test_predictions_are_the_same_elsewhere(strategy, form, base, hub, tmp_path):
    model = train(base, strategy)
    address = model.push_to_hub(NAME, form=form)
    repository = hub.repositories[NAME]
    assert address == f"{hub.endpoint}/{NAME}/commit/{repository.names['main']}"
    assert len(repository.history) == 2, "one commit beside the one that made the repository"
    assert by_another_process(hub, tmp_path / "elsewhere") == spell(model)
    weights = len(repository.tree()["model.safetensors"].content)
    assert (weights < 20_000) == (form != "full")
    loaded = SolubilityModel.from_pretrained(NAME)
    assert len(adapters(loaded)) == len(adapters(model))
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_sharded(base, hub, tmp_path):
    model = train(base, "joint")
    model.push_to_hub(NAME, shard_bytes=100_000)
    names = set(hub.repositories[NAME].tree())
    shards = {name for name in names if name.startswith("model-")}
    assert len(shards) >= 3
    assert "model.safetensors.index.json" in names
    assert by_another_process(hub, tmp_path / "elsewhere") == spell(model)
    model.push_to_hub(NAME)
    names = set(hub.repositories[NAME].tree())
    assert not names & shards, "what an earlier checkpoint left would count"
    assert "model.safetensors.index.json" not in names
    assert by_another_process(hub, tmp_path / "again") == spell(model)


def test_private(base, hub, tmp_path, monkeypatch):
    model = train(base, "frozen")
    model.push_to_hub(NAME, private=True)
    assert hub.repositories[NAME].private
    assert not hub.repositories[BASE].private
    assert by_another_process(hub, tmp_path / "elsewhere") == spell(model)
    monkeypatch.setenv("HF_TOKEN", "token-other")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        by_another_process(hub, tmp_path / "other")
    assert "or it is private" in caught.value.stderr
    assert SolubilityModel.from_pretrained(
        NAME, token="token-owner", cache_dir=tmp_path / "own"
    ).calibration == Calibration(1.25)


def test_a_person_s_words_stay(base, hub):
    model = train(base, "frozen")
    model.push_to_hub(NAME)
    card = hub.repositories[NAME].tree()["README.md"].content.decode()
    words = (
        "We measured this on **forty** constructs of our own.\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    )
    edited = card.replace("<!-- /eqxesm:use -->\n", f"<!-- /eqxesm:use -->\n\n{words}\n", 1)
    edited = edited.replace("tags:\n", "language: en\nwidget:\n- text: MKV\ntags:\n- our-lab\n", 1)
    edited = edited.replace("# Protein solubility from sequence", "# Changed by hand", 1)
    hub.repositories[NAME].add({"README.md": edited.encode()})
    other = eqx.tree_at(lambda m: m.head, model, jax.tree.map(lambda x: x + 1, model.head))
    other.push_to_hub(NAME, form="head")
    renewed = hub.repositories[NAME].tree()["README.md"].content.decode()
    assert renewed.count(words) == 1
    assert renewed.index("## Use") < renewed.index(words) < renewed.index("## Training data")
    assert "Changed by hand" not in renewed
    assert renewed.count("# Protein solubility from sequence") == 1
    assert "This repository holds the head alone" in renewed
    fields = yaml.safe_load(renewed.split("---\n")[1])
    assert fields["language"] == "en"
    assert fields["widget"] == [{"text": "MKV"}]
    assert {"our-lab", "solubility", "esm"} <= set(fields["tags"])
    assert fields["base_model"] == BASE
    before = hub.repositories[NAME].tree()
    other.push_to_hub(NAME, form="head")
    assert hub.repositories[NAME].tree()["README.md"].content == before["README.md"].content


def test_a_branch_and_a_pull_request(hub):
    ENCODER.push_to_hub(BASE)
    repository = hub.repositories[BASE]
    first = repository.names["main"]
    other = ESMC(CONFIG, key=jax.random.key(3))
    other.push_to_hub(BASE, revision="trial", commit_message="Another one")
    assert repository.names["main"] == first != repository.names["trial"]
    assert ESMC.from_pretrained(BASE, revision="trial").config == CONFIG
    address = other.push_to_hub(BASE, create_pr=True)
    assert address == f"{hub.endpoint}/{BASE}/discussions/1"
    assert repository.names["main"] == first
    assert ESMC.from_pretrained(BASE, revision="refs/pr/1").config == CONFIG
    assert "one pushes to a branch" in refused(BASE, revision=first)


def test_the_record_travels(base, hub, tmp_path):
    model = train(base, "frozen")
    model.save_pretrained(tmp_path / "run", FACTS, {"calibration.png": b"\x89PNG made up"})
    saved = SolubilityModel.from_pretrained(tmp_path / "run")
    # The fold is that of a run: nobody has to hand the facts on.
    eqx.tree_at(lambda m: m.encoder, saved, base).push_to_hub(NAME, form="head")
    tree = hub.repositories[NAME].tree()
    assert tree["calibration.png"].content == b"\x89PNG made up"
    card = tree["README.md"].content.decode()
    assert FACTS["summary"] in card
    assert "![Share of soluble proteins" in card
    pulled = SolubilityModel.from_pretrained(NAME)
    assert pulled.record == saved.record
    assert "Record(" in repr(pulled)
    assert len(repr(pulled.record)) < 1000


@pytest.mark.parametrize("change", ["weights", "calibration", "precision"])
def test_a_record_is_about_one_model_only(change, tmp_path, caplog):
    model = SolubilityModel.from_pretrained("default")
    if change == "weights":
        model = eqx.tree_at(lambda m: m.head, model, jax.tree.map(lambda x: x * 1.001, model.head))
    elif change == "calibration":
        model = dataclasses.replace(model, calibration=Calibration(2.0))
    else:
        model = cast(model, jnp.bfloat16)
    model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "metrics.json").exists()
    assert "Not recorded." in (tmp_path / "model" / "README.md").read_text()
    assert "another one than its record is about" in caplog.text


def test_a_copy_is_the_same(tmp_path):
    SolubilityModel.from_pretrained("default").save_pretrained(tmp_path / "copy")
    packaged = Path(__file__).parents[1] / "eqxesm" / "default"
    assert {file.name for file in (tmp_path / "copy").iterdir()} == {
        file.name for file in packaged.iterdir()
    }
    for name in ("config.json", "metrics.json", "model.safetensors", "calibration.png"):
        assert (tmp_path / "copy" / name).read_bytes() == (packaged / name).read_bytes()


def test_forms_that_do_not_go(base, hub, tmp_path):
    def refusal(model: SolubilityModel, form: str, named: str | None = None) -> str:
        with pytest.raises(InputError) as caught:
            model.save_pretrained(tmp_path / "model", form=form, base=named)
        assert not (tmp_path / "model").exists()
        return str(caught.value)

    frozen, joint, lora = (train(base, strategy) for strategy in ("frozen", "joint", "lora"))
    assert "is not one of full, head, adapter" in refusal(frozen, "half")
    assert f"the encoder is not that of {BASE}" in refusal(joint, "head")
    assert "the encoder has no adapters" in refusal(frozen, "adapter")
    assert "the encoder has adapters, which the form head leaves out" in refusal(lora, "head")
    stray = train(ESMC(CONFIG, key=jax.random.key(0)), "frozen")
    assert "came from no repository: name it (--base)" in refusal(stray, "head")
    assert "no such repository" in refusal(stray, "head", "me/nothing")
    stray.save_pretrained(tmp_path / "named", form="head", base=BASE)
    assert spell(SolubilityModel.from_pretrained(tmp_path / "named")) == spell(stray)
    default = SolubilityModel.from_pretrained("default")
    assert "came from no repository" in refusal(default, "head")
    assert f"not that of {BASE}" in refusal(default, "head", BASE)
    hub.repositories[BASE].names["other"] = hub.repositories[BASE].names["main"]
    stray.save_pretrained(tmp_path / "branch", form="head", base=f"{BASE}@other")
    merged = merge_lora(lora)
    assert "not that of" in refusal(merged, "head")


def test_an_encoder_that_changed_under_a_head(base, hub, tmp_path):
    model = train(base, "frozen")
    model.save_pretrained(tmp_path / "model", form="head")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    changed = ESMC(CONFIG, key=jax.random.key(5))
    changed.push_to_hub(BASE)
    assert spell(SolubilityModel.from_pretrained(tmp_path / "model")) == spell(model)

    def load(**values) -> str:
        text = json.dumps({**config, "base": {**config["base"], **values}})
        (tmp_path / "model" / "config.json").write_text(text)
        with pytest.raises(InputError) as caught:
            SolubilityModel.from_pretrained(tmp_path / "model")
        return str(caught.value)

    commit = hub.repositories[BASE].names["main"]
    assert "has other parameters than it was trained with" in load(revision=commit)
    assert "has other parameters than it was trained with" in load(sha256="0" * 64)
    assert "not to be had: me/gone" in load(repository="me/gone")
    assert "no such revision" in load(revision="0" * 40)
    assert "wants a base with its sha256" in load(sha256=None)
    for wrong in ("../x", "/etc", "me/x/y", "me", "http://h/x", "me/x\n"):
        assert "which is no such thing on the Hub" in load(repository=wrong)
    for wrong in ("main", "0" * 39, "../" * 13 + "a"):
        assert "which is no such thing on the Hub" in load(revision=wrong)


def test_a_head_never_stands_on_a_folder_that_has_the_name(base, tmp_path, monkeypatch):
    model = train(base, "frozen")
    model.save_pretrained(tmp_path / "model", form="head")
    ESMC(CONFIG, key=jax.random.key(5)).save_pretrained(tmp_path / BASE)
    monkeypatch.chdir(tmp_path)
    assert spell(SolubilityModel.from_pretrained("model")) == spell(model)


def test_adapters_that_were_loaded_are_trained_on(base, tmp_path):
    model = train(base, "lora")
    model.save_pretrained(tmp_path / "model", form="adapter")
    loaded = SolubilityModel.from_pretrained(tmp_path / "model")
    assert loaded.encoder.base is not None
    encoder = add_lora(base, LoRAConfig(3, 1.0, ("gate", "down")), key=jax.random.key(0))
    other = SolubilityModel(encoder, loaded.head)
    other.save_pretrained(tmp_path / "other", form="adapter")
    again = SolubilityModel.from_pretrained(tmp_path / "other")
    assert [each.alpha for each in adapters(again)] == [1.0, 1.0]
    assert jax.tree.structure(again.encoder.blocks) == jax.tree.structure(encoder.blocks)


def test_adapters_of_two_kinds(base, tmp_path):
    encoder = add_lora(base, LoRAConfig(2, 2.0, ("query",)), key=jax.random.key(0))
    encoder = add_lora(encoder, LoRAConfig(2, 64.0, ("value",)), key=jax.random.key(0))
    model = SolubilityModel(encoder, train(base, "frozen").head)
    with pytest.raises(InputError, match="differ in rank or alpha"):
        model.save_pretrained(tmp_path / "model")


@pytest.mark.usefixtures("base")
def test_an_encoder_of_another_architecture_and_the_same_shapes(tmp_path):
    other = ESMC(dataclasses.replace(CONFIG, heads=1), key=jax.random.key(0))
    model = train(other, "frozen")
    with pytest.raises(InputError, match=f"not that of {BASE}"):
        model.save_pretrained(tmp_path / "model", form="head", base=BASE)


# What is pushed by folder


@pytest.fixture
def copy(tmp_path) -> Path:
    SolubilityModel.from_pretrained("default").save_pretrained(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("name", ["README.md", "calibration.png", "config.json"])
def test_what_a_link_leads_to_is_not_published(name, hub, copy, tmp_path, capsys):
    secret = tmp_path / "secret"
    secret.write_bytes((copy / name).read_bytes())
    (copy / name).unlink()
    (copy / name).symlink_to(secret)
    assert main(["push", str(copy), NAME]) == 2
    assert "is a link that leads out of its folder" in capsys.readouterr().err
    assert hub.repositories == {}


def test_a_folder_that_was_changed_by_hand_is_published_without_its_figures(hub, copy, capsys):
    config = json.loads((copy / "config.json").read_text())
    config["calibration"]["temperature"] = 5.0
    (copy / "config.json").write_text(json.dumps(config))
    assert main(["push", str(copy), NAME]) == 0
    assert "another one than its record is about" in capsys.readouterr().err
    tree = hub.repositories[NAME].tree()
    assert "metrics.json" not in tree
    card = tree["README.md"].content.decode()
    assert "Temperature 5.000" in card
    assert "model-index" not in card
    assert "0.599" not in card


def test_words_of_the_folder_go_up_in_any_form(base, hub, tmp_path):
    model = train(base, "frozen")
    model.save_pretrained(tmp_path / "run")
    with open(tmp_path / "run" / "README.md", "a", encoding="utf-8") as file:
        file.write("\nTübingen, our lab\n")
    for form in ("full", "head"):
        name = f"me/{form}"
        assert main(["push", str(tmp_path / "run"), name, "--form", form]) == 0
        card = hub.repositories[name].tree()["README.md"].content.decode()
        assert "Tübingen, our lab" in card
        assert f'from_pretrained("{name}")' in card
    assert main(["pull", "me/head", "--out", str(tmp_path / "pulled")]) == 0
    assert main(["push", str(tmp_path / "pulled"), "me/third"]) == 0
    card = hub.repositories["me/third"].tree()["README.md"].content.decode()
    assert 'from_pretrained("me/third")' in card
    assert "me/head" not in card
    assert "Tübingen, our lab" in card


def test_a_card_that_is_no_text_is_told(hub, copy, capsys):
    ENCODER.push_to_hub(NAME)
    hub.repositories[NAME].add({"README.md": "Tübingen".encode("latin-1")})
    assert "is not in UTF-8" in refused(NAME)
    (copy / "README.md").write_bytes("Tübingen".encode("latin-1"))
    assert main(["push", str(copy), "me/other"]) == 2
    assert "is not in UTF-8: save it so" in capsys.readouterr().err


# Failures of a push


def test_an_answer_that_is_lost(hub, monkeypatch):
    """The commit was made: it is found, and made no second time."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.fail("POST", "/commit/", cut_at=0)
    address = ENCODER.push_to_hub(NAME)
    repository = hub.repositories[NAME]
    assert address.endswith(f"/{NAME}/commit/{repository.names['main']}")
    assert len(repository.history) == 2
    hub.fail("POST", "/commit/", cut_at=0)
    assert "me/encoder" not in refused(NAME, create_pr=True)
    assert [name for name in repository.names if name.startswith("refs/pr")] == ["refs/pr/1"]


@pytest.mark.parametrize("status", [400, 413, 451])
def test_a_refusal_is_no_silence(status, hub):
    hub.fail("POST", "/commit/", status=status)
    assert f"the Hub refuses (HTTP {status}" in refused(NAME)
    ENCODER.push_to_hub(NAME)
    assert ESMC.from_pretrained(NAME).config == ENCODER.config
    hub.fail("GET", "/api/models/", status=status)
    with pytest.raises(InputError, match=f"the Hub refuses \\(HTTP {status}"):
        ESMC.from_pretrained(NAME)


def test_a_public_repository_does_not_become_private_in_silence(hub):
    ENCODER.push_to_hub(NAME)
    assert "is public already" in refused(NAME, private=True)
    assert len(hub.repositories[NAME].history) == 2


def test_a_token_that_is_none():
    assert "the token is none" in refused(NAME, token="hf_secret\n")


def test_a_hub_that_never_answers(hub, monkeypatch):
    from huggingface_hub.utils import get_session

    if not hasattr(get_session(), "timeout"):
        pytest.skip("the older client takes no timeout")
    monkeypatch.setattr("eqxesm.checkpoint.hub_calls.SILENCE", 0.2)
    monkeypatch.setattr("eqxesm.checkpoint.hub_calls.WAITS", (0.0,))
    hub.fail("POST", "/api/repos/create", times=9, stall=1.0)
    assert "the Hub cannot be reached" in refused(NAME)


def test_names_that_are_none():
    for name in ("solubility", "a/b/c", "", "me/ x", "../x", "https://huggingface.co/me/x"):
        assert "no name of a Hub repository: give owner/name" in refused(name)


def test_no_login(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "pushing wants a login: 'hf auth login', or HF_TOKEN" in refused(NAME)
    assert "pushing wants a login" in refused(NAME, token=False)
    assert hub.repositories == {}
    assert hub.requests == []
    ENCODER.push_to_hub(NAME, token="token-owner")


def test_a_login_that_is_none(hub):
    assert "the Hub knows no such login" in refused(NAME, token="token-unknown")
    assert hub.repositories == {}


def test_no_rights(hub):
    ENCODER.push_to_hub(NAME)
    history = list(hub.repositories[NAME].history)
    for name in (NAME, "me/other"):
        assert "lacks the rights" in refused(name, token="token-other")
    assert hub.repositories[NAME].history == history


def test_somebody_else_was_faster(hub, monkeypatch):
    ENCODER.push_to_hub(NAME)
    repository = hub.repositories[NAME]

    def merge(new: str, _: str) -> str:
        repository.add({"note.txt": b"of somebody else"})
        return new

    monkeypatch.setattr("eqxesm.checkpoint.publish.merge_cards", merge)
    assert "somebody else has changed it in the meantime" in refused(NAME)
    assert "note.txt" in repository.tree()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/repos/create"), ("GET", "/api/models/"), ("POST", "/preupload/"),
     ("POST", "/objects/batch"), ("PUT", "/store/"), ("POST", "/commit/")],
)  # fmt: skip
@pytest.mark.parametrize("status", [500, 429])
def test_an_error_of_the_server_on_the_way_up(status, method, path, hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.fail(method, path, times=2, status=status)
    ENCODER.push_to_hub(NAME)
    assert ESMC.from_pretrained(NAME).config == ENCODER.config
    hub.fail(method, path, times=9999, status=status)
    other = ESMC(ENCODER.config, key=jax.random.key(1))
    with pytest.raises(InputError, match=r"the Hub (fails \(HTTP 500\)|limits how much)"):
        other.push_to_hub(NAME)
    hub.faults.clear()
    np.testing.assert_array_equal(ESMC.from_pretrained(NAME).embedding, ENCODER.embedding)
    other.push_to_hub(NAME)
    np.testing.assert_array_equal(ESMC.from_pretrained(NAME).embedding, other.embedding)


@pytest.mark.parametrize("tenth", range(10))
def test_an_upload_that_is_cut(tenth, hub, monkeypatch):
    """Once, it goes through; always, it is told, and what was there stays."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    ESMC(LARGE.config, key=jax.random.key(9)).push_to_hub(NAME)
    before = hub.repositories[NAME].names["main"]
    cut = 12_000_000 * tenth // 10
    hub.fail("PUT", "/store/", times=9999, cut_in=cut)
    with pytest.raises(InputError) as caught:
        LARGE.push_to_hub(NAME)
    assert len(str(caught.value).splitlines()) == 1
    assert hub.repositories[NAME].names["main"] == before
    hub.faults.clear()
    hub.fail("PUT", "/store/", cut_in=cut)
    LARGE.push_to_hub(NAME)
    loaded = ESMC.from_pretrained(NAME)
    np.testing.assert_array_equal(loaded.blocks.ffn.down.weight, LARGE.blocks.ffn.down.weight)


@pytest.mark.parametrize("path", ["/preupload/", "/objects/batch", "/commit/"])
def test_a_request_that_is_cut(path, hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.fail("POST", path, cut_in=20)
    ENCODER.push_to_hub(NAME)
    assert ESMC.from_pretrained(NAME).config == ENCODER.config


def test_a_push_without_a_network(monkeypatch, hub):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the Hub cannot be reached" in refused(NAME)
    assert hub.requests == []


def test_folders_that_are_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"holds no config\.json"):
        push(tmp_path, NAME)
    ENCODER.save_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks model\.safetensors"):
        push(tmp_path / "encoder", NAME)


# The commands


def test_push_and_pull_by_command(base, hub, tmp_path, capsys):
    model = train(base, "lora")
    model.save_pretrained(tmp_path / "run")
    assert main(["push", str(tmp_path / "run"), NAME, "--form", "adapter", "--private"]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith(f"{hub.endpoint}/{NAME}/commit/")
    assert hub.repositories[NAME].private
    assert main(["pull", NAME, "--out", str(tmp_path / "copy")]) == 0
    out, err = capsys.readouterr()
    assert "model, form adapter" in out
    assert f"stands on {BASE} at {base.base.revision}" in err
    assert {file.name for file in (tmp_path / "copy").iterdir()} == {
        "config.json", "README.md", "model.safetensors"
    }  # fmt: skip
    assert spell(SolubilityModel.from_pretrained(tmp_path / "copy")) == spell(model)
    assert main(["push", str(tmp_path / "run"), "me/full"]) == 0
    assert by_another_process(hub, tmp_path / "elsewhere", "me/full") == spell(model)
    assert main(["pull", BASE]) == 0
    assert "encoder" in capsys.readouterr().out
    base.save_pretrained(tmp_path / "encoder")
    assert main(["push", str(tmp_path / "encoder"), "me/again", "--message", "Again"]) == 0
    assert main(["info", NAME]) == 0
    assert "adapters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["push", "nowhere", NAME], "nowhere: no such folder"),
        (["push", "run", "noname"], "no name of a Hub repository"),
        (["push", "empty", NAME], "holds no config.json"),
        (["push", "encoder", NAME, "--form", "head"], "has no forms"),
        (["push", "encoder", NAME, "--base", BASE], "--base goes with --form"),
        (["pull", "noname"], "no name of a Hub repository"),
        (["pull", NAME], "no such repository"),
        (["pull", NAME, "--out", "empty"], "is there already"),
    ],
)
def test_commands_that_are_refused(words, part, hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    ENCODER.save_pretrained("encoder")
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("eqxesm: error: ")
    assert part in err
    assert len(err.splitlines()) == 1
    assert not hub.repositories


def test_a_token_is_no_argument(capsys):
    for command in ("push", "pull", "predict"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "token" not in capsys.readouterr().out.lower().replace("hf_token", "")


def test_the_token_is_in_no_log(base, tmp_path, capsys, caplog):
    """Nor in what stands on the disk or in a model's own words."""
    caplog.set_level("DEBUG")
    model = train(base, "frozen")
    model.push_to_hub(NAME, form="head", token="token-owner")
    SolubilityModel.from_pretrained(NAME, token="token-owner", cache_dir=tmp_path / "own")
    assert "token-owner" not in "".join(capsys.readouterr()) + caplog.text + repr(model)
    kept = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert kept
    assert not [file for file in kept if b"token-owner" in file.read_bytes()]
