"""Recipes: one TOML file that says what is trained, on what, and how."""

import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import tomli_w

from eqxesm.checkpoint.schema import Provenance, complain, describe, parse, parse_type
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene import Policy
from eqxesm.data.sources import Source
from eqxesm.declarations import Limits
from eqxesm.encoders import ENCODERS, ESMC, AbstractEncoder
from eqxesm.errors import InputError
from eqxesm.solubility import SolubilityModel
from eqxesm.training.config import TrainConfig
from eqxesm.training.partition import prepare
from heads import HEADS


@dataclass(frozen=True)
class Pretrained:
    """An encoder that is loaded rather than drawn at random.

    Attributes:
        pretrained: folder or Hub repository of a checkpoint of `ESMC`.
        revision: commit, tag or branch of the repository.
    """

    pretrained: str
    revision: str | None = None


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, and how.

    Attributes:
        name: of the recipe; the card's too.
        summary: what it is, in a sentence.
        license: the terms that the trained weights shall stand under, where they are known.
        root: folder that relative paths of data start from.
        training: sources of proteins to learn from, merged.
        validation: sources of proteins to stop by and to calibrate on; none in a
            cross-validation.
        tests: sources to measure with, each a set of its own.
        cross_validation: train once for each fold of the training sources and measure out of fold.
        policy: what training proteins must fulfil.
        cleaning: how sequences are cleaned.
        encoder: where the encoder comes from: `Pretrained`, or a configuration that is drawn at
            random.
        head: the rest of the head's configuration, and its `type`.
        config: how it is trained.
    """

    name: str
    summary: str
    license: str | None
    root: Path
    training: tuple[Source, ...]
    validation: tuple[Source, ...]
    tests: tuple[Source, ...]
    cross_validation: bool
    policy: Policy
    cleaning: Cleaning
    encoder: Any
    head: dict[str, Any]
    config: TrainConfig

    def to_plain(self) -> dict[str, Any]:
        """Write it as TOML holds it, everything spelled out.

        Returns:
            Tables by name; `read_recipe` reads the same recipe from them.
        """
        encoder = self.encoder
        return _without_none(
            {
                "name": self.name,
                "summary": self.summary,
                "license": self.license,
                "data": {
                    "root": str(self.root),
                    "cross_validation": self.cross_validation,
                    **dataclasses.asdict(self.policy),
                    "training": [dataclasses.asdict(source) for source in self.training],
                    "validation": [dataclasses.asdict(source) for source in self.validation],
                    "test": [dataclasses.asdict(source) for source in self.tests],
                },
                "model": {
                    "cleaning": dataclasses.asdict(self.cleaning),
                    "encoder": dataclasses.asdict(encoder)
                    if isinstance(encoder, Pretrained)
                    else describe(ENCODERS, encoder),
                    "head": self.head,
                },
                "training": dataclasses.asdict(self.config),
            }
        )

    def to_toml(self) -> str:
        """Write it as a TOML file, everything spelled out."""
        return tomli_w.dumps(self.to_plain())


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
    root = tables.get("data", {}).get("root", ".") if isinstance(tables.get("data"), dict) else "."
    if isinstance(root, str):
        tables.setdefault("data", {})["root"] = os.path.abspath(Path(path).parent / root)
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
        raise InputError(f"--set {setting}: the recipe has no place {key.strip()!r}") from error


def _parse(tables: dict[str, Any], where: str) -> Recipe:
    _check_keys(tables, where, {"data", "model", "training"}, {"name", "summary", "license"})
    data, model = tables["data"], tables["model"]
    policy = [field.name for field in dataclasses.fields(Policy)]
    optional = {"root", "validation", "test", "cross_validation", *policy}
    _check_keys(data, f"{where}: data", {"training"}, optional)
    _check_keys(model, f"{where}: model", {"encoder", "head"}, {"cleaning"})
    rest = {name: data[name] for name in policy if name in data}
    recipe = Recipe(
        name=_text(tables, "name", where, Path(where).stem) or "",
        summary=_text(tables, "summary", where, "") or "",
        license=_text(tables, "license", where, None),
        root=Path(os.path.abspath(_text(data, "root", where, ".") or ".")),
        training=_sources(data, "training", where),
        validation=_sources(data, "validation", where),
        tests=_sources(data, "test", where),
        cross_validation=data.get("cross_validation", False) is True,
        policy=parse(Policy, rest, f"{where}: data"),
        cleaning=parse(Cleaning, model.get("cleaning", {}), f"{where}: model: cleaning"),
        encoder=_encoder(model["encoder"], f"{where}: model: encoder"),
        head=model["head"],
        config=parse(TrainConfig, tables["training"], f"{where}: training"),
    )
    if recipe.cross_validation == bool(recipe.validation):
        raise InputError(
            f"{where}: data: give validation sources, or set cross_validation = true and no "
            "validation sources"
        )
    _check(recipe, where)
    return recipe


def _check(recipe: Recipe, where: str) -> None:
    """Refuse what does not go together, before any data is read."""
    titles = [source.title for source in recipe.tests]
    reserved = {"training", "validation"}
    repeated = [title for title in titles if titles.count(title) > 1 or title in reserved]
    if repeated:
        raise InputError(f"{where}: data: two sets are called {repeated[0]!r}: give each a name")
    if isinstance(recipe.encoder, Pretrained):
        return
    # The configuration is tried on shapes alone; a pretrained encoder is tried when it is there.
    try:
        eqx.filter_eval_shape(lambda: prepare(build_model(recipe, Limits()), recipe.config))
    except ValueError as error:
        raise InputError(f"{where}: model: {error}") from error


def _check_keys(values: Any, where: str, required: set[str], optional: set[str]) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{where}: {values!r} is no table")
    complain(where, set(values) - required - optional, required - set(values))


def _text(values: Mapping[str, Any], key: str, where: str, default: str | None) -> str | None:
    value = values.get(key, default)
    if not (value is None or isinstance(value, str)):
        raise InputError(f"{where}: {key} is {value!r}: write text")
    return value


def _sources(data: Mapping[str, Any], key: str, where: str) -> tuple[Source, ...]:
    values = data.get(key, [])
    if not isinstance(values, list) or (key == "training" and not values):
        raise InputError(f"{where}: data: {key}: write a [[data.{key}]] table for each source")
    return tuple(
        parse(Source, value, f"{where}: data: {key} {number}")
        for number, value in enumerate(values, 1)
    )


def _encoder(values: Any, where: str) -> Any:
    if isinstance(values, dict) and "pretrained" in values:
        return parse(Pretrained, values, where)
    return parse_type(ENCODERS, values, where)[0]


def build_model(recipe: Recipe, limits: Limits) -> SolubilityModel:
    """Make the model that a recipe starts from.

    Args:
        recipe: the recipe.
        limits: what proteins it is trained on.

    Returns:
        The encoder, loaded or drawn at random, and a head drawn at random.

    Raises:
        InputError: there is no such encoder, or the head's configuration will not do.
    """
    encoder_key, head_key = jax.random.split(jax.random.key(recipe.config.seed))
    encoder: AbstractEncoder
    if isinstance(recipe.encoder, Pretrained):
        encoder = ESMC.from_pretrained(recipe.encoder.pretrained, revision=recipe.encoder.revision)
    else:
        make = ENCODERS[describe(ENCODERS, recipe.encoder)["type"]][1]
        encoder = make(recipe.encoder, key=encoder_key)
    head, make_head = parse_type(
        HEADS, {"d_model": encoder.d_model, **recipe.head}, f"recipe {recipe.name}: model: head"
    )
    license_ = recipe.license
    provenance = (
        Provenance(f"eqxesm train, recipe {recipe.name}", license=license_)
        if not isinstance(recipe.encoder, Pretrained)
        else None
    )
    return SolubilityModel(
        encoder,
        make_head(head, key=head_key),
        recipe.cleaning,
        limits=limits,
        provenance=provenance,
    )


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name what two recipes say differently.

    Args:
        one: tables of the recipe of an earlier run.
        other: tables of the one at hand.

    Returns:
        For each key that differs, its two values; `data.root` may differ, as data are compared
        by their content.
    """
    first, second = flatten(one), flatten(other)
    return [
        f"{key} was {first.get(key, 'not set')!r} and is {second.get(key, 'not set')!r}"
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key) and key != "data.root"
    ]


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Spell nested tables as dotted keys.

    Args:
        value: tables, and lists of tables.
        prefix: of every key.

    Returns:
        Values by dotted key.
    """
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
        pairs = ((str(number), each) for number, each in enumerate(value))
    else:
        return {prefix: list(value) if isinstance(value, tuple) else value}
    flat = {}
    for key, each in pairs:
        flat |= flatten(each, f"{prefix}.{key}" if prefix else key)
    return flat


def _without_none(value: Any) -> Any:
    """Leave out what TOML cannot say."""
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_without_none(each) for each in value]
    return value
