"""Recipes: one TOML file that says what is trained, on what, and how."""

import dataclasses
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx

from eqxesm.checkpoint.schema import complain, parse, parse_type
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene import Policy
from eqxesm.data.sources import Source
from eqxesm.encoders import ENCODERS
from eqxesm.errors import InputError
from eqxesm.training.config import TrainConfig
from eqxesm.training.partition import prepare
from eqxesm.training.plan import ENCODER, HEAD, Pretrained, Recipe, build_model, file_name
from heads import HEADS

LISTS = ("training", "validation", "test")
"""Keys of a recipe's lists of sources."""


def read_recipe(path: str | os.PathLike, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file. Its `data.root` is looked up from the folder that the file is in.
        settings: `key=value`, each in the place of what the file says, such as
            `training.epochs=10` or `data.training.0.path="proteins.csv"`. A `data.root` that is
            set so is looked up from the current folder.

    Returns:
        The recipe.

    Raises:
        InputError: the file cannot be read, or something in it or in the settings will not do.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): name a recipe") from error
    except ValueError as error:
        raise InputError(f"{path}: not TOML ({error}): mend it") from error
    data = tables.get("data")
    if isinstance(data, dict) and isinstance(root := data.get("root", "."), str):
        data["root"] = os.path.abspath(Path(path).parent / root)
    for setting in settings:
        _set(tables, setting)
    return _parse(tables, str(path))


def _set(tables: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    *parents, last = key.strip().split(".")
    if not equals or not last:
        raise InputError(f"--set {setting}: write key=value, such as training.epochs=10")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    place: Any = tables
    try:
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"--set {setting}: the recipe has no place {key.strip()!r}: name another"
        ) from error


def _parse(tables: dict[str, Any], where: str) -> Recipe:
    problems: list[str] = []

    def attempt(read: Callable[..., Any], *arguments: Any) -> Any:
        """Go on after what is wrong, so that all of it is told at once."""
        try:
            return read(*arguments)
        except InputError as error:
            problems.append(str(error))
            return None

    def section(name: str, required: set[str], optional: set[str]) -> dict[str, Any]:
        values = tables.get(name, {})
        attempt(_check_keys, values, name, required, optional)
        return values if isinstance(values, dict) else {}

    policy = [field.name for field in dataclasses.fields(Policy)]
    attempt(_check_keys, tables, "", {"data", "model", "training"}, {"name", "summary", "license"})
    data = section("data", set(), {"root", "cross_validation", *LISTS, *policy})
    model = section("model", {"encoder", "head"}, {"cleaning"})
    values: dict[str, Any] = {
        "name": attempt(_text, tables.get("name"), "name") or Path(where).stem,
        "summary": attempt(_text, tables.get("summary"), "summary") or "",
        "license": attempt(_text, tables.get("license"), "license") or None,
        "root": Path(os.path.abspath(attempt(_text, data.get("root"), "data: root") or ".")),
        "training": attempt(_sources, data, "training"),
        "validation": attempt(_sources, data, "validation"),
        "tests": attempt(_sources, data, "test"),
        "cross_validation": attempt(
            _switch, data.get("cross_validation", False), "data: cross_validation"
        ),
        "policy": attempt(
            parse, Policy, {name: data[name] for name in policy if name in data}, "data"
        ),
        "cleaning": attempt(_table, Cleaning, model.get("cleaning", {}), "model: cleaning"),
        "encoder": attempt(_encoder, model["encoder"]) if "encoder" in model else None,
        "head": attempt(_head, model["head"]) if "head" in model else None,
        "config": attempt(_table, TrainConfig, tables.get("training", {}), "training"),
    }
    if problems:
        raise InputError(f"{where}: {'; '.join(problems)}")
    recipe = Recipe(**values)
    attempt(_check, recipe)
    if problems:
        raise InputError(f"{where}: {problems[0]}")
    return recipe


def _check(recipe: Recipe) -> None:
    """Refuse what does not go together, before any data is read."""
    if recipe.cross_validation == bool(recipe.validation):
        raise InputError(
            "data: give validation sources, or set cross_validation = true and no validation "
            "sources"
        )
    if recipe.cross_validation and recipe.tests:
        raise InputError("data: a cross-validation measures out of fold: leave out the test sets")
    names = {"training": "training", "validation": "validation"}
    for source in recipe.tests:
        other = names.get(file_name(source.title))
        if other is not None:
            raise InputError(
                f"data: two sets are called {other!r} and {source.title!r}: give each a name of "
                "its own"
            )
        names[file_name(source.title)] = source.title
    if isinstance(recipe.encoder, Pretrained):
        # It is tried when it is there.
        return
    skeleton = eqx.filter_eval_shape(lambda: build_model(recipe))
    try:
        eqx.filter_eval_shape(prepare, skeleton, recipe.config)
    except ValueError as error:
        strategy = recipe.config.strategy
        raise InputError(f"training: strategy {strategy!r}: {error}: choose another") from error


def _check_keys(values: Any, where: str, required: set[str], optional: set[str]) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{where} is {values!r}: write a table")
    unknown, missing = set(values) - required - optional, required - set(values)
    if unknown or missing:
        complain(where or "the recipe", unknown, missing)


def _text(value: Any, where: str) -> str | None:
    if not (value is None or isinstance(value, str)):
        raise InputError(f"{where} is {value!r}: write text, in quotes")
    return value


def _switch(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{where} is {value!r}: write true or false")
    return value


def _table(cls: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{where} is {values!r}: write a table")
    return parse(cls, values, where)


def _sources(data: Mapping[str, Any], key: str) -> tuple[Source, ...]:
    values = data.get(key, [])
    if not isinstance(values, list) or (key == "training" and not values):
        raise InputError(f"data: {key}: write a [[data.{key}]] table for each source")
    return tuple(
        _table(Source, value, f"data: {key} {number}") for number, value in enumerate(values, 1)
    )


def _encoder(values: Any) -> Any:
    if isinstance(values, dict) and "pretrained" in values:
        return parse(Pretrained, values, ENCODER)
    return parse_type(ENCODERS, values, ENCODER)[0]


def _head(values: Any) -> dict[str, Any]:
    # How wide the features are is known when the encoder is there.
    parse_type(HEADS, {"d_model": 1, **values} if isinstance(values, dict) else values, HEAD)
    return values
