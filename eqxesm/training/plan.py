"""What a recipe holds, and the model that it starts from."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tomli_w

from eqxesm.checkpoint.schema import Provenance, class_of, describe, parse_type
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene import Policy
from eqxesm.data.sources import Source
from eqxesm.encoders import ENCODERS, ESMC, AbstractEncoder
from eqxesm.errors import InputError
from eqxesm.solubility import SolubilityModel
from eqxesm.training.config import TrainConfig
from heads import HEADS

ENCODER, HEAD = "model: encoder", "model: head"
"""Places of a recipe, as errors name them."""


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
        license: the terms that the trained weights shall stand under; those of a pretrained
            encoder, where it names any.
        root: folder that relative paths of data start from.
        training: sources of proteins to learn from, merged.
        validation: sources of proteins to stop by and to calibrate on; none in a
            cross-validation.
        tests: sources to measure with, each a set of its own; none in a cross-validation.
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
        return without_none(
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


def build_model(recipe: Recipe) -> SolubilityModel:
    """Make the model that a recipe starts from.

    Args:
        recipe: the recipe.

    Returns:
        The encoder, loaded or drawn at random, and a head drawn at random.

    Raises:
        InputError: there is no such encoder, the head's configuration will not do, or the recipe
            names terms and the encoder stands under its own.
    """
    encoder_key, head_key = jax.random.split(jax.random.key(recipe.config.seed))
    encoder: AbstractEncoder
    if isinstance(recipe.encoder, Pretrained):
        encoder = ESMC.from_pretrained(recipe.encoder.pretrained, revision=recipe.encoder.revision)
    else:
        encoder = class_of(ENCODERS, recipe.encoder)(recipe.encoder, key=encoder_key)
    head, make_head = parse_type(HEADS, {"d_model": encoder.d_model, **recipe.head}, HEAD)
    origin = getattr(encoder, "provenance", None)
    if origin is not None and recipe.license is not None:
        raise InputError(
            f"license: {recipe.encoder.pretrained} brings its own terms "
            f"({origin.license or 'not recorded'}): leave it out"
        )
    made = Provenance(f"eqxesm train, recipe {recipe.name}", license=recipe.license)
    head = make_head(head, key=head_key)
    try:
        return SolubilityModel(
            encoder,
            head,
            recipe.cleaning,
            provenance=made if origin is None else None,
        )
    except ValueError as error:
        raise InputError(f"{HEAD}: {error}: leave out d_model") from error


def file_name(title: str) -> str:
    """Make the name of a file or a folder out of what a set or a fold is called.

    Args:
        title: any text.

    Returns:
        Its letters, digits and hyphens, `_` for the rest; 80 of them at most.
    """
    return re.sub(r"[^\w-]+", "_", title)[:80]


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

    def spell(values: dict[str, Any], key: str) -> str:
        return repr(values[key]) if key in values else "not set"

    return [
        f"{key} was {spell(first, key)} and is {spell(second, key)}"
        for key in sorted(first.keys() | second.keys())
        if spell(first, key) != spell(second, key) and key != "data.root"
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


def without_none(value: Any) -> Any:
    """Leave out what TOML cannot say.

    Args:
        value: tables, lists and values.

    Returns:
        The same without keys whose value is None; tuples become lists.
    """
    if isinstance(value, Mapping):
        return {key: without_none(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [without_none(each) for each in value]
    return value
