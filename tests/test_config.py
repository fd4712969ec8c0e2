"""Configurations: JSON and TOML to frozen dataclasses and back, every fault named in one line."""

import dataclasses
import datetime
import json
import math
import tomllib
from typing import Annotated, Any

import pytest
from head_kinds import head_config
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from eqxesm.checkpoint.record import Base, Provenance
from eqxesm.config import COMMIT, REPOSITORY, SHA256, configuration, describe, parse
from eqxesm.data.cleaning import Cleaning
from eqxesm.domain import DomainConfig
from eqxesm.encoders import PRESETS, EncoderConfig, ESMCConfig, OneHotConfig
from eqxesm.encoders.lora import LoRAConfig
from eqxesm.errors import InputError
from eqxesm.forms import Calibration, Limits, ModelSections
from heads import (
    HEADS,
    AttentionPoolMLPConfig,
    CommitteeConfig,
    CompositionMLPConfig,
    ConvolutionConfig,
    EnsembleConfig,
    HeadConfig,
    MeanPoolMLPConfig,
    WindowMLPConfig,
)
from heads.fields import Count, Fraction, NotNegative, OddWidth, Positive, Widths, without_none

CONFIGURATIONS = [
    ESMCConfig(2, 64, 2, 96, lm_head=False),
    OneHotConfig(),
    LoRAConfig(4, 8.0, ("query", "down")),
    Calibration(1.5, 0.25),
    Limits(700, 5),
    Cleaning(strip_tags=True),
    Provenance("me/x", "a" * 40, ("ff  model.safetensors", "00  b"), "mit"),
    Provenance("somewhere"),
    Base("me/x", "a" * 40, "b" * 64),
    MeanPoolMLPConfig(64, (16, 8), 0.1),
    AttentionPoolMLPConfig(64, 3),
    ConvolutionConfig(25, channels=8),
    CompositionMLPConfig(25, ()),
    WindowMLPConfig(25, (3, 5)),
    EnsembleConfig(25, CompositionMLPConfig(25), 7),
    DomainConfig(25, 0.9),
    *PRESETS.values(),
]
SECTIONS = ModelSections(
    form="adapter",
    base=Base("me/x", "a" * 40, "b" * 64),
    encoder=ESMCConfig(2, 64, 2, 96),
    adapter=LoRAConfig(),
    head=MeanPoolMLPConfig(64),
    cleaning=Cleaning(),
    limits=Limits(),
    provenance=None,
    calibration=Calibration(),
)


def fault(kind: Any, values: Any) -> str:
    """What is wrong with values, without the place."""
    with pytest.raises(InputError) as caught:
        parse(kind, values, "here")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("here: ")
    return message.removeprefix("here: ")


# There and back


@pytest.mark.parametrize("config", [*CONFIGURATIONS, SECTIONS], ids=lambda config: type(config).__name__)
def test_a_configuration_is_written_and_read_as_it_was(config):
    values = describe(config)
    assert json.loads(json.dumps(values)) == values
    assert parse(type(config), values, "here") == config


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda config: type(config).__name__)
def test_keys_are_the_fields_in_order(config):
    # Left out while not set, so that earlier versions read the file.
    unset = {"truncate", "trained_residues", "margin", "outputs"}
    expected = [field.name for field in dataclasses.fields(config) if field.name not in unset]
    assert list(describe(config)) == expected


def test_a_later_setting_is_written_where_it_is_set():
    assert describe(Cleaning(truncate=9))["truncate"] == 9
    assert describe(Calibration(margin=0.5))["margin"] == 0.5
    assert "domain" not in describe(SECTIONS)
    assert describe(dataclasses.replace(SECTIONS, domain=DomainConfig(64)))["domain"] == {"d_model": 64, "share": 0.99}
    assert describe(Limits(9, 1, 5)) == {"max_residues": 9, "min_residues": 1, "trained_residues": 5}


def test_what_is_left_out_has_its_default():
    assert parse(Calibration, {}, "here") == Calibration() == Calibration(1.0, 0.5)
    assert parse(Provenance, {"source": "x"}, "here") == Provenance("x", None, (), None)
    assert parse(MeanPoolMLPConfig, {"d_model": 3}, "here") == MeanPoolMLPConfig(3)


def test_toml_holds_everything_but_null():
    values = without_none(describe(SECTIONS))
    assert "provenance" not in values
    assert values["encoder"] == describe(SECTIONS.encoder)
    assert without_none({"a": [{"b": None, "c": 0}, False, ""], "d": {}}) == {"a": [{"c": 0}, False, ""], "d": {}}
    text = 'd_model = 64\nhidden = [16, 8]\ndropout = 0\ntype = "mean_pool_mlp"'
    assert parse(HeadConfig, tomllib.loads(text), "here") == MeanPoolMLPConfig(64, (16, 8), 0.0)


