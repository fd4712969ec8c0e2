"""Recipes: one TOML file that says what is trained, on what, and how."""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import equinox as eqx
import jax
import tomli_w
from jaxtyping import PRNGKeyArray
from pydantic import AfterValidator, BeforeValidator, Field, Strict, TypeAdapter, ValidationError

from eqxesm.checkpoint.record import About, Provenance, with_about
from eqxesm.config import REPOSITORY, configuration, describe, parse
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene import Policy
from eqxesm.data.sources import Source
from eqxesm.encoders import ENCODERS, AbstractEncoder, ESMCConfig, OneHotConfig, SSMConfig, WithProperties
from eqxesm.errors import InputError, at, one_line
from eqxesm.files import expand_user, file_name, read_text
from eqxesm.hub.releases import RELEASES, find_release
from eqxesm.loading import load_any
from eqxesm.model import SolubilityModel
from eqxesm.packaged import PREFIX, find_recipe
from eqxesm.protein_model import DEFAULT, ProteinModel
from eqxesm.training.config import TrainConfig
from eqxesm.training.filters import prepare
from heads import HEADS, AbstractHead, HeadConfig, with_outputs
from heads.fields import describe_faults, without_none

Sources = Annotated[tuple[Source, ...], Strict(False)]


@configuration
class DataConfig(Policy):
    """Where the proteins come from, and what is left out of them.

    Paths are relative to `root`, and `root` to the recipe's folder. In a cross-validation every fold
    of the training sources is held out once, and the next fold is the validation set.
    """

    root: str = "."
    cross_validation: bool = False
    training: Sources = ()
    validation: Sources = ()
    test: Sources = ()

    def __post_init__(self):
        super().__post_init__()
        if not self.training:
            raise ValueError("no training sources. Write a [[data.training]] table for each.")
        if self.cross_validation == bool(self.validation):
            raise ValueError("give validation sources, or set cross_validation = true, not both")
        if self.cross_validation and self.test:
            raise ValueError("a cross-validation tests out of fold. Leave out the test sets.")
        names = {"training": "training", "validation": "validation"}
        for source in self.test:
            key = file_name(source.title)
            if key in names:
                raise ValueError(f"two sets have the names {names[key]!r} and {source.title!r}. Rename one.")
            names[key] = source.title


@configuration
class Pretrained:
    """An encoder that is loaded: a folder, a Hub repository, or that of a model, such as `default`."""

    pretrained: str
    revision: str | None = None
    type: Literal["from_pretrained"] = "from_pretrained"


def _name_type(values: Any) -> Any:
    is_pretrained = isinstance(values, dict) and "pretrained" in values
    return {"type": "from_pretrained", **values} if is_pretrained else values


Encoder = Annotated[
    ESMCConfig | SSMConfig | OneHotConfig | Pretrained, Field(discriminator="type"), BeforeValidator(_name_type)
]
LanguageModel = Annotated[ESMCConfig | SSMConfig | Pretrained, Field(discriminator="type"), BeforeValidator(_name_type)]


WIDEST = 2**20 - 1


def check_head(values: dict[str, Any]) -> dict[str, Any]:
    # The width of the features is known when the encoder is: any that a part could ask for will do.
    try:
        TypeAdapter(HeadConfig).validate_json(json.dumps({"d_model": WIDEST, **values}))
    except ValidationError as error:
        raise ValueError(describe_faults(error, {"d_model": WIDEST, **values})) from None
    return values


@configuration
class ModelConfig:
    """The model that training starts from. The head's `d_model` may be left out."""

    encoder: Encoder
    head: Annotated[dict[str, Any], AfterValidator(check_head)]
    cleaning: Cleaning = Cleaning()


class BaseRecipe:
    """What every kind of recipe has."""

    def check(self) -> None:
        """Refuse parts that do not fit each other, before any data are read."""

    def to_toml(self) -> str:
        """The recipe as TOML, with every default written out."""
        return tomli_w.dumps(without_none(describe(self)))


