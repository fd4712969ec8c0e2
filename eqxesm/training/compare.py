"""Encoders compared by what their frozen features are worth on tasks, all under one protocol.

Features are means over residues (or single residues, for tasks with a label each), standardised. A ridge regression
on them is fitted to the training proteins; its strength is chosen on the validation proteins. Every seed leaves out
another fifth of the training proteins.
"""

import json
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import MinLen
from jaxtyping import Array, Float, Int, Shaped
from pydantic import Strict
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from eqxesm.alphabet import CONTEXT_RESIDUES
from eqxesm.config import configuration, describe
from eqxesm.encoders import AbstractEncoder, AbstractLanguageModel, residue_mask
from eqxesm.errors import InputError, one_line
from eqxesm.files import file_name, make_folder, replace_file
from eqxesm.inference import map_proteins
from eqxesm.training.recipe import BaseRecipe, Encoder, build_encoder
from eqxesm.training.tasks import UNKNOWN, Data, Task, read_task
from heads.fields import Count
from heads.pooling import mean_pool

STRENGTHS = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
"""Strengths of the ridge regression that are tried."""

KEPT = 0.8
"""Share of the training proteins that every seed trains on."""

MOST_RESIDUES = 100_000
"""Residues that are trained on, where each has a label."""

METRICS: dict[str, dict[str, Callable[..., float]]] = {
    "binary": {
        "AUROC": lambda truth, score: float(roc_auc_score(truth, score)),
        "MCC": lambda truth, score: float(matthews_corrcoef(truth, score > 0)),
    },
    "classes": {
        "accuracy": lambda truth, found: float(accuracy_score(truth, found)),
        "macro-F1": lambda truth, found: float(f1_score(truth, found, average="macro")),
    },
    "regression": {
        "Spearman": lambda truth, score: float(spearmanr(truth, score).statistic),
        "R2": lambda truth, score: float(r2_score(truth, score)),
    },
    "residues": {"accuracy": lambda truth, found: float(accuracy_score(truth, found))},
}
"""The metrics of each kind of task; the first decides."""


@configuration
class NamedEncoder:
    """An encoder of the comparison. With `layers`, every layer is scored too."""

    name: str
    encoder: Encoder
    seed: int = 0
    layers: bool = False


@configuration
class Folder:
    """Where the tasks are: relative to the comparison's own folder."""

    root: str = "."


@configuration
class Comparison(BaseRecipe):
    """Which encoders are compared on which tasks; `reference` is the one that differences are taken to."""

    tasks: Annotated[tuple[Task, ...], Strict(False), MinLen(1)]
    encoders: Annotated[tuple[NamedEncoder, ...], Strict(False), MinLen(1)]
    reference: str
    data: Folder
    seeds: Count = 5
    max_residues: Count = CONTEXT_RESIDUES  # of a longer protein the first ones count
    name: str = ""

    def check(self) -> None:
        for what, names in (("tasks", self.tasks), ("encoders", self.encoders)):
            titles = [each.name for each in names]
            if len(set(titles)) < len(titles):
                raise InputError(f"two {what} have the same name")
        if self.reference not in [each.name for each in self.encoders]:
            raise InputError(f"reference is {self.reference!r}, which is no encoder of the comparison")


def featurise(encoder: AbstractEncoder, data: Data, layers: bool) -> tuple[list[np.ndarray], float]:
    """Features of every protein (`[layers d_model]`, or `[layers length d_model]`), and seconds per protein."""
    per_residue = data.task.kind == "residues"
    # Single residues of every layer would not fit the memory.
    every_layer = layers and isinstance(encoder, AbstractLanguageModel) and not per_residue
    started = time.monotonic()
    found = map_proteins(eqx.Partial(_represent, encoder, every_layer, per_residue), data.table.proteins)
    if per_residue:
        # Padding, <cls> and <eos> are cut off.
        found = [each[:, 1 : len(t) - 1] for each, t in zip(found, data.table.proteins, strict=True)]
    return found, (time.monotonic() - started) / len(found)


def _represent(
    encoder: AbstractEncoder, every_layer: bool, per_residue: bool, tokens: Int[Array, " length"]
) -> Float[Array, "..."]:
    if every_layer and isinstance(encoder, AbstractLanguageModel):
        states = encoder(tokens, hidden_states=range(encoder.config.layers + 1)).hidden_states
    else:
        states = encoder.features(tokens)[None]
    states = states.astype(jnp.float32)
    return states if per_residue else jax.vmap(mean_pool, (0, None))(states, residue_mask(tokens))


@dataclass(frozen=True)
class Predicted:
    """What was predicted for the test proteins, by seed; `groups` number the proteins that the rows are of."""

    truth: np.ndarray
    groups: Int[np.ndarray, " rows"]
    by_seed: Shaped[np.ndarray, "seeds rows"]