def test_configurations_are_frozen_and_equal_by_value():
    config = MeanPoolMLPConfig(64, (16, 8))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.d_model = 3
    assert hash(config) == hash(MeanPoolMLPConfig(64, (16, 8)))
    assert dataclasses.replace(config, d_model=3) == MeanPoolMLPConfig(3, (16, 8))
    with pytest.raises(ValueError, match="d_model is 0"):
        dataclasses.replace(config, d_model=0)


# Faults


@pytest.mark.parametrize("values", [3, "x", None, [], [1], True, 0.5])
@pytest.mark.parametrize("kind", [Calibration, MeanPoolMLPConfig, HeadConfig, EncoderConfig])
def test_refuses_what_is_not_a_table(kind, values):
    assert fault(kind, values) == f"got {values!r}: expected a table of keys and values"


def test_names_every_fault_in_one_line():
    values = {"d_model": 0, "hidden": [4, "8", 0, 2.0], "drop\nout": 1, "dropout": "0.1"}
    assert fault(MeanPoolMLPConfig, values).split("; ") == [
        "d_model is 0: expected at least 1",
        "hidden.1 is '8': expected an integer",
        "hidden.2 is 0: expected at least 1",
        "hidden.3 is 2.0: expected an integer",
        "dropout is '0.1': expected a number",
        r"unknown key 'drop\nout'",
    ]


def test_names_faults_of_nested_tables_by_their_path():
    values = describe(SECTIONS)
    values["encoder"] |= {"layers": "2", "surprise": 1}
    values["head"] |= {"hidden": [1, True]}
    del values["cleaning"], values["base"]["repository"]
    assert fault(ModelSections, values).split("; ") == [
        "missing key 'base.repository'",
        "encoder.layers is '2': expected an integer",
        "unknown key 'encoder.surprise'",
        "head.hidden.1 is True: expected an integer",
        "missing key 'cleaning'",
    ]


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Calibration, {"temperatur": 1}, "unknown key 'temperatur'"),
        (ESMCConfig, {"layers": 1, "d_model": 64}, "missing key 'heads'; missing key 'd_ffn'"),
        (Calibration, {"temperature": 0}, "temperature is 0: expected more than 0"),
        (Calibration, {"threshold": 1}, "threshold is 1: expected less than 1"),
        (Calibration, {"temperature": math.nan}, "temperature is nan: expected a finite number"),
        (
            MeanPoolMLPConfig,
            {"d_model": 1, "hidden": [2**31 - 1]},
            "hidden.0 is 2147483647: expected less than 1048576",
        ),
        (Calibration, {"temperature": 1e300}, "temperature is 1e+300: expected less than 1000000000"),
        (Calibration, {"temperature": math.inf}, "temperature is inf: expected a finite number"),
        (Calibration, {"temperature": None}, "temperature is None: expected a number"),
        (Calibration, {"temperature": True}, "temperature is True: expected a number"),
        (Limits, {"max_residues": 2**31}, "max_residues is 2147483648: expected less than 2147483648"),
        (Limits, {"max_residues": 5.0}, "max_residues is 5.0: expected an integer"),
        (Limits, {"max_residues": 3, "min_residues": 4}, "min_residues 4 is above max_residues 3"),
        (Cleaning, {"strip_tags": 1}, "strip_tags is 1: expected true or false"),
        (Cleaning, {"strip_tags": "yes"}, "strip_tags is 'yes': expected true or false"),
        (Provenance, {"source": 3}, "source is 3: expected text in quotes"),
        (Provenance, {"source": "x", "sha256": "ff"}, "sha256 is 'ff': expected a list"),
        (Provenance, {"source": "x", "sha256": {"a": "ff"}}, "sha256 is {'a': 'ff'}: expected a list"),
        (MeanPoolMLPConfig, {"d_model": 3, "hidden": 4}, "hidden is 4: expected a list"),
        (ConvolutionConfig, {"d_model": 3, "kernel": 4}, "kernel is 4: expected an odd number"),
        (LoRAConfig, {"targets": []}, "targets is []: expected at least 1 item"),
        (LoRAConfig, {"targets": ["key", "key"]}, "targets is ['key', 'key']: expected each layer once"),
        (LoRAConfig, {"targets": ["keys"]}, "targets.0 is 'keys': expected 'query', 'key'"),
        (ESMCConfig, {"layers": 1, "d_model": 66, "heads": 2, "d_ffn": 1}, "d_model 66 must be an even multiple"),
        (Base, {"repository": "x", "revision": "a" * 40}, "repository is 'x': expected the name of a Hub repository"),
        (Base, {"repository": "me/x", "revision": "main"}, "revision is 'main': expected a commit, 40"),
        (Provenance, {"source": datetime.date(2026, 1, 1)}, "dates are not used here. Write text in quotes."),
    ],
)
def test_faults_are_in_plain_words(kind, values, message):
    assert fault(kind, values).startswith(message)


