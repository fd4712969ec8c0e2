"""Recipes for anything that an assay measured: one or several columns of a table."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le, MaxLen, MinLen
from pydantic import AfterValidator, Strict

from eqxesm.assay import AssayModel
from eqxesm.config import configuration, describe
from eqxesm.data.cleaning import Cleaning
from eqxesm.encoders import AbstractEncoder, WithProperties
from eqxesm.encoders.properties import N_PROPERTIES
from eqxesm.errors import at
from eqxesm.files import expand_user
from eqxesm.protein_model import DEFAULT
from eqxesm.targets import Classes, Kind, Name, Target
from eqxesm.training.config import TrainConfig
from eqxesm.training.recipe import (
    BaseRecipe,
    Encoder,
    Pretrained,
    Recipe,
    Sources,
    build_head,
    check_head,
    file_name,
    make_recipe,
    read_values,
)
from heads import CommitteeConfig, EnsembleConfig, PartConfig, WindowMLPConfig
from heads.fields import Fraction

WINDOWS = (7, 19, 41)
QUANTILES = (0.1, 0.25, 0.75, 0.9)


@configuration
class TargetConfig:
    """A column that is predicted.

    Its kind (see `eqxesm.Target`) follows from its values by default, and so do its classes. Those of an ordinal target
    are given from low to high.
    """

    column: Name
    name: str = ""  # by default that of the column
    kind: Kind | Literal["auto"] = "auto"
    unit: str | None = None
    classes: Classes = ()

    def __post_init__(self):
        if self.kind == "ordinal" and not self.classes:
            raise ValueError("an ordinal target needs its classes, from low to high")

    @property
    def title(self) -> str:
        return self.name or self.column


@configuration
class AssayData:
    """Where the proteins come from. Paths are relative to `root`, and `root` to the recipe's folder.

    Where no validation or test sources are given, clusters of training proteins are held out: see
    `eqxesm.data.clusters.cluster`. A row without any of the targets is left out.
    """

    training: Annotated[Sources, MinLen(1)]
    validation: Sources = ()
    test: Sources = ()
    root: str = "."
    held_out: Annotated[Fraction, Gt(0), Le(0.4)] = 0.1  # share of the proteins, for validation and for test each
    max_identity: Annotated[float, Gt(0), Le(1)] = 0.3  # between clusters

    def __post_init__(self):
        titles = [file_name(source.title) for source in self.test]
        if len({"training", "validation", *titles}) < 2 + len(titles):
            raise ValueError("test sets need names of their own, other than training and validation: set name")


@configuration
class AssayModelConfig:
    """The model that training starts from. A head that suits the encoder is chosen where none is named."""

    encoder: Encoder = Pretrained(DEFAULT)
    head: Annotated[dict[str, Any], AfterValidator(check_head)] | None = None
    cleaning: Cleaning = Cleaning()


@configuration
class AssayRecipe(BaseRecipe):
    """What is trained to predict an assay, on what, and how."""

    data: AssayData
    targets: Annotated[tuple[TargetConfig, ...], Strict(False), MinLen(1), MaxLen(100)]
    training: TrainConfig
    model: AssayModelConfig = AssayModelConfig()
    name: str = ""
    summary: str = ""
    license: str | None = None

    def __post_init__(self):
        titles = [target.title for target in self.targets]
        if len(set(titles)) < len(titles):
            raise ValueError("two targets have the same name")
        config = self.training
        if config.vectors or config.label_smoothing or config.class_weights != "none":
            raise ValueError("training.vectors, label_smoothing and class_weights are for solubility. Leave them out.")

    @property
    def root(self) -> Path:
        return Path(self.data.root)

    @property
    def sources(self) -> Sources:
        """Every source, of whatever split."""
        return (*self.data.training, *self.data.validation, *self.data.test)


def read_any_recipe(path: str | os.PathLike, settings: Sequence[str] = ()) -> Recipe | AssayRecipe:
    """Read a recipe: of an assay if it has targets, else of solubility."""
    values, path = read_values(path)
    return make_recipe(values, path, settings, AssayRecipe if "targets" in values else Recipe)


def recipe_for_table(
    table: str,
    targets: Sequence[str],
    settings: Sequence[str] = (),
    *,
    validation: str | None = None,
    test: str | None = None,
    model: str = DEFAULT,
    **columns: str | None,
) -> AssayRecipe:
    """The recipe for columns of a table: frozen features of a model, a head that suits them, clusters held out.

    Args:
        settings: `key=value`, in the place of what the recipe says.
        columns: names of columns, such as `sequence_column`, that are not the usual ones.
    """
    named = {name: column for name, column in columns.items() if column is not None}

    def sources(path: str | None, **title: str) -> list[dict[str, Any]]:
        return [] if path is None else [{"path": os.path.abspath(expand_user(path)), **title, **named}]

    values = {
        "summary": f"Predicts {', '.join(targets)}, trained on {Path(table).name}.",
        "data": {
            "root": ".",
            "training": sources(table),
            "validation": sources(validation),
            "test": sources(test, name="test"),
        },
        "targets": [{"column": name} for name in targets],
        "model": {"encoder": {"pretrained": model}},
        "training": {"strategy": "frozen"},
    }
    return make_recipe(values, Path(table), settings, AssayRecipe)


def complete(recipe: AssayRecipe, encoder: AbstractEncoder, targets: Sequence[Target]) -> AssayRecipe:
    """The recipe with a head that suits its encoder and targets, if it names none."""
    if recipe.model.head is not None:
        return recipe
    per_residue = targets[0].kind == "residues"
    head = {"type": "residue_convolution"} if per_residue else _without_widths(describe(_choose_head(encoder)))
    return replace(recipe, model=replace(recipe.model, head=head))


def _without_widths(values: Any) -> Any:
    """A head's configuration without what follows from the encoder."""
    if isinstance(values, dict):
        return {key: _without_widths(each) for key, each in values.items() if key != "d_model"}
    return [_without_widths(each) for each in values] if isinstance(values, list) else values


def _choose_head(encoder: AbstractEncoder) -> Any:
    width = encoder.d_model
    return committee_on_properties(width) if isinstance(encoder, WithProperties) else _part(0, width, WINDOWS).head


def committee_on_properties(d_model: int) -> CommitteeConfig:
    """Heads on windows of properties, on windows of the language model, and on composition; see `WithProperties`."""
    properties, composition = _part(0, N_PROPERTIES, WINDOWS, QUANTILES), _part(0, N_PROPERTIES, ())
    return CommitteeConfig(d_model, (properties, _part(N_PROPERTIES, d_model, WINDOWS), composition))


def _part(start: int, stop: int, windows: tuple[int, ...], quantiles: tuple[float, ...] = ()) -> PartConfig:
    member = WindowMLPConfig(stop - start, windows, quantiles, hidden=(64,), dropout=0.5)
    return PartConfig(start, stop, EnsembleConfig(stop - start, member, members=4))


def build_assay_model(recipe: AssayRecipe, encoder: AbstractEncoder, targets: Sequence[Target]) -> AssayModel:
    """Make the model that a recipe starts from, of an encoder that is loaded."""
    outputs = sum(target.outputs for target in targets)
    head, about = build_head(recipe, encoder, outputs)
    with at("model.head"):
        return AssayModel(encoder, head, targets, recipe.model.cleaning, about=about)
