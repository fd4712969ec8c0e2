"""The record of a model: it is about one model, travels with it, and is dropped by any change."""

import contextlib
import dataclasses
import functools
import json

import equinox as eqx
import jax
import numpy as np
import pytest
from checkpoints import assert_loads_or_is_refused_in_one_line, key_paths, made, make_encoder
from fuzzing import fuzz, json_values
from hypothesis import given
from hypothesis import strategies as st

from eqxesm import ESMC, About, Calibration, SolubilityModel
from eqxesm.checkpoint.folder import read_config
from eqxesm.checkpoint.record import (
    METRICS,
    SUBJECT,
    Base,
    Provenance,
    Record,
    hash_model,
    make_record,
    read_record,
    with_about,
)
from eqxesm.config import parse
from eqxesm.errors import InputError
from eqxesm.forms import Limits


@pytest.mark.parametrize(
    ("source", "published"),
    [
        ("biohub/ESMC-300M", "biohub/ESMC-300M"),
        ("weights/esmc.pth", "weights/esmc.pth"),
        ("/home/me/weights/esmc.pth", "esmc.pth"),
        ("~/weights", "weights"),
        ("../me/esmc", "esmc"),
        (r"C:\Users\me\esmc.pth", "esmc.pth"),
        ("trained on top of /home/me/esmc", "trained on top of esmc"),
        ("eqxesm train, recipe x", "eqxesm train, recipe x"),
    ],
)
def test_a_source_names_no_folder_of_this_machine(source, published):
    assert Provenance(source).source == published
    assert parse(Provenance, {"source": source}, "config.json").source == published


FACTS = {
    "summary": "short",
    "training": {"data": [], "hygiene": "", "calibrated_on": "", "recipe": {}},
    "evaluation": {"intervals": "", "sets": []},
    "limits": [],
}
PICTURES = {"calibration.png": b"made up"}


def test_a_record_is_written_and_read_with_its_pictures(tmp_path):
    model = made("model")
    model.save_pretrained(tmp_path / "model", FACTS, PICTURES)
    record = read_record(tmp_path / "model")
    sections = read_config(tmp_path / "model")
    subject = hash_model({"encoder": model.encoder, "head": model.head}, sections)
    assert record == Record({SUBJECT: subject, **FACTS}, PICTURES)
    loaded = SolubilityModel.from_pretrained(tmp_path / "model")
    assert loaded.about.record == record
    loaded.save_pretrained(tmp_path / "again")
    assert read_record(tmp_path / "again") == record


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.replace(calibration=Calibration(2.0, 0.25)),
        lambda model: model.replace(limits=Limits(100)),
        lambda model: model.replace(head=jax.tree.map(lambda x: -x if eqx.is_array(x) else x, model.head)),
        lambda model: model.replace(encoder=make_encoder(lm_head=True)),
    ],
    ids=["calibration", "limits", "head", "encoder"],
)
def test_a_changed_model_loses_its_record(change, tmp_path, caplog):
    made("model").save_pretrained(tmp_path / "model", FACTS, PICTURES)
    changed = change(SolubilityModel.from_pretrained(tmp_path / "model"))
    assert changed.about.record is not None
    changed.save_pretrained(tmp_path / "changed")
    assert read_record(tmp_path / "changed") is None
    assert "the model changed since it was measured, so its figures are left out" in caplog.text


def test_a_new_record_replaces_the_earlier_one(tmp_path):
    made("model").save_pretrained(tmp_path / "model", FACTS, PICTURES)
    loaded = SolubilityModel.from_pretrained(tmp_path / "model")
    loaded.save_pretrained(tmp_path / "model", {**FACTS, "summary": "other"})
    record = read_record(tmp_path / "model")
    assert record.facts["summary"] == "other"
    assert record.pictures == {}
    assert not (tmp_path / "model" / "calibration.png").exists()