def test_a_long_value_is_shown_in_part():
    message = fault(Calibration, {"temperature": "x" * 10**6})
    assert len(message) < 120
    assert message.endswith("...: expected a number")
    many = fault(MeanPoolMLPConfig, {"d_model": 1, "hidden": ["x"] * 64})
    assert len(many) < 2100


# Unions


@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.__name__)
def test_a_head_is_told_by_its_type(kind):
    config = head_config(kind.type, 12)
    values = {"d_model": 12, "type": config.type}
    if kind is EnsembleConfig:
        values |= {"members": 3, "member": {"type": "window_mlp"}}
    if kind is CommitteeConfig:
        values["parts"] = describe(config)["parts"]
    assert parse(HeadConfig, values, "here") == config
    assert type(parse(HeadConfig, values, "here")) is kind
    assert "unknown key 'surprise'" in fault(HeadConfig, {**values, "surprise": 1})


def test_an_encoder_is_told_by_its_type():
    assert parse(EncoderConfig, {"type": "one_hot"}, "here") == OneHotConfig()
    values = {"type": "esmc", "layers": 2, "d_model": 64, "heads": 2, "d_ffn": 96}
    assert parse(EncoderConfig, values, "here") == ESMCConfig(2, 64, 2, 96)
    # What a part does not have is a fault, even where another type has it.
    assert fault(EncoderConfig, {"type": "one_hot", "layers": 2}) == "unknown key 'layers'"


@pytest.mark.parametrize("kind", ["transformer", 3, None, ["esmc"], {}])
def test_refuses_an_unknown_type(kind):
    expected = "type is {!r}, expected one of 'esmc', 'ssm', 'one_hot', 'with_properties'"
    assert fault(EncoderConfig, {"type": kind}) == expected.format(kind)
    values = describe(SECTIONS) | {"encoder": {"type": kind}}
    assert fault(ModelSections, values) == "encoder." + expected.format(kind)


def test_refuses_a_missing_type():
    assert fault(HeadConfig, {"d_model": 3}) == "missing key 'type'"
    assert fault(ModelSections, describe(SECTIONS) | {"head": {"d_model": 3}}) == "missing key 'head.type'"


def test_the_type_is_fixed_by_the_class():
    with pytest.raises(InputError, match="type is 'one_hot': expected 'esmc'"):
        ESMCConfig(1, 64, 1, 2, type="one_hot")


# In Python


