"""`config.json` of a model: what is wrong with it is named, and nothing is built before it is right."""

import functools
import json

import pytest
from checkpoints import assert_loads_or_is_refused_in_one_line, bits, key_paths, load_or_refuse, made, refusal
from fuzzing import fuzz, json_values
from hypothesis import given
from hypothesis import strategies as st

from eqxesm import SolubilityModel
from eqxesm.checkpoint.folder import CONFIG
from eqxesm.errors import InputError
from eqxesm.forms import Limits


def test_keys_come_in_any_order(copy):
    folder = copy("model")

    def backwards(value):
        if not isinstance(value, dict):
            return value
        return {key: backwards(each) for key, each in reversed(value.items())}

    (folder / CONFIG).write_text(json.dumps(backwards(json.loads((folder / CONFIG).read_text()))))
    assert bits(SolubilityModel.from_pretrained(folder)) == bits(made("model"))


@pytest.mark.parametrize("place", ["", "encoder/", "head/", "cleaning/", "calibration/", "limits/"])
def test_refuses_unknown_keys(place, edit):
    message = refusal(SolubilityModel, edit("model", f"{place}surprise", 1))
    assert f"unknown key '{place.replace('/', '.')}surprise'" in message


@pytest.mark.parametrize(
    "path",
    ["encoder", "head", "cleaning", "calibration", "limits", "provenance", "encoder/layers",
     "encoder/heads", "head/d_model", "head/type", "provenance/source"],
)  # fmt: skip
def test_refuses_missing_keys(path, edit):
    message = refusal(SolubilityModel, edit("model", path, None))
    assert f"missing key {path.replace('/', '.')!r}" in message


def test_names_all_wrong_keys_at_once(copy):
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
        ("calibration/temperature", 1e300),
        ("calibration/threshold", 0),
        ("calibration/threshold", 1),
        ("calibration/threshold", float("nan")),
        ("limits/max_residues", 0),
        ("limits/max_residues", 700.0),
        ("limits/min_residues", 701),
        ("provenance", "someone"),
        ("provenance/source", 3),
        ("provenance/revision", 3),
        ("provenance/sha256", "ff"),
        ("provenance/sha256", ["ff", 3]),
        ("base", {"repository": "no name", "revision": "a" * 40}),
        ("base", {"repository": "me/x", "revision": "main"}),
        ("form", "half"),
    ],
)
def test_refuses_wrong_values(path, value, edit):
    message = refusal(SolubilityModel, edit("model", path, value))
    assert CONFIG in message
    assert path.split("/")[0] in message


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("calibration/temperature", 2, lambda model: model.calibration.temperature == 2.0),
        ("head/dropout", 0, lambda model: model.head.config.dropout == 0.0),
        ("provenance/license", None, lambda model: model.about.provenance.license is None),
        ("limits/max_residues", 1, lambda model: model.limits == Limits(1)),
        ("library_version", "9.9", lambda model: model.limits == Limits(700)),
    ],
)
def test_takes_other_values(path, value, read, edit):
    model = SolubilityModel.from_pretrained(edit("model", path, value))
    assert read(model)
    assert bits(model) == bits(made("model"))


def test_widths_that_differ_are_both_named(edit):
    message = refusal(SolubilityModel, edit("model", "head/d_model", 64))
    assert "features of width 64" in message
    assert "the encoder makes 128" in message


@pytest.mark.parametrize("form", ["head", "adapter"])
def test_a_form_that_refers_to_an_encoder_needs_its_fingerprint(form, edit):
    assert f"form {form} needs a base with its sha256" in refusal(SolubilityModel, edit("model", "form", form))


def refused_with(folder, text: str) -> str:
    (folder / CONFIG).write_text(text)
    result = load_or_refuse(folder)
    assert isinstance(result, InputError)
    return str(result)


def test_sizes_are_checked_before_anything_is_built(copy):
    folder = copy("model")
    config = json.loads((folder / CONFIG).read_text())
    head = {"type": "mean_pool_mlp", "d_model": 64, "hidden": [1] * 20_000, "dropout": 0.0}
    message = refused_with(folder, json.dumps({**config, "head": head}))
    assert "at most 64 items" in message
    assert "20000" in message
    message = refused_with(folder, json.dumps({**config, "form": "x" * 10**6}))
    assert len(message) < 3000
    assert "over the limit" in refused_with(folder, " " * 2**25)


def test_refuses_a_key_that_appears_twice(copy):
    folder = copy("model")
    text = (folder / CONFIG).read_text()
    assert "a key appears twice" in refused_with(folder, text.replace("{", '{"schema_version": 99, ', 1))


def test_refuses_text_that_could_not_be_written_again(copy):
    folder = copy("model")
    config = json.loads((folder / CONFIG).read_text())
    config["provenance"] = {"source": "\ud800"}
    assert "not readable as JSON" in refused_with(folder, json.dumps(config))


@fuzz
@given(data=st.data())
def test_any_value_in_the_configuration_loads_or_is_refused(data, saved, fuzzed):
    kind = data.draw(st.sampled_from(["model", "small"]))
    config = json.loads((saved / kind / CONFIG).read_text())
    *parents, key = data.draw(st.sampled_from(list(key_paths(config))))
    functools.reduce(dict.__getitem__, parents, config)[key] = data.draw(json_values)
    (fuzzed / kind / CONFIG).write_text(json.dumps(config))
    assert_loads_or_is_refused_in_one_line(fuzzed / kind)
