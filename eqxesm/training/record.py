"""What a run writes down for the card of its model."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax

from eqxesm.data.hygiene import Hygiene
from eqxesm.data.tags import count
from eqxesm.evaluation.baselines import Baselines
from eqxesm.training.plan import Recipe

LIMITS = [
    "The labels say whether a construct was soluble when laboratories expressed it in E. coli. "
    "Other hosts, temperatures, fusion partners and buffers are not in the data.",
    "Published solubility data carry cloning habits: a tag's place and the initial Met tell much "
    "of the label. Look at the figures on the untagged proteins, and at the tag rule's.",
    "Labels are noisy: one sequence may be soluble in one published set and insoluble in another.",
    "Trained on whole chains; a domain cut out of a longer chain is another construct.",
]
NAMES = {
    "model": "this model",
    "tag_rule": "tag rule",
    "composition": "composition regression",
}


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
    """Write down how a model was made, from what was measured alone.

    Args:
        recipe: the recipe.
        command: that makes it again, or nothing.
        hygiene: the report on the data.
        baselines: fitted on the same training proteins.
        assessed: what `assess` gave, by the name of the test set.
        best_epoch: which epoch was kept.
        seconds: how long the epochs took together.
        parity: what is recorded of the port of the encoder that it started from.

    Returns:
        The record that `SolubilityModel.save_pretrained` takes.
    """
    config, sources = recipe.config, (*recipe.training, *recipe.validation)
    published = {source.name: source.path for source in recipe.tests if source.revision is not None}
    sets = []
    for name, measured in assessed.items():
        for part, variant in (("all", "as published"), ("untagged", "untagged, Met first")):
            if measured[part]["model"] is None:
                continue
            rows = [{"name": title, "metrics": measured[part][key]} for key, title in NAMES.items()]
            proteins = measured[part]["proteins"]
            sets.append(
                {
                    "name": name,
                    "variant": variant,
                    "dataset": published.get(name),
                    "proteins": proteins,
                    "rows": rows,
                }
            )
    return {
        "name": recipe.name,
        "summary": recipe.summary or f"Trained by the recipe {recipe.name}.",
        "training": {
            "data": _describe_data(hygiene),
            "datasets": _distinct(source.path for source in sources if source.revision is not None),
            "citations": _distinct(source.citation for source in (*sources, *recipe.tests)),
            "hygiene": _describe_hygiene(hygiene),
            "calibrated_on": "the validation proteins",
            "recipe": {
                **({"Command": f"`{command}`"} if command else {}),
                "Strategy": config.strategy,
                "Optimiser": f"AdamW, peak learning rate {config.learning_rate}, {config.schedule} "
                f"schedule, weight decay {config.weight_decay}, at most {config.epochs} epochs, "
                f"stopped after {config.patience} without a better validation loss; epoch "
                f"{best_epoch} was kept",
                "Seed": config.seed,
                "Hardware": f"{count(jax.device_count(), 'device')} of kind "
                f"{jax.devices()[0].device_kind}, {platform.machine()}",
                "Duration": f"{seconds:.0f} seconds of training",
                "Versions": ", ".join(
                    f"{name} {version(name)}" for name in ("eqxesm", "jax", "equinox", "optax")
                ),
            },
        },
        "evaluation": {
            "intervals": "No test set was used in training or selection. In parentheses bootstrap "
            "95% intervals over proteins (1,000 resamples).",
            "sets": sets,
        },
        "limits": LIMITS,
        "parity": list(parity),
        "baselines": baselines.to_plain(),
    }


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _describe_data(hygiene: Hygiene) -> list[dict[str, Any]]:
    described: dict[tuple[str, str | None], dict[str, Any]] = {}
    for portion in hygiene.portions:
        if portion.split not in ("training", "validation"):
            continue
        row = described.setdefault(
            (portion.source, portion.license),
            {
                "name": portion.source,
                "source": portion.source,
                "license": portion.license or "not recorded",
                "proteins": 0,
                "soluble": 0,
            },
        )
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
        why = ", ".join(f"{number} {rule}" for rule, number in reasons.items())
        splits[split] = f"{kept:,} of {read:,} for {split}" + (f" (left out: {why})" if why else "")
    leaks = "; ".join(f"{kind}: {found}" for kind, found in hygiene.leakage.items())
    return (
        f"Kept were {splits['training']} and {splits['validation']}. Leaks between training, "
        f"validation and test sets that were found and left out: {leaks}. Longest protein: "
        f"{hygiene.limit} residues ({hygiene.limit_rule})."
    )
