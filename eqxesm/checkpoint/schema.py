"""`config.json`: what it may say, and how it is read strictly."""

import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from eqxesm.checkpoint.reading import place, read_json
from eqxesm.errors import InputError

CONFIG = "config.json"
METRICS = "metrics.json"
CARD = "README.md"
PICTURES = ("calibration.png", "parity.png")
"""What a card may show."""

SCHEMA_VERSION = 1
TRAINED_ON = "trained on top of "
"""How the source of a model's provenance begins when it is that of the encoder it started from."""

INT32_MAX = 2**31 - 1

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
HASH = re.compile(r"[0-9a-f]{64}")

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a model comes from.

    Args:
        source: repository, file or command that the weights were made from.
        revision: commit of the repository, where there is one.
        sha256: a line per source file, hash and name, as `sha256sum` writes them.
        license: the terms that the weights stand under, where they are known.
    """

    source: str
    revision: str | None = None
    sha256: tuple[str, ...] = ()
    license: str | None = None


@dataclasses.dataclass(frozen=True)
class Base:
    """The published encoder of ours that a model was started from.

    Args:
        repository: on the Hugging Face Hub.
        revision: its commit.
        sha256: the fingerprint of its parameters, where a model is of no use without exactly them.

    Raises:
        ValueError: one of them is not spelt as such a thing is.
    """

    repository: str
    revision: str
    sha256: str | None = None

    def __post_init__(self):
        for name, pattern in (("repository", REPOSITORY), ("revision", COMMIT), ("sha256", HASH)):
            value = getattr(self, name)
            if value is not None and not pattern.fullmatch(value):
                raise ValueError(f"{name} is {value!r}, which is no such thing on the Hub")


def read_sections(folder: Path, required: Iterable[str]) -> dict[str, Any]:
    """Read `config.json` and check that it has exactly the sections a model needs.

    Args:
        folder: a checkpoint.
        required: names of the sections.

    Returns:
        The sections by name.

    Raises:
        InputError: what `read_config` raises, or keys are missing or unknown, all of them named.
    """
    config = read_config(folder)
    check_sections(folder, config, required)
    return config


def check_sections(folder: Path, config: Mapping[str, Any], required: Iterable[str]) -> None:
    """Check that what `read_config` gave has exactly the sections a model needs.

    Args:
        folder: the checkpoint.
        config: its sections.
        required: names of the sections.

    Raises:
        InputError: keys are missing or unknown, all of them named.
    """
    required = set(required)
    complain(folder / CONFIG, set(config) - required, required - set(config))


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json`, whatever its sections are.

    Args:
        folder: a checkpoint.

    Returns:
        The sections by name, without the versions.

    Raises:
        InputError: the file is missing or no JSON object, or of a schema that this version does
            not know.
    """
    path = place(folder, CONFIG)
    try:
        config = read_json(path)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: holds no {CONFIG}, so it is no checkpoint of eqxesm"
        ) from error
    if not isinstance(config, dict) or "schema_version" not in config:
        raise InputError(f"{path}: has no schema_version, so it is no checkpoint of eqxesm")
    schema, written = config.pop("schema_version"), config.pop("library_version", "unknown")
    if type(schema) is not int or schema != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema_version {schema!r} is not {SCHEMA_VERSION}, the one that eqxesm "
            f"{version('eqxesm')} reads: it was written by eqxesm {written!r}, use that or a later "
            "one"
        )
    return config


def complain(where: object, unknown: Iterable[str], missing: Iterable[str]) -> None:
    """Refuse keys that are unknown or missing, all of them in one error.

    Args:
        where: what to name as the place.
        unknown: keys that nobody knows.
        missing: keys that should be there.

    Raises:
        InputError: there is at least one such key.
    """
    problems = [f"unknown key {key!r}" for key in sorted(unknown)]
    problems += [f"missing key {key!r}" for key in sorted(missing)]
    if problems:
        raise InputError(f"{where}: {', '.join(problems)}")


def parse(cls: type[Config], values: Any, where: str) -> Config:
    """Make a configuration from JSON, strictly.

    Args:
        cls: a dataclass whose `__post_init__` checks ranges.
        values: what stood in the file.
        where: what to name as the place in an error.

    Returns:
        The configuration.

    Raises:
        InputError: `values` is no object, has unknown or missing keys, or values of the wrong
            type or out of range.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: {values!r} is no JSON object")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # ty: ignore[invalid-argument-type]
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    complain(where, set(values) - set(fields), required - set(values))
    hints = typing.get_type_hints(cls)
    values = {name: _coerce(value, hints[name]) for name, value in values.items()}
    wrong = [
        f"{name} is {value!r}" for name, value in values.items() if not _fits(value, hints[name])
    ]
    if wrong:
        raise InputError(f"{where}: of the wrong type or size: {', '.join(wrong)}")
    try:
        return cls(**values)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _coerce(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if hint in (float, float | None) and type(value) is int and _fits(value, int):
        return float(value)
    return value


def _fits(value: Any, hint: Any) -> bool:
    """Check a value to its last item, True being no integer; beartype looks at one item only."""
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_fits(each, item) for each in value)
    if typing.get_origin(hint) in (typing.Union, UnionType):
        return any(_fits(value, each) for each in typing.get_args(hint))
    # No size of a model is anywhere near, and JAX fails in many ways on sizes beyond 64 bits.
    return type(value) is hint and not (hint is int and abs(value) > INT32_MAX)


def parse_optional(cls: type[Config], values: Any, where: str) -> Config | None:
    """Make a configuration that may be null; see `parse`.

    Args:
        cls: a dataclass whose `__post_init__` checks ranges.
        values: what stood in the file.
        where: what to name as the place in an error.

    Returns:
        The configuration, or None.

    Raises:
        InputError: `values` is neither null nor what `parse` takes.
    """
    return None if values is None else parse(cls, values, where)


def parse_type(types: Mapping[str, tuple[type, type]], values: Any, where: str) -> tuple[Any, type]:
    """Read the configuration of one of several types, told by its `type` key.

    Args:
        types: configuration class and class by the name of the type.
        values: what stood in the file.
        where: what to name as the place in an error.

    Returns:
        The configuration, and the class that it builds.

    Raises:
        InputError: the type is unknown, or the rest does not parse.
    """
    name = values.get("type") if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in types:
        raise InputError(f"{where}: type {name!r} is not one of {', '.join(sorted(types))}")
    config, cls = types[name]
    rest = {key: value for key, value in values.items() if key != "type"}
    return parse(config, rest, f"{where} ({name})"), cls


def class_of(types: Mapping[str, tuple[type, type]], config: Any) -> type:
    """Say what a configuration builds.

    Args:
        types: configuration class and class by the name of the type.
        config: the configuration.

    Returns:
        The class.
    """
    return next(made for kind, made in types.values() if kind is type(config))


def describe(types: Mapping[str, tuple[type, type]], config: Any) -> dict[str, Any]:
    """Write a configuration as JSON with its `type`; the inverse of `parse_type`.

    Args:
        types: configuration class and class by the name of the type.
        config: the configuration.

    Returns:
        An object for `config.json`.
    """
    name = next(name for name, (cls, _) in types.items() if cls is type(config))
    return {"type": name, **dataclasses.asdict(config)}
