"""Train the default model and write its checkpoint, metrics and card.

    python model_cards/default/make.py --data ../shared/data --encoder run/model

trains an ensemble of heads on features of an encoder that `eqxesm pretrain` made, on the publishable rows of the
training pool, and measures it: fold by fold, with each source held out whole, on vector residues, and once on the test
sets. `--epochs 1 --proteins 1000 --out FOLDER` tries it all out.
"""

import argparse
import dataclasses
import json
import shutil
import time
from pathlib import Path

import jax
import numpy as np
from figures import compare_by_source, compare_out_of_fold, measure_scars, measure_tests
from jaxtyping import Bool, Float
from pool import COPIES, SHARE_OF_ENDS, Proteins, read_pool, read_tests
from record import make_record
from scipy.special import expit

from eqxesm import ESMC, Calibration, SolubilityModel, Tokenizer
from eqxesm.checkpoint.card import HERE as HERE_NAMED
from eqxesm.checkpoint.card_edits import replace_name
from eqxesm.checkpoint.record import CARD, METRICS, About, Provenance
from eqxesm.data.cleaning import Cleaning
from eqxesm.domain import Domain
from eqxesm.encoders import WithProperties
from eqxesm.evaluation import fit_margin, fit_temperature, group_errors
from eqxesm.evaluation.plots import draw_calibration
from eqxesm.files import cache_folder, write_file
from eqxesm.forms import Limits
from eqxesm.training import Examples, TrainConfig, fit
from eqxesm.training.assay_recipe import committee_on_properties
from eqxesm.training.examples import add_random_ends
from eqxesm.training.features import FrozenFeatures, compute_once
from heads import Committee

HERE = Path(__file__).parent
PACKAGED = HERE.parents[1] / "eqxesm" / "default"
CALIBRATION = "calibration.png"

CLEANING = Cleaning(strip_tags=True, strip_initial_met=True)
LAYERS = 3
"""Blocks of the encoder that are kept: features of the third do better in the cross-validation than those of the last."""
FOLDS = 10

CONFIG = TrainConfig(
    strategy="frozen", epochs=5, patience=5, learning_rate=1e-3, weight_decay=0.01, tokens_per_batch=131_072
)


def make_head(d_model: int, seed: int) -> Committee:
    """Heads on windows of properties, on windows of the encoder's features, and on composition alone."""
    return Committee(committee_on_properties(d_model), key=jax.random.key(seed))


@dataclasses.dataclass(frozen=True)
class Trainer:
    """The encoder, the proteins with their copies as tokens, and the features of all."""

    encoder: WithProperties
    data: Proteins
    tokens: list[np.ndarray]
    copies: list[list[np.ndarray]]
    features: FrozenFeatures
    config: TrainConfig

    @classmethod
    def make(cls, encoder: WithProperties, data: Proteins, config: TrainConfig) -> "Trainer":
        model = SolubilityModel(encoder, make_head(encoder.d_model, 0), CLEANING)
        tokens = [Tokenizer().encode(sequence) for sequence in data.cleaned]
        rng = np.random.default_rng(config.seed)
        copies = [[add_random_ends(each, SHARE_OF_ENDS, rng) for each in tokens] for _ in range(COPIES)]
        every = (each for some in (tokens, *copies) for each in some)
        features = compute_once(model, every, config, cache_folder("features"), progress=True)
        return cls(encoder, data, tokens, copies, features, config)

    def train(self, training: Bool[np.ndarray, " n"], validation: Bool[np.ndarray, " n"]) -> SolubilityModel:
        """Train on some of the proteins with their copies; stop by others."""
        model = SolubilityModel(self.encoder, make_head(self.encoder.d_model, self.config.seed), CLEANING)
        sets = [*self.copies, self.tokens]
        rows = np.flatnonzero(training)
        examples = Examples([each[row] for each in sets for row in rows], np.tile(self.data.labels[rows], len(sets)))
        held_out = self.examples(validation)
        model, epochs = fit(model, examples, held_out, self.config, features=self.features)
        best = min(epochs, key=lambda epoch: epoch.validation.loss)
        print(f"{len(rows):,} proteins, best epoch {best.number}, held-out loss {best.validation.loss:.4f}", flush=True)
        return model

    def examples(self, chosen: Bool[np.ndarray, " n"]) -> Examples:
        rows = np.flatnonzero(chosen)
        return Examples([self.tokens[row] for row in rows], self.data.labels[rows])

    def score(self, model: SolubilityModel, chosen: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " _"]:
        """Logits, from the features that are known."""
        rows = self.features.select(self.examples(chosen).proteins).collate(np.arange(chosen.sum()), 0).pooled
        return np.asarray(jax.jit(jax.vmap(lambda row: model.head.score_members(row).mean()))(rows), np.float32)

    def out_of_fold(self) -> Float[np.ndarray, " n"]:
        """Logits of every protein by a model that saw none of its fold."""
        logits, folds = np.zeros(len(self.tokens), np.float32), self.data.folds
        for fold in range(FOLDS):
            following = folds == (fold + 1) % FOLDS
            model = self.train((folds != fold) & ~following, following)
            logits[folds == fold] = self.score(model, folds == fold)
        return logits

    def out_of_source(self) -> Float[np.ndarray, " n"]:
        """Logits of every protein by a model that saw neither its source nor a relative of the source's proteins."""
        logits, data = np.zeros(len(self.tokens), np.float32), self.data
        for source in np.unique(data.sources):
            own, others = data.sources == source, data.unrelated(source)
            logits[own] = self.score(self.train(others & (data.folds != 0), others & (data.folds == 0)), own)
        return logits


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """The calibration by all out-of-fold logits, and how often its interval holds where it was not fitted."""

    calibration: Calibration
    probabilities: Float[np.ndarray, " n"]
    covered: float
    covered_by_source: float

    @classmethod
    def fit(cls, logits: Float[np.ndarray, " n"], by_source: Float[np.ndarray, " n"], data: Proteins) -> "Calibrated":
        probabilities, within = np.zeros(len(logits)), []
        for fold in range(FOLDS):
            own = data.folds == fold
            temperature = fit_temperature(logits[~own], data.labels[~own])
            scaled = logits / np.float32(temperature)
            margin = fit_margin(scaled[~own], data.labels[~own], data.sources[~own])
            within.append(group_errors(scaled[own], data.labels[own], data.sources[own]) <= margin)
            probabilities[own] = expit(scaled[own])
        temperature = fit_temperature(logits, data.labels)
        margin = fit_margin(logits / np.float32(temperature), data.labels, data.sources)
        calibration = Calibration(temperature, margin=margin)
        new = group_errors(by_source / np.float32(temperature), data.labels, data.sources) <= margin
        return cls(calibration, probabilities, float(np.concatenate(within).mean()), float(new.mean()))