def test_facts_cannot_name_another_model():
    assert make_record("a" * 64, {SUBJECT: "b" * 64, "summary": "x"}).facts[SUBJECT] == "a" * 64


def test_refuses_pictures_that_no_card_shows(tmp_path):
    with pytest.raises(ValueError, match=r"unknown picture loss.png, expected calibration.png or parity.png"):
        make_record("a" * 64, FACTS, {"loss.png": b""})
    with pytest.raises(InputError, match=r"pictures belong to a record. Pass both"):
        made("small").save_pretrained(tmp_path / "small", pictures=PICTURES)


def test_refuses_a_record_that_is_not_one(tmp_path):
    SolubilityModel.from_pretrained("default").save_pretrained(tmp_path / "model")
    for text in ("[]", "{}", "{", '{"summary": 3}'):
        (tmp_path / "model" / METRICS).write_text(text)
        with pytest.raises(InputError, match=r"metrics\.json"):
            SolubilityModel.from_pretrained(tmp_path / "model")


def test_a_record_shows_little_of_itself():
    record = Record({"summary": "short", "figures": list(range(1000))}, {"calibration.png": b"x" * 1000})
    assert repr(record) == "Record('short')"


def test_the_hash_of_a_model_is_that_of_weights_and_configuration():
    tree, sections = {"a": np.zeros(3, np.float32)}, {"encoder": {"layers": 3}, "head": {}, "limits": {"max": 7}}
    found = hash_model(tree, sections)
    # Where it came from, and the form it is stored in, decide nothing that it predicts.
    assert hash_model(tree, {**sections, "provenance": {"source": "x"}, "form": "head", "adapter": None}) == found
    others = [
        hash_model({"a": np.ones(3, np.float32)}, sections),
        hash_model(tree, {**sections, "limits": {"max": 8}}),
        hash_model(tree, {**sections, "cleaning": {}}),
    ]
    assert len({found, *others}) == 4


def test_another_about_is_the_same_model():
    about = About(Provenance("elsewhere"), Base("me/x", "a" * 40), Record({"summary": "x"}))
    model = with_about(made("model"), about)
    assert model.about == about
    # The encoder keeps its own.
    assert model.encoder.about == made("model").encoder.about != About()
    assert eqx.tree_equal(model, made("model"))
    assert with_about(made("encoder"), About()).about == About()


def test_an_about_is_no_part_of_the_tree():
    about = About(Provenance("elsewhere"))
    assert jax.tree.leaves(about) == []
    assert jax.tree.map(lambda x: x, about) == About()
    assert jax.tree.structure(about) == jax.tree.structure(About())
    with pytest.raises(dataclasses.FrozenInstanceError):
        about.provenance = None


@pytest.mark.slow
@fuzz
@given(data=st.data())
def test_any_record_is_refused_or_makes_a_card(data, fuzzed):
    """What is wrong with a record is found when it is read, or when a card is made of it."""
    record = json.loads(json.dumps(FACTS))
    *parents, key = data.draw(st.sampled_from(list(key_paths(record))))
    functools.reduce(dict.__getitem__, parents, record)[key] = data.draw(json_values)
    (fuzzed / "small" / METRICS).write_text(json.dumps(record))
    assert_loads_or_is_refused_in_one_line(fuzzed / "small")
    with contextlib.suppress(InputError):
        made("small").save_pretrained(fuzzed / "copy", record)
        assert (fuzzed / "copy" / "README.md").read_text().startswith("---\n")


def test_an_encoder_travels_with_its_record(tmp_path):
    made("encoder").save_pretrained(tmp_path / "encoder", {"summary": "A port."}, {"parity.png": b"made up"})
    loaded = ESMC.from_pretrained(tmp_path / "encoder")
    loaded.save_pretrained(tmp_path / "again")
    assert read_record(tmp_path / "again") == loaded.about.record
    assert loaded.about.record.pictures == {"parity.png": b"made up"}
