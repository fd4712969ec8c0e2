"""Train the default model and write its checkpoint, metrics and card.

    python model_cards/default/make.py --data ../shared/data

trains the frequency and the convolution baseline on the MIT-licensed rows of the training pool,
each with expression tags stripped and left, keeps the one with tags stripped that does better on a
held-out fold of whole families, and measures it beside the tag rule and the composition
regression. `--epochs 1 --proteins 500 --out FOLDER` tries it all out in a minute.
"""

import argparse
import csv
import dataclasses
import json
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from eqxesm import Calibration, OneHot, SolubilityModel
from eqxesm.checkpoint.card import CARD
from eqxesm.checkpoint.card import HERE as HERE_NAMED
from eqxesm.checkpoint.card_edits import replace_name
from eqxesm.checkpoint.record import METRICS, About, Provenance
from eqxesm.config import describe
from eqxesm.data.cleaning import Cleaning, is_nucleic_acid
from eqxesm.data.protein import Columns
from eqxesm.data.proteins import read_proteins
from eqxesm.evaluation import evaluate, fit_baselines, fit_temperature, to_json
from eqxesm.evaluation.assess import reliability
from eqxesm.evaluation.plots import draw_calibration
from eqxesm.files import write_file
from eqxesm.forms import Limits
from eqxesm.training import Epoch, Examples, TrainConfig, cross_entropy, fit, score_examples
from eqxesm.training.report import describe_versions
from heads import CompositionMLP, CompositionMLPConfig, Convolution, ConvolutionConfig

HERE = Path(__file__).parent
PACKAGED = HERE.parents[1] / "eqxesm" / "default"

VALIDATION_FOLD = "0"
STRIPPED = Cleaning(strip_tags=True, strip_initial_met=True)
AS_PUBLISHED = Cleaning()
STRIPPED_VARIANT = "tags and initial Met stripped"
HEADS = {
    "frequency": lambda key: CompositionMLP(CompositionMLPConfig(OneHot().d_model), key=key),
    "convolution": lambda key: Convolution(
        ConvolutionConfig(OneHot().d_model, d_embedding=16, channels=64, kernel=7, hidden=(), dropout=0.5), key=key
    ),
}
RECIPES = {
    "frequency": TrainConfig(learning_rate=1e-3, weight_decay=0.01),
    "convolution": TrainConfig(learning_rate=5e-4, weight_decay=0.1),
}
SOURCES = {
    "DeepSol validation": "sameerkhurana10/DSOL_rv0.2 (Khurana et al. 2018), the Hub data set proteinea/solubility",
    "PLM_Sol validation": "Violet969/PLM_Sol (Zhang et al. 2024), UESolDS",
}
CITATIONS = [
    "DeepSol: Khurana et al. (2018), DeepSol: a deep learning framework for sequence-based protein "
    "solubility prediction, Bioinformatics 34(15), 2605-2613",
    "PLM_Sol: Zhang et al. (2024), PLM_Sol: predicting protein solubility by benchmarking multiple "
    "protein language models with the updated Escherichia coli protein solubility dataset, Briefings "
    "in Bioinformatics 25(5)",
]
CALIBRATION = "calibration.png"
LIMITS = [
    "It knows residues and short motifs, nothing of structure: use it to sort many candidates, not to "
    "decide about one.",
    "The labels say whether a construct was soluble when laboratories expressed it in E. coli. Other "
    "hosts, temperatures, fusion partners and buffers are not in the data.",
    "Labels are noisy: 48 sequences stand in both test sets, 32 of them with opposite labels.",
    "The published data carry cloning habits. Tags and the initial Met are stripped before training "
    "and prediction, but what a vector leaves behind can still give a construct away.",
    "Trained on whole chains; a domain cut out of a longer chain is another construct.",
]


@dataclasses.dataclass(frozen=True)
class Set:
    """Proteins with labels, as they were published."""

    name: str
    sequences: list[str]
    labels: np.ndarray


def read_pool(path: Path, proteins: int | None) -> tuple[Set, Set, list[dict]]:
    """Read the MIT rows of the pool: training folds, validation fold, and what they consist of."""
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["license"] == "MIT"]
    # One of DeepSol's is the DNA of its protein.
    rows = [row for row in rows if not is_nucleic_acid(row["sequences"])][:proteins]
    held_out = [row for row in rows if row["fold"] == VALIDATION_FOLD]
    training = [row for row in rows if row["fold"] != VALIDATION_FOLD]
    described = []
    for name, source in SOURCES.items():
        labels = [row["labels"] for row in rows if row["source"] == name]
        described.append(
            {"name": name, "source": source, "license": "MIT", "proteins": len(labels), "soluble": labels.count("1")}
        )

    def to_set(name: str, rows: list[dict]) -> Set:
        labels = np.array([int(row["labels"]) for row in rows])
        return Set(name, [row["sequences"] for row in rows], labels)

    return to_set("training", training), to_set("validation fold", held_out), described