def fit_domain(trainer: Trainer, training: Bool[np.ndarray, " n"]) -> Domain:
    """What the mean features of the training proteins look like."""
    head = make_head(trainer.encoder.d_model, 0)
    # A window head pools means first.
    starts, parts = (0, *head.pooled_ends), head.config.parts[:2]
    columns = np.concatenate(
        [start + np.arange(part.stop - part.start) for start, part in zip(starts, parts, strict=False)]
    )

    def means(chosen: Bool[np.ndarray, " n"]) -> np.ndarray:
        rows = trainer.features.select(trainer.examples(chosen).proteins)
        return np.asarray(rows.rows[rows.places[:, 0]])[:, columns]

    return Domain.fit(means(training), means(~training))


def main() -> None:
    """Do it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the pretrained encoder")
    parser.add_argument("--out", type=Path, help="checkpoint folder (default: inside the package)")
    parser.add_argument("--epochs", type=int, default=CONFIG.epochs)
    parser.add_argument("--proteins", type=int, help="try it out on this many")
    options = parser.parse_args()
    started = time.monotonic()
    config = dataclasses.replace(CONFIG, epochs=options.epochs)
    pretrained, data = ESMC.from_pretrained(options.encoder), read_pool(options.data, CLEANING, options.proteins)
    encoder = WithProperties(pretrained.truncate(LAYERS))
    trainer = Trainer.make(encoder, data, config)

    by_source = trainer.out_of_source()
    calibrated = Calibrated.fit(trainer.out_of_fold(), by_source, data)
    tables = [compare_out_of_fold(data, calibrated.probabilities), compare_by_source(data, expit(by_source))]
    training = data.folds != 0
    model = trainer.train(training, ~training)
    lengths = [len(sequence) for sequence in data.cleaned]
    origin = Provenance("model_cards/default/make.py", license="cc-by-4.0")
    model = model.replace(
        calibration=calibrated.calibration,
        limits=Limits.of(max(lengths), min(lengths)),
        domain=fit_domain(trainer, training),
        about=About(origin),
    )
    tables.append(measure_scars(model, data, 10 if options.proteins else 500))
    sets = measure_tests(model, data, read_tests(options.data, CLEANING, options.proteins))
    record = make_record(data, pretrained, model, calibrated, config, tables, sets, time.monotonic() - started)
    folder = options.out or PACKAGED
    bins = {each["name"]: each["reliability"] for each in sets}
    model.save_pretrained(folder, record, {CALIBRATION: draw_calibration(bins)})
    card = (folder / CARD).read_text(encoding="utf-8")
    write_file(folder / CARD, replace_name(card, HERE_NAMED, "default"))
    if options.out is None:
        for name in (CARD, METRICS, CALIBRATION):
            shutil.copy(folder / name, HERE / name)
    print(json.dumps({table["title"]: table["rows"] for table in tables}, indent=1))


if __name__ == "__main__":
    main()
