"""The forms of a stored model: which form fits which model, and which encoder a form may refer to."""

import dataclasses
import json

import equinox as eqx
import jax
import numpy as np
import pytest
from hub_models import BASE, CONFIG, make_trained, predict_bits, refusal

from eqxesm import ESMC, SolubilityModel
from eqxesm.checkpoint.leaves import named_leaves
from eqxesm.domain import Domain
from eqxesm.encoders import cast
from eqxesm.encoders.lora import LoRAConfig, add_lora, find_adapters, merge_lora


@pytest.fixture
def refused(tmp_path):
    """Why a model is not saved in a form."""

    def _refused(model: SolubilityModel, form: str, base: str | None = None) -> str:
        message = refusal(model.save_pretrained, tmp_path / "refused", form=form, base=base)
        assert not (tmp_path / "refused").exists()
        return message

    return _refused


def test_refuses_forms_that_do_not_fit_the_model(base, refused):
    frozen, joint, lora = (make_trained(base, strategy) for strategy in ("frozen", "joint", "lora"))
    assert "form is 'half', expected one of full, head, adapter" in refused(frozen, "half")
    assert "form full stores the whole encoder. Leave out the base." in refused(frozen, "full", BASE)
    assert f"the encoder is not that of {BASE}" in refused(joint, "head")
    assert "the encoder has no adapters" in refused(frozen, "adapter")
    assert "the encoder has adapters, which form head leaves out" in refused(lora, "head")
    assert "not that of" in refused(merge_lora(lora), "head")


@pytest.mark.parametrize(("strategy", "form"), [("frozen", "head"), ("lora", "adapter")])
def test_a_domain_is_stored_in_every_form(strategy, form, base, tmp_path):
    width = CONFIG.d_model
    domain = Domain.fit(np.eye(width, dtype=np.float32), np.eye(width, dtype=np.float32))
    make_trained(base, strategy).replace(domain=domain).save_pretrained(tmp_path / "model", form=form)
    loaded = SolubilityModel.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(loaded.domain.whiten, domain.whiten)


@pytest.mark.usefixtures("base")
def test_refuses_a_form_whose_encoder_is_not_published(refused):
    stray = make_trained(ESMC(CONFIG, key=jax.random.key(0)), "frozen")
    assert "needs a published encoder. Name its repository (--base)" in refused(stray, "head")
    assert "no such repository" in refused(stray, "head", "me/nothing")
    default = SolubilityModel.from_pretrained("default")
    assert "needs a published encoder" in refused(default, "head")
    assert f"not that of {BASE}" in refused(default, "head", BASE)


@pytest.mark.usefixtures("base")
def test_the_published_encoder_can_be_named(hub, tmp_path):
    stray = make_trained(ESMC(CONFIG, key=jax.random.key(0)), "frozen")
    commit = hub.repositories[BASE].names["main"]
    hub.repositories[BASE].names["other"] = commit
    for name, base in (("main", BASE), ("branch", f"{BASE}@other"), ("commit", f"{BASE}@{commit}")):
        stray.save_pretrained(tmp_path / name, form="head", base=base)
        loaded = SolubilityModel.from_pretrained(tmp_path / name)
        assert predict_bits(loaded) == predict_bits(stray)
        assert loaded.about.base.revision == commit


@pytest.mark.usefixtures("base")
def test_refuses_an_encoder_of_another_architecture_with_the_same_shapes(refused):
    other = ESMC(dataclasses.replace(CONFIG, heads=1), key=jax.random.key(0))
    assert f"not that of {BASE}" in refused(make_trained(other, "frozen"), "head", BASE)


def test_refuses_an_encoder_that_changed_under_a_head(base, hub, tmp_path):
    model = make_trained(base, "frozen")
    model.save_pretrained(tmp_path / "model", form="head")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    changed = ESMC(CONFIG, key=jax.random.key(5))
    changed.push_to_hub(BASE)
    assert predict_bits(SolubilityModel.from_pretrained(tmp_path / "model")) == predict_bits(model)

    def load(**values) -> str:
        text = json.dumps({**config, "base": {**config["base"], **values}})
        (tmp_path / "model" / "config.json").write_text(text)
        return refusal(SolubilityModel.from_pretrained, tmp_path / "model")

    commit = hub.repositories[BASE].names["main"]
    assert "are not those it was trained with" in load(revision=commit)
    assert "are not those it was trained with" in load(sha256="0" * 64)
    assert "its encoder cannot be fetched: me/gone" in load(repository="me/gone")
    assert "no such revision" in load(revision="0" * 40)
    assert "form head needs a base with its sha256" in load(sha256=None)
    for wrong in ("../x", "/etc", "me/x/y", "me", "http://h/x", "me/x\n"):
        assert "base.repository" in load(repository=wrong)
    for wrong in ("main", "0" * 39, "../" * 13 + "a"):
        assert "base.revision" in load(revision=wrong)


def test_a_head_is_never_joined_with_a_folder_of_the_same_name(base, tmp_path, monkeypatch):
    model = make_trained(base, "frozen")
    model.save_pretrained(tmp_path / "model", form="head")
    ESMC(CONFIG, key=jax.random.key(5)).save_pretrained(tmp_path / BASE)
    monkeypatch.chdir(tmp_path)
    assert predict_bits(SolubilityModel.from_pretrained("model")) == predict_bits(model)


def test_adapters_are_stored_with_their_configuration(base, tmp_path):
    model = make_trained(base, "lora")
    model.save_pretrained(tmp_path / "model", form="adapter")
    loaded = SolubilityModel.from_pretrained(tmp_path / "model")
    assert loaded.about.base is not None
    half = SolubilityModel.from_pretrained(tmp_path / "model", dtype="bfloat16")
    assert eqx.tree_equal(named_leaves(half.encoder), named_leaves(cast(loaded.encoder, "bfloat16")))
    encoder = add_lora(base, LoRAConfig(3, 1.0, ("gate", "down")), key=jax.random.key(0))
    other = SolubilityModel(encoder, loaded.head)
    other.save_pretrained(tmp_path / "other", form="adapter")
    again = SolubilityModel.from_pretrained(tmp_path / "other")
    assert [each.alpha for each in find_adapters(again)] == [1.0, 1.0]
    assert jax.tree.structure(again.encoder.blocks) == jax.tree.structure(encoder.blocks)


def test_a_loaded_adapter_can_be_saved_again(base, tmp_path):
    """It knows the encoder that it came with."""
    make_trained(base, "lora").save_pretrained(tmp_path / "model", form="adapter")
    loaded = SolubilityModel.from_pretrained(tmp_path / "model")
    loaded.save_pretrained(tmp_path / "again", form="adapter")
    assert (tmp_path / "again" / "config.json").read_bytes() == (tmp_path / "model" / "config.json").read_bytes()
    assert predict_bits(SolubilityModel.from_pretrained(tmp_path / "again")) == predict_bits(loaded)


def test_refuses_adapters_of_two_kinds(base, tmp_path):
    encoder = add_lora(base, LoRAConfig(2, 2.0, ("query",)), key=jax.random.key(0))
    encoder = add_lora(encoder, LoRAConfig(2, 64.0, ("value",)), key=jax.random.key(0))
    model = SolubilityModel(encoder, make_trained(base, "frozen").head)
    assert "differ in rank or alpha" in refusal(model.save_pretrained, tmp_path / "model")
