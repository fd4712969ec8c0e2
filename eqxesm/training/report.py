"""What a run records for the card of its model."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax

from eqxesm.checkpoint.record import About, without_folders
from eqxesm.config import describe
from eqxesm.data.hygiene_report import Hygiene, format_counts
from eqxesm.encoders import AbstractEncoder, OneHotConfig
from eqxesm.errors import pluralise
from eqxesm.evaluation.baselines import Baselines
from eqxesm.training.config import TrainConfig
from eqxesm.training.recipe import Pretrained, Recipe

LIMITS = [
    "The labels say whether a construct was soluble when laboratories expressed it in E. coli. "
    "Other hosts, temperatures, fusion partners and buffers are not in the data.",
    "Published solubility data carry cloning habits: where a tag is, and whether the initial Met is "
    "there, says much about the label. Look at the figures on the untagged proteins, and at those "
    "of the tag rule.",
    "Labels are noisy: a sequence may be soluble in one published set and insoluble in another.",
    "Trained on whole chains. A domain cut out of a longer chain is another construct.",
]

PREDICTORS = {"model": "this model", "tag_rule": "tag rule", "composition": "composition regression"}


def describe_run(
    recipe: Recipe,
    command: str,
    hygiene: Hygiene,
    baselines: Baselines,
    assessed: Mapping[str, Mapping[str, Any]],
    best_epoch: int,
    seconds: float,
    parity: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Facts about how a model was made, from what was measured alone."""
    sources = (*recipe.data.training, *recipe.data.validation)
    return {
        "name": recipe.name,
        "summary": recipe.summary or f"Trained by the recipe {recipe.name}.",
        "training": {
            "data": _describe_data(hygiene),
            "datasets": distinct(source.hub_set for source in sources),
            "citations": distinct(source.citation for source in recipe.sources),
            "hygiene": _describe_hygiene(hygiene),
            "calibrated_on": "the validation proteins",
            "recipe": describe_training(recipe.model.encoder, recipe.training, command, best_epoch, seconds),
        },
        "evaluation": {
            "intervals": "No test set was used in training or selection. In parentheses: 95% "
            "bootstrap intervals over proteins (1,000 resamples).",
            "sets": _describe_tests(recipe, hygiene, assessed),
        },
        "limits": LIMITS,
        "parity": list(parity),
        "baselines": describe(baselines),
    }


def describe_training(
    encoder: Any, config: TrainConfig, command: str, best_epoch: int, seconds: float
) -> dict[str, Any]:
    """How a model was trained from the encoder of a recipe, by heading."""
    return {
        **({"Command": f"`{command}`"} if command else {}),
        "Encoder": _describe_start(encoder, config.strategy),
        "Strategy": config.strategy,
        "Optimiser": f"AdamW, peak learning rate {config.learning_rate}, {config.schedule} "
        f"schedule, weight decay {config.weight_decay}, at most {config.epochs} epochs, "
        f"stopped after {config.patience} without a better validation loss; epoch "
        f"{best_epoch} was kept",
        "Seed": config.seed,
        "Hardware": describe_hardware(),
        "Duration": f"{seconds:.0f} seconds of training",
        "Versions": describe_versions(),
    }


def _describe_start(encoder: Any, strategy: str) -> str:
    if isinstance(encoder, Pretrained):
        return without_folders(encoder.pretrained)
    if isinstance(encoder, OneHotConfig):
        return "one-hot, without parameters"
    trained = {"joint": "trained with the head", "lora": "left as they were but for adapters"}
    return f"random weights, {trained.get(strategy, 'left as they were: its features know nothing of proteins')}"


def describe_hardware() -> str:
    """The devices that JAX uses."""
    return f"{pluralise(jax.device_count(), 'device')} of kind {jax.devices()[0].device_kind}, {platform.machine()}"


def describe_versions() -> str:
    """Versions of the packages that decide what comes of a training."""
    return ", ".join(f"{name} {version(name)}" for name in ("eqxesm", "jax", "equinox", "optax"))


def recorded_parity(encoder: AbstractEncoder) -> list[dict[str, Any]]:
    """What the record of an encoder says of its parity. Training makes another encoder, which has no record."""
    record = getattr(encoder, "about", About()).record
    return list(record.facts.get("parity") or []) if record else []


def _describe_tests(
    recipe: Recipe, hygiene: Hygiene, assessed: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    published = {s.name: s.hub_set for s in recipe.data.test}
    return [
        {
            "name": name,
            "variant": variant,
            "dataset": published.get(name),
            "proteins": measured[part]["proteins"],
            "too_long": hygiene.count(name, "too long"),
            "rows": [{"name": title, "metrics": measured[part][key]} for key, title in PREDICTORS.items()],
        }
        for name, measured in assessed.items()
        for part, variant in (("all", "as published"), ("untagged", "untagged, Met first"))
        if measured[part]["model"] is not None
    ]


def distinct(values: Iterable[str | None]) -> list[str]:
    """Texts that are there, each once."""
    return list(dict.fromkeys(value for value in values if value))


def _describe_data(hygiene: Hygiene) -> list[dict[str, Any]]:
    described: dict[tuple[str, str], dict[str, Any]] = {}
    for portion in hygiene.portions:
        if portion.split in ("training", "validation"):
            source, terms = portion.source, portion.license or "not recorded"
            new = {"name": source, "source": source, "license": terms, "proteins": 0, "soluble": 0}
            row = described.setdefault((source, terms), new)
            row["proteins"] += portion.read
            row["soluble"] += portion.soluble
    return list(described.values())


def _describe_hygiene(hygiene: Hygiene) -> str:
    splits = {}
    for split in ("training", "validation"):
        own = [portion for portion in hygiene.portions if portion.split == split]
        read, kept = sum(p.read for p in own), sum(p.kept for p in own)
        reasons: dict[str, int] = {}
        for portion in own:
            for rule, number in portion.left_out.items():
                reasons[rule] = reasons.get(rule, 0) + number
        why = f" (left out: {format_counts(reasons)})" if reasons else ""
        splits[split] = f"{kept:,} of {read:,} proteins for {split}{why}"
    return (
        f"Kept: {splits['training']}, and {splits['validation']}. Leaks between training, "
        f"validation and test sets that were found and left out: {hygiene.format_leaks()}. Longest protein: "
        f"{hygiene.limit} residues ({hygiene.limit_rule})."
    )
