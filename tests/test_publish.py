"""Publishing a folder and pulling it: the form, the figures and the words of people that go with it."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hub_models import BASE, ENCODER, NAME, make_trained, predict_bits, refusal
from paths import ROOT

from eqxesm import SolubilityModel, Tokenizer
from eqxesm.encoders import cast
from eqxesm.publish import pull_checkpoint, push_folder

PACKAGED = ROOT / "eqxesm" / "default"


@pytest.fixture
def copy(tmp_path) -> Path:
    SolubilityModel.from_pretrained("default").save_pretrained(tmp_path / "copy")
    return tmp_path / "copy"


def read_card(hub, name: str = NAME) -> str:
    return hub.repositories[name].tree()["README.md"].content.decode()


# What is published


@pytest.mark.parametrize(
    ("strategy", "form"),
    [
        pytest.param("joint", "full", marks=pytest.mark.slow),
        pytest.param("lora", "full", marks=pytest.mark.slow),
        ("frozen", "head"),
        pytest.param("lora", "adapter", marks=pytest.mark.slow),
    ],
)
def test_a_trained_model_comes_back_the_same(strategy, form, base, hub, tmp_path):
    pytest.importorskip("optax", reason="needs the extra train")
    from eqxesm.training import Examples, TrainConfig, fit

    draw, letters = np.random.default_rng(0), np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    tokens = [Tokenizer().encode("".join(draw.choice(letters, 30))) for _ in range(16)]
    examples = Examples(tokens, np.arange(16) % 2)
    config = TrainConfig(strategy=strategy, epochs=2, learning_rate=1e-2, lora_rank=2, tokens_per_batch=256)
    model = fit(make_trained(base, "frozen"), examples, examples, config)[0]
    assert not eqx.tree_equal(model.head, make_trained(base, "frozen").head)
    model.save_pretrained(tmp_path / "run", form=form)
    push_folder(tmp_path / "run", NAME)
    loaded = SolubilityModel.from_pretrained(NAME, cache_dir=tmp_path / "own")
    assert eqx.tree_equal(loaded, model)
    assert predict_bits(loaded) == predict_bits(model)
    assert (len(hub.repositories[NAME].tree()["model.safetensors"].content) < 20_000) == (form != "full")


def test_a_copy_of_the_default_model_is_the_same(copy):
    assert {file.name for file in copy.iterdir()} == {file.name for file in PACKAGED.iterdir()}
    for name in ("metrics.json", "model.safetensors", "calibration.png"):
        assert (copy / name).read_bytes() == (PACKAGED / name).read_bytes()
    found, expected = (json.loads((folder / "config.json").read_text()) for folder in (copy, PACKAGED))
    del found["library_version"], expected["library_version"]
    assert found == expected


@pytest.mark.parametrize("change", ["weights", "precision"])
def test_figures_of_another_model_are_not_saved(change, tmp_path):
    model = SolubilityModel.from_pretrained("default")
    if change == "weights":
        model = eqx.tree_at(lambda m: m.head, model, jax.tree.map(lambda x: x * 1.001, model.head))
    else:
        model = cast(model, jnp.bfloat16)
    model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "metrics.json").exists()
    assert "Not recorded." in (tmp_path / "model" / "README.md").read_text()


def test_a_folder_that_was_changed_by_hand_is_published_without_its_figures(hub, copy, caplog):
    config = json.loads((copy / "config.json").read_text())
    config["calibration"]["temperature"] = 5.0
    (copy / "config.json").write_text(json.dumps(config))
    push_folder(copy, NAME)
    assert "the model changed since it was measured, so its figures are left out" in caplog.text
    assert "metrics.json" not in hub.repositories[NAME].tree()
    card = read_card(hub)
    assert "5.000" in card
    assert "model-index" not in card
    record = json.loads((PACKAGED / "metrics.json").read_text())
    figure = f"{record['evaluation']['sets'][0]['rows'][0]['metrics']['auroc']['value']:.3f}"
    assert figure in (PACKAGED / "README.md").read_text()
    assert figure not in card


@pytest.mark.parametrize("name", ["README.md", "calibration.png", "config.json"])
def test_what_a_link_leads_to_is_not_published(name, hub, copy, tmp_path):
    (copy / name).rename(tmp_path / "secret")
    (copy / name).symlink_to(tmp_path / "secret")
    assert "link that leads out of its folder" in refusal(push_folder, copy, NAME)
    assert hub.repositories == {}


def test_words_of_the_folder_are_kept_in_every_form(base, hub, tmp_path):
    make_trained(base, "frozen").save_pretrained(tmp_path / "run")
    with open(tmp_path / "run" / "README.md", "a", encoding="utf-8") as file:
        file.write("\nTübingen, our lab\n")
    for form in ("full", "head"):
        name = f"me/{form}"
        push_folder(tmp_path / "run", name, form=form)
        card = read_card(hub, name)
        assert "Tübingen, our lab" in card
        assert f'from_pretrained("{name}")' in card
    pull_checkpoint("me/head", None, str(tmp_path / "pulled"))
    push_folder(tmp_path / "pulled", "me/third")
    card = read_card(hub, "me/third")
    assert 'from_pretrained("me/third")' in card
    assert "me/head" not in card
    assert "Tübingen, our lab" in card


def test_words_on_the_hub_are_kept_beside_those_of_the_folder(hub, copy):
    push_folder(copy, NAME)
    hub.repositories[NAME].add({"README.md": (read_card(hub) + "\nWords on the page\n").encode()})
    with open(copy / "README.md", "a", encoding="utf-8") as file:
        file.write("\nWords in the folder\n")
    for _ in range(2):
        push_folder(copy, NAME)
        assert read_card(hub).count("Words on the page") == read_card(hub).count("Words in the folder") == 1


def test_refuses_a_card_that_is_not_utf_8(hub, copy):
    (copy / "README.md").write_bytes("Tübingen".encode("latin-1"))
    assert "not UTF-8 text. Save it as UTF-8." in refusal(push_folder, copy, NAME)
    assert hub.repositories == {}


def test_the_form_of_the_folder_is_kept_by_default(base, hub, tmp_path):
    for strategy, form in (("frozen", "head"), ("lora", "adapter"), ("joint", "full")):
        make_trained(base, strategy).save_pretrained(tmp_path / form, form=form)
        push_folder(tmp_path / form, f"me/{form}")
        assert json.loads(hub.repositories[f"me/{form}"].tree()["config.json"].content)["form"] == form


def test_refuses_what_cannot_be_published(hub, tmp_path):
    ENCODER.save_pretrained(tmp_path / "encoder")
    assert "folder not found" in refusal(push_folder, tmp_path / "nowhere", NAME)
    assert "config.json is missing" in refusal(push_folder, tmp_path, NAME)
    assert "which has no forms. Leave out --form." in refusal(push_folder, tmp_path / "encoder", NAME, form="head")
    assert "not the name of a Hub repository" in refusal(push_folder, tmp_path / "encoder", "noname")
    assert hub.requests == []


# Pulling


def test_pulling_says_what_came_and_copies_it(base, hub, tmp_path):
    model = make_trained(base, "lora")
    model.push_to_hub(NAME, form="adapter")
    told = pull_checkpoint(NAME, None, str(tmp_path / "copy"))
    assert told["commit"] == hub.repositories[NAME].names["main"]
    assert told["kind"] == "model, form adapter"
    assert told["folder"] == str(tmp_path / "copy")
    assert told["encoder"] == f"{BASE} at {base.about.base.revision}"
    files = {file.name: file.stat().st_size for file in (tmp_path / "copy").iterdir()}
    assert set(files) == {"config.json", "README.md", "model.safetensors"}
    assert told["files"] == f"3 files, {sum(files.values()):,} bytes"
    assert predict_bits(SolubilityModel.from_pretrained(tmp_path / "copy")) == predict_bits(model)
    told = pull_checkpoint(BASE, None, None)
    assert told["kind"] == "encoder"
    assert "encoder" not in told
    assert Path(told["folder"]).name == told["commit"] == base.about.base.revision


def test_refuses_to_pull_over_what_is_there(hub, tmp_path):
    ENCODER.push_to_hub(NAME)
    hub.requests.clear()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name in ("folder", "file"):
        assert "exists already. Name a new folder." in refusal(pull_checkpoint, NAME, None, str(tmp_path / name))
    assert hub.requests == []


def test_a_damaged_checkpoint_is_not_copied(hub, tmp_path):
    ENCODER.push_to_hub(NAME)
    hub.repositories[NAME].add({"config.json": b"{}"})
    assert "schema_version is missing" in refusal(pull_checkpoint, NAME, None, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()