@configuration
class Recipe(BaseRecipe):
    """What is trained, on what, and how.

    `license` is that of the trained model; a pretrained encoder brings its own terms.
    """

    data: DataConfig
    model: ModelConfig
    training: TrainConfig
    name: str = ""
    summary: str = ""
    license: str | None = None

    @property
    def root(self) -> Path:
        return Path(self.data.root)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every source, of whatever split."""
        return (*self.data.training, *self.data.validation, *self.data.test)

    def check(self) -> None:
        if isinstance(self.model.encoder, Pretrained):
            # It is checked when it is loaded.
            return
        skeleton = eqx.filter_eval_shape(lambda: build_model(self))
        try:
            eqx.filter_eval_shape(prepare, skeleton, self.training)
        except InputError as error:
            raise InputError(f"training.strategy is {self.training.strategy!r}: {error}") from error


def read_recipe(path: str | os.PathLike, settings: Sequence[str] = (), kind: Any = Recipe) -> Any:
    """Read a recipe of a kind, with `key=value` settings in the place of what it says.

    `recipe:NAME` is a recipe inside the package.
    """
    return make_recipe(*read_values(path), settings, kind)


def read_values(path: str | os.PathLike) -> tuple[dict[str, Any], Path]:
    """The values of a recipe, and the file that has them."""
    is_packaged = isinstance(path, str) and path.startswith(PREFIX)
    path = find_recipe(path.removeprefix(PREFIX)) if is_packaged else Path(expand_user(path))
    try:
        return tomllib.loads(read_text(path)), path
    except FileNotFoundError:
        raise InputError(f"{path}: file not found") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not TOML ({one_line(error)})") from error


def make_recipe(values: dict[str, Any], path: Path, settings: Sequence[str], kind: Any) -> Any:
    """A recipe of the values of a file, or what could be one, with settings in the place of what it says."""
    _make_root_absolute(values, path.parent)
    for setting in settings:
        _override(values, setting)
    # One that was set is relative to the current folder.
    _make_root_absolute(values, Path())
    if not values.get("name"):
        values["name"] = path.stem
    if values.get("license") == "":
        # So `license=` as a setting leaves out that of the file.
        values["license"] = None
    recipe = parse(kind, values, path)
    with at(path):
        recipe.check()
    return recipe


def _make_root_absolute(values: dict[str, Any], start: Path) -> None:
    data = values.get("data")
    if isinstance(data, dict) and isinstance(root := data.get("root", "."), str):
        data["root"] = os.path.abspath(start / expand_user(root))


def _override(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    *parents, last = key.strip().split(".")
    if not equals or not last:
        raise InputError(f"--set {setting}: expected key=value, such as training.epochs=10")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table: Any = values
    try:
        for name in parents:
            table = table[_index(name)] if isinstance(table, list) else table.setdefault(name, {})
        table[_index(last) if isinstance(table, list) else last] = value
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"--set {setting}: the recipe has no key {key.strip()!r}") from error


def _index(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def check_pretrained(encoder: Any, key: str) -> None:
    """Refuse an encoder that is not there, before any data are read. `key` is its place in the recipe."""
    if isinstance(encoder, Pretrained):
        name = encoder.pretrained
        if not (
            name == DEFAULT or find_release(name) or REPOSITORY.fullmatch(name) or Path(expand_user(name)).is_dir()
        ):
            sizes = ", ".join(RELEASES)
            raise InputError(f"{key}.pretrained is {name!r}: folder not found. ESM-C as published is {sizes}.")


def build_encoder(wanted: Any, key: PRNGKeyArray) -> Any:
    """Make an encoder with random weights, or load one."""
    if not isinstance(wanted, Pretrained):
        return ENCODERS[type(wanted)](wanted, key=key)
    found = load_any(wanted.pretrained, wanted.revision)
    if not isinstance(found, ProteinModel):
        return found
    # Where it came from, as far as that is known; it may have been trained since it was published.
    about = replace(found.about, base=None)
    if isinstance(found.encoder, WithProperties):
        return WithProperties(with_about(found.encoder.encoder, about))
    return with_about(found.encoder, about)


def build_model(recipe: Recipe) -> SolubilityModel:
    """Make the model that a recipe starts from."""
    encoder = build_encoder(recipe.model.encoder, start_keys(recipe)[0])
    head, about = build_head(recipe, encoder)
    try:
        return SolubilityModel(encoder, head, recipe.model.cleaning, about=about)
    except InputError as error:
        raise InputError(f"model.head: {error}. Leave out d_model.") from error


def start_keys(recipe: Any) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """Keys of the random weights of the encoder and of the head."""
    encoder, head = jax.random.split(jax.random.key(recipe.training.seed))
    return encoder, head


def build_head(recipe: Any, encoder: AbstractEncoder, outputs: int | None = None) -> tuple[AbstractHead, About | None]:
    """Make the head that a recipe starts from, and what is known of the model if the encoder has no origin."""
    config = parse(HeadConfig, {"d_model": encoder.d_model, **recipe.model.head}, "model.head")
    if outputs is not None:
        try:
            config = with_outputs(config, outputs)
        except ValueError as error:
            raise InputError(f"model.head: {error}") from error
    head = HEADS[type(config)](config, key=start_keys(recipe)[1])
    origin = getattr(encoder, "about", About()).provenance
    if origin is not None and recipe.license is not None:
        terms = origin.license or "not recorded"
        raise InputError(f"license is given, but the encoder brings its own terms ({terms}). Leave it out.")
    made = Provenance(f"eqxesm train, recipe {recipe.name}", license=recipe.license)
    return head, About(made) if origin is None else None


def find_differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two recipes, as TOML values, say differently; where the data are does not count."""
    first, second = flatten(earlier), flatten(now)

    def show(values: dict[str, Any], key: str) -> str:
        return repr(values[key]) if key in values else "not set"

    return [
        f"{key} was {show(first, key)} and is {show(second, key)}"
        for key in sorted(first.keys() | second.keys())
        if show(first, key) != show(second, key) and key != "data.root"
    ]


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        pairs = ((str(number), each) for number, each in enumerate(value))
    else:
        return {prefix: value}
    flat = {}
    for key, each in pairs:
        flat |= flatten(each, f"{prefix}.{key}" if prefix else key)
    return flat