def read_test(data: Path, proteins: int | None) -> list[Set]:
    """Read the two test sets."""
    deepsol = read_proteins(
        data / "proteinea_solubility" / "solubility_testing.csv",
        Columns(sequence="sequences", label="labels"),
        labelled=True,
    )
    plm_sol = read_proteins(data / "plm_sol" / "test_dataset.fasta", labelled=True)
    sets = []
    for name, records in (("DeepSol test", list(deepsol)), ("PLM_Sol test", list(plm_sol))):
        chosen = records[:: max(1, len(records) // proteins)] if proteins else records
        labels = np.array([record.label for record in chosen])
        sets.append(Set(name, [record.sequence for record in chosen], labels))
    return sets


def encode(model: SolubilityModel, data: Set) -> Examples:
    """Clean and tokenize a set as a model declares."""
    tokens = [model.tokenize(model.cleaning.clean(sequence)) for sequence in data.sequences]
    return Examples(tokens, data.labels)


def train(
    head: str, cleaning: Cleaning, config: TrainConfig, training: Set, validation: Set
) -> tuple[SolubilityModel, float]:
    """Train one baseline, calibrate it on the validation fold, and give its loss there."""
    lengths = [len(cleaning.clean(sequence).sequence) for sequence in training.sequences]
    limits = Limits(max(lengths), min(lengths))
    model = SolubilityModel(OneHot(), HEADS[head](jax.random.key(config.seed)), cleaning, limits=limits)

    def report(epoch: Epoch) -> None:
        print(
            f"{head:12} epoch {epoch.number:3} training {epoch.training.loss:.4f} "
            f"validation {epoch.validation.loss:.4f}",
            flush=True,
        )

    held_out = encode(model, validation)
    model, _ = fit(model, encode(model, training), held_out, config, report=report)
    scores = score_examples(model, held_out)
    temperature = fit_temperature(scores, held_out.labels)
    model = model.replace(calibration=Calibration(temperature))
    return model, cross_entropy(scores / np.float32(temperature), held_out.labels)


def predict(model: SolubilityModel, data: Set) -> np.ndarray:
    """Predict without refusing the few test proteins longer than any in training."""
    return 1 / (1 + np.exp(-score_examples(model, encode(model, data)) / model.calibration.temperature))


def measure(data: Set, cleaning: Cleaning, variant: str, training: Set, models: dict[str, SolubilityModel]) -> dict:
    """Measure models and the two baselines on one set, spelled in one way."""

    def spell(sequences: Sequence[str]) -> list[str]:
        return [cleaning.clean(sequence).sequence for sequence in sequences]

    sequences, fitted_on = spell(data.sequences), spell(training.sequences)
    # A model that strips would strip what is stripped once more; it gets what was published.
    spelled = Set(data.name, sequences, data.labels)
    predicted = {
        name: predict(model, data if model.cleaning == STRIPPED else spelled) for name, model in models.items()
    }
    fitted = fit_baselines(fitted_on, training.labels).predict(sequences)
    predicted["tag rule"] = fitted["tag_rule"]
    predicted["composition regression"] = fitted["composition"]
    rows = [
        {"name": name, "metrics": to_json(evaluate(data.labels, probabilities))}
        for name, probabilities in predicted.items()
    ]
    return {
        "name": data.name,
        "variant": variant,
        "proteins": len(data.sequences),
        "rows": rows,
        "reliability": reliability(data.labels, predicted["this model"]),
    }


def baselines(training: Set) -> dict:
    """Fit the two baselines on the training split as published, for `eqxesm evaluate`."""
    sequences = [AS_PUBLISHED.clean(sequence).sequence for sequence in training.sequences]
    return describe(fit_baselines(sequences, training.labels))


def auroc(measured: dict, name: str) -> str:
    """Look the AUROC of one row up."""
    row = next(row for row in measured["rows"] if row["name"] == name)
    return f"{row['metrics']['auroc']['value']:.3f}"


def make_record(
    best: str,
    losses: dict[str, float],
    config: TrainConfig,
    described: list[dict],
    training: Set,
    validation: Set,
    sets: list[dict],
    seconds: float,
) -> dict:
    """Write down what the card tells."""
    other = next(head for head in HEADS if head != best)
    ranking = " and ".join(
        f"{auroc(data, 'this model')} beside {auroc(data, 'composition regression')} on {data['name']}"
        for data in sets
        if data["variant"] == STRIPPED_VARIANT
    )
    compared = ", ".join(f"{head} {loss:.4f}" for head, loss in losses.items())
    return {
        "name": "default",
        "summary": f"The {best} baseline, which eqxesm ships so that there is something to predict "
        "with offline. It is a modest model. With tags stripped, which is how it sees every "
        f"protein, its AUROC is {ranking} for a logistic regression on amino-acid composition. It "
        f"was chosen over the {other} baseline by its loss on the held-out fold; the tables show "
        "both.",
        "training": {
            "data": described,
            "hygiene": "Taken out of these sets beforehand: every sequence with an alignment of at "
            "least 30% identity over at least half of either sequence to the DeepSol test or the "
            "PLM_Sol test, exact duplicates, sequences whose labels conflict, and rows that are no protein (one of "
            "DeepSol's is DNA). One fold in ten "
            "of whole 30%-identity clusters was held out for early stopping, the choice between "
            f"baselines and calibration: {len(training.sequences):,} proteins to train on, "
            f"{len(validation.sequences):,} held out.",
            "datasets": ["proteinea/solubility"],
            "citations": CITATIONS,
            "calibrated_on": f"the held-out fold, in which {validation.labels.mean():.0%} are soluble",
            "recipe": {
                "Command": "`python model_cards/default/make.py --data DATA`",
                "Optimiser": f"AdamW, peak learning rate {config.learning_rate}, weight decay "
                f"{config.weight_decay}, at most {config.epochs} epochs, stopped after "
                f"{config.patience} without a better held-out loss",
                "Seed": config.seed,
                "Held-out cross-entropy after calibration": compared,
                "Hardware": f"{platform.machine()} CPU, no accelerator",
                "Duration": f"{seconds / 60:.0f} minutes for three trainings and their measurement",
                "Versions": describe_versions(),
            },
        },
        "evaluation": {
            "intervals": "Neither test set was used in training or selection. In parentheses "
            "bootstrap 95% intervals over proteins (1,000 resamples).",
            "sets": sets,
        },
        "limits": LIMITS,
        "baselines": baselines(training),
    }


def main() -> None:
    """Do it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--out", type=Path, help="checkpoint folder (default: inside the package)")
    parser.add_argument("--epochs", type=int, default=TrainConfig.epochs)
    parser.add_argument("--proteins", type=int, help="try it out on this many")
    options = parser.parse_args()
    recipes = {head: dataclasses.replace(recipe, epochs=options.epochs) for head, recipe in RECIPES.items()}
    started = time.monotonic()
    training, validation, described = read_pool(options.data / "train_pool" / "pool.csv", options.proteins)
    trained = {head: train(head, STRIPPED, recipes[head], training, validation) for head in HEADS}
    best = min(trained, key=lambda head: trained[head][1])
    origin = Provenance("model_cards/default/make.py", license="apache-2.0")
    model = trained[best][0].replace(about=About(origin))
    left, _ = train(best, AS_PUBLISHED, recipes[best], training, validation)
    other = next(head for head in HEADS if head != best)
    sets = []
    for data in read_test(options.data, options.proteins):
        models = {"this model": model, f"{other} baseline": trained[other][0]}
        sets.append(measure(data, STRIPPED, STRIPPED_VARIANT, training, models))
        models |= {f"{best} trained with tags left": left}
        sets.append(measure(data, AS_PUBLISHED, "as published", training, models))
    losses = {head: loss for head, (_, loss) in trained.items()}
    seconds = time.monotonic() - started
    record = make_record(best, losses, recipes[best], described, training, validation, sets, seconds)
    folder = options.out or PACKAGED
    bins = {data["name"]: data["reliability"] for data in sets if data["variant"] == STRIPPED_VARIANT}
    model.save_pretrained(folder, record, {CALIBRATION: draw_calibration(bins)})
    card = (folder / CARD).read_text(encoding="utf-8")
    write_file(folder / CARD, replace_name(card, HERE_NAMED, "default"))
    if options.out is None:
        for name in (CARD, METRICS, CALIBRATION):
            shutil.copy(folder / name, HERE / name)
    print(json.dumps({"best": best, "losses": losses, "folder": str(folder)}))


if __name__ == "__main__":
    main()
