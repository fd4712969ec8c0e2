"""What was tried for the default model and left out, by cross-validation on its training proteins.

    python model_cards/default/variants.py --data ../shared/data --encoder run/model

All variants are trained alike, without copies that have random vector residues, and with the same random numbers. The
table tells how much each adds to the AUROC, and is kept in `variants.json`.
"""

import argparse
import csv
import dataclasses
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from figures import auroc, difference
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar
from make import CLEANING, CONFIG, FOLDS, LAYERS, make_head
from pool import SOURCES, Proteins, read_pool
from scipy.special import expit
from tqdm import tqdm

from eqxesm import ESMC, SolubilityModel, Tokenizer
from eqxesm.encoders import WithProperties
from eqxesm.files import cache_folder
from eqxesm.training.assay_recipe import committee_on_properties
from eqxesm.training.features import compute_once
from eqxesm.training.filters import path_names
from heads import FIXED, Committee, PartConfig

BATCH = 450
OUT = Path(__file__).with_name("variants.json")

Rows = Float[np.ndarray, "n d_pooled"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """How training differs from that of the default model."""

    soft: bool = False
    second: bool = False
    intercepts: bool = False
    dropout: float = 0.5


VARIANTS = {
    "as it is": Variant(),
    "eSOL's soluble fraction as its label": Variant(soft=True),
    "the fraction as a second output": Variant(second=True),
    "an intercept for each source, in training alone": Variant(intercepts=True),
    "dropout 0.7": Variant(dropout=0.7),
}


class Model(eqx.Module):
    """What is trained: heads, and an intercept for each source."""

    head: Committee
    intercepts: Float[Array, " sources"]

    def logits(self, pooled: Float[Array, " d_pooled"], key: Array | None = None) -> Float[Array, "members outputs"]:
        logits = self.head.score_members(pooled, key=key)
        return logits if logits.ndim == 2 else logits[:, None]


@dataclasses.dataclass(frozen=True)
class Targets:
    """Labels, the soluble fraction where eSOL measured it (else NaN), and the number of the source."""

    labels: Float[np.ndarray, " n"]
    fractions: Float[np.ndarray, " n"]
    sources: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, proteins: Proteins, data: Path) -> "Targets":
        with open(data / "esol" / "train.csv", newline="") as file:
            known = {
                CLEANING.clean(row["sequence"]).sequence: min(float(row["solubility"]), 1.0)
                for row in csv.DictReader(file)
            }
        names = list(SOURCES)
        sources = np.array([names.index(source) for source in proteins.sources])
        of_esol = sources == next(number for number, name in enumerate(names) if name.startswith("eSOL"))
        fractions = np.array([known.get(each, np.nan) for each in proteins.cleaned], np.float32)
        return cls(proteins.labels.astype(np.float32), np.where(of_esol, fractions, np.float32(np.nan)), sources)

    def select(self, chosen: np.ndarray) -> "Targets":
        return Targets(self.labels[chosen], self.fractions[chosen], self.sources[chosen])


def start(variant: Variant, d_model: int, pooled: Rows) -> Model:
    """The heads as they start, on the scale of training proteins."""
    config = committee_on_properties(d_model)
    changes = {"dropout": variant.dropout, "outputs": 2 if variant.second else None}

    def change(part: PartConfig) -> PartConfig:
        member = dataclasses.replace(part.head.member, **changes)
        return dataclasses.replace(part, head=dataclasses.replace(part.head, member=member))

    config = dataclasses.replace(config, parts=tuple(map(change, config.parts)))
    head = Committee(config, key=jax.random.key(CONFIG.seed)).standardise(pooled)
    return Model(head, jnp.zeros(len(SOURCES)))


def is_trained(path: tuple, leaf: object) -> bool:
    return eqx.is_inexact_array(leaf) and path_names(path)[-1] not in FIXED


def loss(model: Model, pooled: Float[Array, "rows d_pooled"], targets: PyTree, variant: Variant, key: Array) -> Scalar:
    """Cross-entropy of every member, and that of the second output where the fraction is known."""
    labels, fractions, sources = targets
    known = ~jnp.isnan(fractions)
    logits = jax.vmap(model.logits)(pooled, jax.random.split(key, len(pooled)))
    first = logits[..., 0]
    if variant.intercepts:
        first = first + model.intercepts[sources][:, None]
    if variant.soft:
        labels = jnp.where(known, fractions, labels)
    losses = cross_entropy(first, labels)
    if variant.second:
        losses += jnp.where(known, cross_entropy(logits[..., 1], jnp.where(known, fractions, 0)), 0)
    return losses.mean()


