"""Labelled proteins as the loop of training reads them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from eqxesm.alphabet import pad
from eqxesm.data.bucketing import Layout, choose_layout
from eqxesm.errors import InputError
from eqxesm.inference import map_proteins
from eqxesm.solubility import SolubilityModel
from eqxesm.training.config import TrainConfig
from eqxesm.training.features import frozen_features, is_pooled


@dataclass(frozen=True)
class Examples:
    """Labelled proteins.

    Args:
        proteins: tokens of each, as `SolubilityModel.tokenize` gives them; may be lazy.
        labels: 1 for soluble, 0 for insoluble, one a protein.
        ids: names of the proteins, for messages; their numbers by default.
        lengths: numbers of tokens; counted where they are not given.

    Raises:
        InputError: there are none, the labels are not as many, or one is neither 0 nor 1.
    """

    proteins: Sequence[Int[np.ndarray, " _"]]
    labels: Int[np.ndarray, " n"]
    ids: Sequence[str] | None = None
    lengths: Int[np.ndarray, " n"] = field(default=None)  # ty: ignore[invalid-assignment]

    def __post_init__(self):
        if not len(self.proteins) or len(self.proteins) != len(self.labels):
            raise InputError(
                f"{len(self.proteins)} proteins with {len(self.labels)} labels: "
                "training needs at least one, and a label each"
            )
        if not np.isin(self.labels, (0, 1)).all():
            raise InputError("a label is neither 0 nor 1: 1 is soluble, 0 insoluble")
        if self.lengths is None:
            lengths = np.array([len(self.proteins[i]) for i in range(len(self.proteins))])
            object.__setattr__(self, "lengths", lengths)

    def name(self, index: int) -> str:
        """Name a protein.

        Args:
            index: which one.

        Returns:
            Its id, or its number from 1.
        """
        return f"number {index + 1}" if self.ids is None else self.ids[index]

    def collate(self, indices: Int[np.ndarray, " _"], length: int) -> Int[np.ndarray, "_ length"]:
        """Pad the tokens of a batch.

        Args:
            indices: which proteins.
            length: padded length.

        Returns:
            int32 tokens `[rows length]`.
        """
        return pad([self.proteins[int(index)] for index in indices], length)


@dataclass(frozen=True)
class Fed:
    """A set of proteins, and what makes a model's inputs of some of them."""

    examples: Examples
    collate: Callable[[Int[np.ndarray, " _"], int], Any]


def feed(
    model: SolubilityModel,
    examples: Examples,
    config: TrainConfig,
    cache: Path | None,
    *,
    progress: bool = False,
) -> Fed:
    """Prepare what the steps of a strategy read: tokens, or the features of a frozen encoder.

    Args:
        model: what is trained.
        examples: the proteins.
        config: the recipe.
        cache: folder for features; None keeps them in memory.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        The set, ready for the pipeline.
    """
    if config.strategy != "frozen":
        return Fed(examples, examples.collate)
    features = frozen_features(
        model, examples.proteins, examples.lengths, config, cache, progress=progress
    )
    return Fed(examples, features.collate)


def choose_shapes(
    model: SolubilityModel, config: TrainConfig, sets: Mapping[str, Examples]
) -> Layout:
    """Choose the shapes of a run's batches.

    Args:
        model: what is trained.
        config: the recipe.
        sets: the examples by name; `training` decides.

    Returns:
        One shape where the batches hold one vector for each protein, else the layout that pads
        the training proteins least.
    """
    longest = max(int(examples.lengths.max()) for examples in sets.values())
    lengths = sets["training"].lengths
    if config.strategy == "frozen" and is_pooled(model):
        rows = max(1, round(config.tokens_per_batch / float(lengths.mean())))
        return Layout((longest,), rows * longest)
    return choose_layout(lengths, config.tokens_per_batch, longest)


def class_weights(config: TrainConfig, labels: Int[np.ndarray, " n"]) -> tuple[float, float]:
    """Weigh the classes.

    Args:
        config: the recipe.
        labels: of the training proteins.

    Returns:
        Weights of an insoluble and a soluble protein, whose mean over the proteins is 1.

    Raises:
        InputError: they are to be balanced and one class is missing.
    """
    if config.class_weights == "none":
        return 1.0, 1.0
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        raise InputError(f"all {len(labels)} labels are {labels[0]}: there is nothing to balance")
    insoluble, soluble = (len(labels) / (2 * counts)).tolist()
    return insoluble, soluble


def logits(model: SolubilityModel, examples: Examples) -> Float[np.ndarray, " n"]:
    """Score proteins.

    Args:
        model: the model.
        examples: the proteins.

    Returns:
        Logits before calibration, float32 `[n]`.
    """
    return np.array(map_proteins(model, examples.proteins), np.float32)