def predict_tests(features: Sequence[np.ndarray], data: Data, seeds: int) -> Predicted:
    """Fit the probe of every seed and split, and predict the test proteins."""
    parts: list[list[np.ndarray]] = [[] for _ in range(seeds)]
    truth, groups = [], []
    for split in data.splits:
        validation, test = (_gather(features, data, rows) for rows in (split.validation, split.test))
        truth.append(test.labels)
        groups.append(split.test[test.groups])
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            kept = rng.permutation(split.training)[: max(2, round(KEPT * len(split.training)))]
            training = _gather(features, data, np.sort(kept), rng)
            parts[seed].append(_fit(data.task.kind, training, validation)(test.features))
    return Predicted(np.concatenate(truth), np.concatenate(groups), np.stack([np.concatenate(each) for each in parts]))


@dataclass(frozen=True)
class Rows:
    """Features with their labels, and which of the proteins each row is of."""

    features: Float[np.ndarray, "rows d_model"]
    labels: np.ndarray
    groups: Int[np.ndarray, " rows"]


def _gather(
    features: Sequence[np.ndarray], data: Data, proteins: Int[np.ndarray, " _"], rng: np.random.Generator | None = None
) -> Rows:
    """Rows of some proteins: one each, or one for each labelled residue, of which a generator draws a part."""
    if data.task.kind != "residues":
        return Rows(np.stack([features[i] for i in proteins]), data.table.labels[proteins], np.arange(len(proteins)))
    labels = [np.array(list(data.table.labels[i])) for i in proteins]
    rows = Rows(
        np.concatenate([features[i] for i in proteins]),
        np.concatenate(labels),
        np.repeat(np.arange(len(proteins)), [len(each) for each in labels]),
    )
    known = np.flatnonzero(rows.labels != UNKNOWN)
    if rng is not None:
        known = np.sort(rng.permutation(known)[:MOST_RESIDUES])
    return Rows(rows.features[known], rows.labels[known], rows.groups[known])


def _fit(kind: str, training: Rows, validation: Rows) -> Callable[[np.ndarray], np.ndarray]:
    """The ridge regression whose strength does best on the validation rows."""
    scale = StandardScaler().fit(training.features)
    seen, asked = scale.transform(training.features), scale.transform(validation.features)
    metric = next(iter(METRICS[kind].values()))

    def answer(model: Any, rows: np.ndarray) -> np.ndarray:
        return model.decision_function(rows) if kind == "binary" else model.predict(rows)

    regression = Ridge if kind == "regression" else RidgeClassifier
    models = [regression(strength).fit(seen, training.labels) for strength in STRENGTHS]
    best = max(models, key=lambda model: metric(validation.labels, answer(model, asked)))
    return lambda rows: answer(best, scale.transform(rows))


def run_comparison(
    comparison: Comparison, folder: Path, resume: bool
) -> Iterator[tuple[NamedEncoder, Task, dict[str, Any]]]:
    """Score every encoder on every task, one after another; what is in `folder` already is read, if `resume`."""
    scores = folder / "scores"
    if scores.exists() and not resume:
        raise InputError(f"{folder}: holds a comparison. Add --resume, or choose another folder.")
    root = Path(comparison.data.root)
    tasks = [read_task(task, root, comparison.max_residues) for task in comparison.tasks]
    for named in comparison.encoders:
        encoder = None
        for data in tasks:
            path = scores / f"{file_name(named.name)}-{file_name(data.task.name)}.npz"
            # A change of either is another comparison.
            asked = json.dumps([describe(named), describe(data.task), comparison.seeds, comparison.max_residues])
            stored = _read_scores(path, asked)
            if stored is None:
                encoder = encoder or build_encoder(named.encoder, jax.random.key(named.seed))
                make_folder(scores)
                stored = {"asked": asked, **_score(encoder, data, named.layers, comparison.seeds)}
                with replace_file(path) as partial, partial.open("wb") as file:
                    np.savez_compressed(file, **stored)  # ty: ignore[invalid-argument-type]
            yield named, data.task, stored


def _read_scores(path: Path, asked: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged ({one_line(error)}). Delete it.") from error
    return stored if str(stored.get("asked")) == asked else None


def _score(encoder: AbstractEncoder, data: Data, every_layer: bool, seeds: int) -> dict[str, Any]:
    found, seconds = featurise(encoder, data, every_layer)
    layers = [predict_tests([each[number] for each in found], data, seeds) for number in range(len(found[0]))]
    return {
        "truth": layers[-1].truth,
        "groups": layers[-1].groups,
        "predicted": np.stack([each.by_seed for each in layers]),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(encoder, eqx.is_inexact_array))),
        "seconds": seconds,
    }