def cross_entropy(logits: Float[Array, "rows members"], labels: Float[Array, " rows"]) -> Float[Array, " rows"]:
    return optax.sigmoid_binary_cross_entropy(logits, jnp.broadcast_to(labels[:, None], logits.shape)).mean(axis=1)


def train(
    variant: Variant, d_model: int, pooled: Rows, targets: Targets, held_out: tuple[Rows, Float[np.ndarray, " _"]]
) -> Model:
    """The model of the epoch that does best on proteins that are held out."""
    model = start(variant, d_model, pooled)
    params, frozen = eqx.partition(model, jax.tree_util.tree_map_with_path(is_trained, model))
    steps = len(pooled) // BATCH
    schedule = optax.warmup_cosine_decay_schedule(
        0, CONFIG.learning_rate, round(CONFIG.warmup * CONFIG.epochs * steps), CONFIG.epochs * steps
    )
    optimiser = optax.adamw(schedule, weight_decay=CONFIG.weight_decay)
    state, key, rng = optimiser.init(params), jax.random.key(CONFIG.seed), np.random.default_rng(CONFIG.seed)

    @jax.jit
    def step(params: PyTree, state: PyTree, pooled: Array, targets: PyTree, key: Array) -> tuple[PyTree, PyTree]:
        gradient = jax.grad(lambda params: loss(eqx.combine(params, frozen), pooled, targets, variant, key))(params)
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    best, lowest = params, np.inf
    for _ in range(CONFIG.epochs):
        for rows in rng.permutation(len(pooled))[: steps * BATCH].reshape(steps, BATCH):
            key, own = jax.random.split(key)
            given = dataclasses.astuple(targets.select(rows))
            params, state = step(params, state, pooled[rows], given, own)
        logits = score(eqx.combine(params, frozen), held_out[0])
        found = float(np.logaddexp(0, (1 - 2 * held_out[1]) * logits).mean())
        if found < lowest:
            best, lowest = params, found
    return eqx.combine(best, frozen)


@eqx.filter_jit
def score(model: Model, pooled: Rows) -> Float[Array, " n"]:
    return jax.lax.map(lambda row: model.logits(row)[:, 0].mean(), pooled, batch_size=1024)


def out_of_fold(
    variant: Variant, d_model: int, pooled: Rows, targets: Targets, folds: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Logits of every protein by a model that saw none of its fold."""
    logits = np.zeros(len(pooled), np.float32)

    def rows(chosen: Bool[np.ndarray, " n"]) -> Rows:
        return np.ascontiguousarray(pooled[chosen])

    for fold in tqdm(range(FOLDS), unit=" folds", leave=False, disable=None):
        own, following = folds == fold, folds == (fold + 1) % FOLDS
        training = ~own & ~following
        held_out = rows(following), targets.labels[following]
        model = train(variant, d_model, rows(training), targets.select(training), held_out)
        logits[own] = score(model, rows(own))
    return logits


def main() -> None:
    """Train all, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the pretrained encoder")
    parser.add_argument("--proteins", type=int, help="try it out on this many")
    options = parser.parse_args()
    data = read_pool(options.data, CLEANING, options.proteins)
    encoder = WithProperties(ESMC.from_pretrained(options.encoder).truncate(LAYERS))
    model = SolubilityModel(encoder, make_head(encoder.d_model, 0), CLEANING)
    tokens = [Tokenizer().encode(each) for each in data.cleaned]
    features = compute_once(model, tokens, CONFIG, cache_folder("features"), progress=True).select(tokens)
    pooled, targets = features.rows[features.places[:, 0]], Targets.of(data, options.data)
    rows, first = [], None
    for name, variant in VARIANTS.items():
        probabilities = expit(out_of_fold(variant, encoder.d_model, pooled, targets, data.folds))
        first = first if rows else probabilities
        more = difference(data.labels, probabilities, first) if rows else ""
        rows.append({"training": name, "auroc": auroc(data.labels, probabilities), "more": more})
        print(json.dumps(rows[-1]), flush=True)
    if not options.proteins:
        OUT.write_text(json.dumps({"proteins": len(data.labels), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
