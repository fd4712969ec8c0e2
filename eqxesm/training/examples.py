"""Labelled proteins as the training loop reads them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from eqxesm.alphabet import Tokenizer, check_tokens, pad
from eqxesm.data.batching import Buckets, choose_buckets
from eqxesm.data.labels import Labels, as_labels
from eqxesm.data.vectors import LONGEST_END, random_end
from eqxesm.errors import InputError
from eqxesm.inference import map_proteins
from eqxesm.model import SolubilityModel
from eqxesm.protein_model import ProteinModel
from eqxesm.sequences import as_sequence
from eqxesm.training.config import TrainConfig
from eqxesm.training.features import FrozenFeatures, compute_features

Collate = Callable[[Int[np.ndarray, " _"], int, np.random.Generator], Any]
"""Makes the inputs of some proteins, by their indices, padded to a length; what is random comes from the generator."""


@dataclass(frozen=True, init=False)
class Examples:
    """Labelled proteins: tokens of each, `<cls>` and `<eos>` included, and labels.

    Labels of solubility are 1 and 0. Those of targets are float32 `[n targets]`, or `[n length 1]` for every
    position of proteins padded to the longest; NaN where they are unknown. `ids` name proteins in errors; `lengths`
    are counted where they are not given.
    """

    proteins: Sequence[Int[np.ndarray, " _"]]
    labels: Int[np.ndarray, " n"] | Float[np.ndarray, "n ..."]
    ids: Sequence[str] | None
    lengths: Int[np.ndarray, " n"]

    def __init__(
        self,
        proteins: Sequence[Int[np.ndarray, " _"]],
        labels: Labels | Float[np.ndarray, "n ..."],
        ids: Sequence[str] | None = None,
        lengths: Int[np.ndarray, " n"] | None = None,
    ):
        """Check labels and proteins, and count lengths."""
        proteins = as_sequence(proteins, "token arrays")
        if not len(proteins):
            raise InputError("no proteins to train on")
        for name, given in (("ids", ids), ("lengths", lengths)):
            if given is not None and len(given) != len(proteins):
                raise InputError(f"{name} has {len(given)} entries for {len(proteins)} proteins")
        if lengths is None:
            lengths = np.array([_count(proteins[i]) for i in range(len(proteins))])
        if not isinstance(labels, np.ndarray) or labels.ndim == 1:
            labels = as_labels(labels, len(proteins))
        elif len(labels) != len(proteins):
            raise InputError(f"{len(labels)} rows of labels for {len(proteins)} proteins")
        values = {"proteins": proteins, "labels": labels, "ids": ids, "lengths": lengths}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def name(self, index: int) -> str:
        return f"number {index + 1}" if self.ids is None else self.ids[index]

    def collate(
        self, indices: Int[np.ndarray, " _"], length: int, rng: np.random.Generator | None = None
    ) -> Int[np.ndarray, "_ length"]:
        del rng
        return pad([self.proteins[int(index)] for index in indices], length)


def _count(tokens: Int[np.ndarray, " _"]) -> int:
    check_tokens(tokens)
    return len(tokens)


@dataclass(frozen=True)
class InputSet:
    """A set of proteins, the function that makes a model's inputs of them, and features if they are frozen."""

    examples: Examples
    collate: Collate
    features: FrozenFeatures | None = None


def add_random_ends(tokens: Int[np.ndarray, " _"], share: float, rng: np.random.Generator) -> Int[np.ndarray, " _"]:
    """A protein with random vector residues before it, behind it, or both, each with the probability `share`."""
    for at in (1, -1):
        if rng.random() < share:
            tokens = np.insert(tokens, at, Tokenizer().encode(random_end(rng, at > 0))[1:-1])
    return tokens


def add_vectors(examples: Examples, share: float) -> InputSet:
    """The proteins, a share of them with random vector residues before or behind them."""

    def collate(indices: Int[np.ndarray, " _"], length: int, rng: np.random.Generator) -> Int[np.ndarray, "_ length"]:
        return pad([add_random_ends(examples.proteins[int(index)], share, rng) for index in indices], length)

    longest = examples.lengths + 2 * LONGEST_END
    return InputSet(Examples(examples.proteins, examples.labels, examples.ids, longest), collate)


def prepare_inputs(
    model: ProteinModel,
    examples: Examples,
    config: TrainConfig,
    cache: Path | None,
    features: FrozenFeatures | None = None,
    *,
    progress: bool = False,
) -> InputSet:
    """Inputs of a strategy: tokens, or the features of a frozen encoder, known or kept in `cache`."""
    if config.strategy != "frozen":
        return InputSet(examples, examples.collate)
    if features is None:
        own = compute_features(model, examples.proteins, examples.lengths, config, cache, progress=progress)
    else:
        own = features.select(examples.proteins)
    return InputSet(examples, own.collate, own)


def choose_run_buckets(model: ProteinModel, config: TrainConfig, sets: Mapping[str, Examples]) -> Buckets:
    """Choose the shapes of a run's batches, for all of its sets."""
    longest = max(int(examples.lengths.max()) for examples in sets.values())
    lengths = sets["training"].lengths
    if config.strategy == "frozen" and model.head.pooling is not None:
        # One vector per protein: a single shape.
        rows = max(1, round(config.tokens_per_batch / float(lengths.mean())))
        return Buckets((longest,), rows * longest)
    return choose_buckets(lengths, config.tokens_per_batch, longest)


def class_weights(config: TrainConfig, labels: np.ndarray) -> tuple[float, float] | None:
    """Weights of insoluble and soluble proteins in the loss; None for equal ones."""
    if config.class_weights == "none":
        return None
    if labels.ndim > 1:
        raise InputError("training.class_weights is for solubility alone. Leave it out.")
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        raise InputError(f"all {len(labels)} labels are {labels[0]}: classes cannot be balanced")
    insoluble, soluble = (len(labels) / (2 * counts)).tolist()
    return insoluble, soluble


def score_examples(model: SolubilityModel, examples: Examples) -> Float[np.ndarray, " n"]:
    """Logits of proteins, float32."""
    return np.array(map_proteins(model, examples.proteins), np.float32)