def test_constructors_take_lists_for_tuples():
    assert MeanPoolMLPConfig(12, [3, 4]).hidden == (3, 4)
    assert Provenance("x", sha256=["a"]).sha256 == ("a",)
    assert LoRAConfig(targets=["key"]).targets == ("key",)
    assert hash(MeanPoolMLPConfig(12, [3, 4])) == hash(MeanPoolMLPConfig(12, (3, 4)))
    assert Calibration(2) == Calibration(2.0)
    assert type(Calibration(2).temperature) is float


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Calibration(-1, threshold=3),
            InputError,
            "Calibration: temperature is -1: expected more than 0; threshold is 3: expected less than 1",
        ),
        (
            lambda: MeanPoolMLPConfig(0, [4, "8"]),
            ValueError,
            "MeanPoolMLPConfig: d_model is 0: expected at least 1; hidden.1 is '8': expected an integer",
        ),
        (lambda: Calibration(temperatur=1), InputError, "Calibration: unknown key 'temperatur'"),
        (lambda: MeanPoolMLPConfig(), ValueError, "MeanPoolMLPConfig: missing key 'd_model'"),
        (lambda: MeanPoolMLPConfig(12, "34"), ValueError, "MeanPoolMLPConfig: hidden is '34': expected a list"),
        (lambda: AttentionPoolMLPConfig(12, 4), ValueError, "AttentionPoolMLPConfig: kernel is 4: expected an odd"),
        (lambda: Limits(3, 4), InputError, "Limits: min_residues 4 is above max_residues 3"),
        (lambda: Calibration(1, 0.5, 3, 4), TypeError, "Calibration has 3 fields, got 4 values"),
        (lambda: Calibration(1, temperature=1), TypeError, "multiple values for keyword argument 'temperature'"),
    ],
)
def test_constructors_raise_one_line(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not isinstance(caught.value, ValidationError)
    assert caught.value.__cause__ is None


def test_a_new_configuration_gets_all_of_this():
    @configuration
    class Inner:
        """Of another configuration."""

        size: Count = 3

    @configuration
    class Outer:
        """With a default that is a configuration, and one of several types of values."""

        inner: Inner = Inner()
        names: tuple[str, ...] = ()
        share: Fraction | None = None

    outer = Outer(Inner(4), ("a",), 0.5)
    assert parse(Outer, describe(outer), "here") == outer
    assert parse(Outer, {}, "here") == Outer(Inner(3))
    assert fault(Outer, {"inner": {"size": 0}, "share": 1}).split("; ") == [
        "inner.size is 0: expected at least 1",
        "share is 1: expected less than 1",
    ]


# Numbers, against what pydantic accepts by itself

STRICT = ConfigDict(strict=True, allow_inf_nan=False)

NUMBERS = {
    "count": (Count, Annotated[int, Field(ge=1, lt=2**31)], lambda x: 1 <= x < 2**31),
    "positive": (Positive, Annotated[float, Field(gt=0)], lambda x: x > 0),
    "not negative": (NotNegative, Annotated[float, Field(ge=0)], lambda x: x >= 0),
    "fraction": (Fraction, Annotated[float, Field(ge=0, lt=1)], lambda x: 0 <= x < 1),
}
"""Our type, the one of pydantic, and the range in Python."""

any_number = (
    st.integers()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from([0, 0.0, -0.0, 1, 1.0, 2**31 - 1, 2**31, 2.0**31, 2**64, 10**30, 10**400, -(10**400), 5e-324])
    | st.booleans()
)


def is_number(value: Any, kind: type) -> bool:
    """Whether a value is an integer, or a finite number as a float holds it. True is neither."""
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        return False
    try:
        return kind is int or math.isfinite(float(value))
    except OverflowError:
        return False


@pytest.mark.parametrize("name", NUMBERS)
@given(number=any_number)
def test_numbers_are_accepted_as_pydantic_does(name, number):
    ours, theirs, is_in_range = NUMBERS[name]
    kind = int if name == "count" else float

    @configuration
    class Holder:
        value: ours

    adapter = TypeAdapter(theirs, config=STRICT)
    good = is_number(number, kind) and is_in_range(number)
    for read, check in (
        (lambda: parse(Holder, {"value": number}, "here"), lambda: adapter.validate_json(json.dumps(number))),
        (lambda: Holder(number), lambda: adapter.validate_python(number)),
    ):
        if good:
            assert read().value == check() == kind(number)
            assert type(read().value) is kind
        else:
            with pytest.raises(ValidationError):
                check()
            with pytest.raises(InputError, match="value is"):
                read()


@given(widths=st.lists(st.integers(-1, 4) | st.floats(0, 3) | st.booleans(), max_size=5))
def test_widths_are_counts(widths):
    @configuration
    class Holder:
        value: Widths

    good = all(type(width) is int and width >= 1 for width in widths)
    for read in (
        lambda: parse(Holder, {"value": widths}, "here"),
        lambda: Holder(widths),
        lambda: Holder(tuple(widths)),
    ):
        if good:
            assert read().value == tuple(widths)
        else:
            with pytest.raises(InputError, match="value"):
                read()


def test_widths_are_at_most_64():
    assert len(MeanPoolMLPConfig(3, [2] * 64).hidden) == 64
    with pytest.raises(ValueError, match=r"hidden is .*: expected at most 64 items, got 65"):
        MeanPoolMLPConfig(3, [2] * 65)


@pytest.mark.parametrize(("size", "good"), [(1, True), (2, False), (9, True), (-1, False), (2**31, False)])
def test_kernels_are_odd_counts(size, good):
    adapter = TypeAdapter(OddWidth, config=STRICT)
    if good:
        assert adapter.validate_json(json.dumps(size)) == ConvolutionConfig(3, kernel=size).kernel == size
    else:
        with pytest.raises(ValueError, match=f"kernel is {size}"):
            ConvolutionConfig(3, kernel=size)


# Names on the Hub


@pytest.mark.parametrize("name", ["me/x", "biohub/ESMC-300M", "A1/b.c_d-e"])
def test_names_of_repositories(name):
    assert REPOSITORY.fullmatch(name)


@pytest.mark.parametrize("name", ["x", "me/x/y", "../x", "me/", "/x", "me/.x", "mé/x", "me/x\n", "me x/y"])
def test_refuses_other_names(name):
    assert not REPOSITORY.fullmatch(name)


def test_hashes_are_lowercase_and_of_their_length():
    assert COMMIT.fullmatch("0123456789" * 4)
    assert SHA256.fullmatch("f" * 64)
    for text in ("A" * 40, "a" * 39, "a" * 40 + "\n", "g" * 40):
        assert not COMMIT.fullmatch(text)
    for text in ("F" * 64, "f" * 63, "f" * 64 + "\n"):
        assert not SHA256.fullmatch(text)
