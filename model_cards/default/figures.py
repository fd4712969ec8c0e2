"""Figures of the default model, beside those of simpler predictors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from peers import fit_boosting, hand_features
from pool import SOURCES, Proteins
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from eqxesm import SolubilityModel
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.vectors import LEADERS, TRAILERS
from eqxesm.evaluation import evaluate, expected_calibration_error, fit_baselines, to_json
from eqxesm.evaluation.assess import reliability
from eqxesm.training import Examples, score_examples

RESAMPLES = 1000
STRIPPED = "tags, vector residues and initial Met stripped"
STRETCHES = ("GAMDPEFK", "SNRTQVDL", "MVSKGAEQ", "GTSLEDPR", "AHMKLQNE", "GIQPSRVT", "MEDLTSRA", "SPGTDYKR", "AVDNLEQW",
             "MRKPGSTE")  # fmt: skip
"""Vector-like residues that no table lists, made up by hand."""

Table = dict[str, Any]


def show(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def auroc(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, " n"]) -> str:
    """AUROC with its interval."""
    found = evaluate(labels, probabilities, resamples=RESAMPLES)["auroc"]
    return show(found.value, found.low, found.high)


def difference(labels: Int[np.ndarray, " n"], ours: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " n"]) -> str:
    """How much higher our AUROC is, with a paired bootstrap interval over proteins."""
    rng, differences = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(labels), size=len(labels))
        differences.append(roc_auc_score(labels[drawn], ours[drawn]) - roc_auc_score(labels[drawn], theirs[drawn]))
    return show(
        roc_auc_score(labels, ours) - roc_auc_score(labels, theirs), *np.quantile(differences, [0.025, 0.975]).tolist()
    )


def compare_out_of_fold(data: Proteins, ours: Float[np.ndarray, " n"]) -> Table:
    """Every protein predicted by models that saw no protein of its fold."""
    hand = np.stack([hand_features(each) for each in data.cleaned])
    boosted, composition = np.zeros(len(ours)), np.zeros(len(ours))
    for fold in np.unique(data.folds):
        own, rest = np.flatnonzero(data.folds == fold), np.flatnonzero(data.folds != fold)
        boosted[own] = fit_boosting(hand[rest], data.labels[rest])(hand[own])
        composition[own] = predict_composition(data, rest, own)
    rows = []
    for name in ("all", *SOURCES):
        chosen = np.flatnonzero((data.sources == name) | (name == "all"))
        truth, model = data.labels[chosen], ours[chosen]
        rows.append([
            name, f"{len(chosen):,}", auroc(truth, model), difference(truth, model, boosted[chosen]),
            difference(truth, model, composition[chosen]), f"{expected_calibration_error(truth, model):.3f}",
        ])  # fmt: skip
    return {
        "title": "Cross-validation",
        "text": "Every protein of the training data, predicted by a model that saw no protein of its fold; temperatures "
        "were fitted on the other folds. Beside it 94 hand-made features with gradient boosting (scikit-learn, five "
        "seeds) and a logistic regression on composition and length.",
        "columns": ["source", "proteins", "AUROC", "above boosting by", "above composition by", "calibration error"],
        "rows": rows,
    }


def predict_composition(
    data: Proteins, training: Int[np.ndarray, " _"], asked: Int[np.ndarray, " _"]
) -> Float[np.ndarray, " _"]:
    baselines = fit_baselines([data.cleaned[number] for number in training], data.labels[training])
    return baselines.composition.predict([data.cleaned[number] for number in asked])


def compare_by_source(data: Proteins, ours: Float[np.ndarray, " n"]) -> Table:
    """Every source predicted by a model that saw neither it nor relatives of its proteins."""
    rows = []
    for name in SOURCES:
        own = np.flatnonzero(data.sources == name)
        others = np.flatnonzero(data.unrelated(name))
        composition = predict_composition(data, others, own)
        truth = data.labels[own]
        rows.append([name, f"{len(own):,}", auroc(truth, ours[own]), difference(truth, ours[own], composition)])
    return {
        "title": "A source held out whole",
        "text": "Each source, predicted by a model that saw neither its proteins nor any of the same 30% clusters. With "
        "DeepSol or ProtSol both are held out, since they are samples of one data set.",
        "columns": ["source", "proteins", "AUROC", "above composition by"],
        "rows": rows,
    }


def measure_scars(model: SolubilityModel, data: Proteins, each_class: int) -> Table:
    """What vector residues before or behind proteins without any do to the probability."""
    rng = np.random.default_rng(0)
    bare = [number for number, each in enumerate(data.sequences) if not model.cleaning.clean(each).notes]
    by_label = [[number for number in bare if data.labels[number] == label] for label in (0, 1)]
    chosen = np.concatenate([rng.permutation(each)[:each_class] for each in by_label])
    sequences = [data.sequences[number] for number in chosen]
    before = model.predict(sequences)
    cleaned = [model.clean(each).sequence for each in sequences]

    def shifts(ends: Sequence[tuple[str, str]]) -> list[tuple[float, float]]:
        """Change of the mean probability, and share of the proteins whose call flips, by what stands around them."""
        changed = [[f"{first}{each}{last}" for each in sequences] for first, last in ends]
        left = [[model.clean(each).sequence for each in some] for some in changed]
        known = dict(zip(cleaned, before, strict=True))
        new = {
            rest: whole
            for rests, some in zip(left, changed, strict=True)
            for rest, whole in zip(rests, some, strict=True)
        }
        asked = [rest for rest in new if rest not in known]
        # All at once, since each call compiles for the lengths that it is given.
        known |= dict(zip(asked, model.predict([new[rest] for rest in asked], progress=True), strict=True))
        return [compare(np.array([known[rest] for rest in rests])) for rests in left]

    def compare(after: Float[np.ndarray, " n"]) -> tuple[float, float]:
        flips = (after >= model.calibration.threshold) != (before >= model.calibration.threshold)
        return abs(float((after - before).mean())), float(flips.mean())

    linkers = ["".join(rng.choice(list("GGS"), rng.integers(4, 15))) for _ in range(10)]
    kinds = {
        "listed leaders and trailers": [
            *((end, "") for end in cut(LEADERS, before=True)),
            *(("", end) for end in cut(TRAILERS, before=False)),
        ],
        "linkers and other stretches": [pair for end in (*linkers, *STRETCHES) for pair in ((end, ""), ("", end))],
    }
    found = {name: shifts(ends) for name, ends in kinds.items()}
    rows = [
        [name, str(len(some)), f"{max(each[0] for each in some):.3f}", f"{max(each[1] for each in some):.1%}"]
        for name, some in found.items()
    ]
    return {
        "title": "Residues of vectors",
        "text": f"Put before or behind {len(chosen):,} training proteins that have none, half of them soluble. What is "
        "listed is stripped. The others, 10 linkers of glycine and serine and 10 stretches made up by hand, each before "
        "and behind, are in no table. The largest change of each kind.",
        "columns": ["residues", "kinds", "change of the mean probability", "calls that flip"],
        "rows": rows,
    }


def cut(table: Sequence[tuple[str, str, str]], *, before: bool) -> list[str]:
    """What stands before (or behind) a protein, at every place where vectors are cut."""
    ends = set()
    for _, residues, _ in table:
        parts = residues.split("|")
        for number in range(1, len(parts)):
            ends.add("".join(parts[:number] if before else parts[number:]))
    return sorted(ends - {""})


def measure_tests(
    model: SolubilityModel, data: Proteins, tests: Mapping[str, tuple[list[str], np.ndarray]]
) -> list[dict[str, Any]]:
    """The model beside boosting and the two baselines on the test sets."""
    boosted = fit_boosting(np.stack([hand_features(each) for each in data.cleaned]), data.labels)
    stripped = fit_baselines(data.cleaned, data.labels)
    published = fit_baselines([Cleaning().clean(each).sequence for each in data.sequences], data.labels)
    sets = []
    for name, (asked, labels) in tests.items():
        cleaned = [model.cleaning.clean(each).sequence for each in asked]
        predicted = {
            "this model": predict(model, asked),
            "hand features, boosting": boosted(np.stack([hand_features(each) for each in cleaned])),
            "composition regression": stripped.composition.predict(cleaned),
            "tag rule, as published": published.predict([Cleaning().clean(each).sequence for each in asked])[
                "tag_rule"
            ],
        }
        rows = [{"name": row, "metrics": to_json(evaluate(labels, each))} for row, each in predicted.items()]
        sets.append({
            "name": name, "variant": STRIPPED, "proteins": len(asked), "rows": rows,
            "reliability": reliability(labels, predicted["this model"]),
        })  # fmt: skip
    return sets


def predict(model: SolubilityModel, sequences: Sequence[str]) -> Float[np.ndarray, " _"]:
    """Predict without refusing the few test proteins longer than any in training."""
    tokens = [model.tokenize(model.cleaning.clean(sequence)) for sequence in sequences]
    return expit(score_examples(model, Examples(tokens, np.zeros(len(tokens), int))) / model.calibration.temperature)
