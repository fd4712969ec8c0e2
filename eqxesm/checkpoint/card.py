"""The model card: a page filled from recorded facts alone."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import jinja2
import yaml

from eqxesm.checkpoint.card_edits import note_fields
from eqxesm.checkpoint.reading import one_line
from eqxesm.checkpoint.record import Record
from eqxesm.checkpoint.schema import REPOSITORY, TRAINED_ON
from eqxesm.errors import InputError

HERE = "this folder or repository"
"""What a card calls the checkpoint until it is published."""

ESMC_CITATION = (
    "ESM-C: ESM Team (2024), ESM Cambrian: Revealing the mysteries of proteins with unsupervised "
    "learning, EvolutionaryScale, https://evolutionaryscale.ai/blog/esm-cambrian"
)

METRICS_THERE = {
    "accuracy": ("accuracy", "Accuracy"),
    "mcc": ("matthews_correlation", "MCC"),
    "auroc": ("roc_auc", "AUROC"),
    "auprc": ("average_precision", "AUPRC"),
    "f1": ("f1", "F1"),
    "brier": ("brier_score", "Brier score"),
}
"""Our metrics by the names that the Hub knows them by, and by those that people read."""


def render_card(sections: Mapping[str, Any], record: Record | None = None) -> str:
    """Render the card of a model.

    Args:
        sections: the sections of its `config.json`.
        record: how it was made and measured, where that is known.

    Returns:
        Markdown with YAML metadata on top.

    Raises:
        InputError: the record is not of the form that this version writes.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    name = "solubility.md.j2" if "head" in sections else "encoder.md.j2"
    template = environment.from_string(
        (files("eqxesm") / "checkpoint" / "templates" / name).read_text(encoding="utf-8")
    )
    facts = None
    try:
        if record is not None:
            facts = {"name": None, "parity": None, **record.facts}
        fields = _metadata(sections, facts)
        metadata = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
        body = template.render(
            **sections,
            facts=facts,
            pictures=dict(record.pictures) if record else {},
            citations=_citations(sections, facts),
            here=HERE,
            parity=_describe_parity,
            note=note_fields(fields),
            version=version("eqxesm"),
        )
    except (
        jinja2.TemplateError, yaml.YAMLError, LookupError, ArithmeticError, TypeError, ValueError,
        AttributeError, RecursionError,
    ) as error:  # fmt: skip
        raise InputError(
            f"the record of the model is not one that a card is made from ({one_line(error)}): "
            "leave it out, or write it as eqxesm train does"
        ) from error
    body = re.sub(r"\n{3,}", "\n\n", body).strip()
    return f"---\n{metadata}---\n\n{body}\n"


def _metadata(sections: Mapping[str, Any], facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fill the fields that the Hub reads; https://huggingface.co/docs/hub/model-cards."""
    solubility = "head" in sections
    provenance, base = sections["provenance"] or {}, sections.get("base")
    metadata: dict[str, Any] = {"library_name": "eqxesm"}
    if provenance.get("license"):
        metadata["license"] = provenance["license"]
    metadata["pipeline_tag"] = "text-classification" if solubility else "fill-mask"
    origin = str(provenance.get("source", "")).removeprefix(TRAINED_ON)
    if base or (provenance.get("revision") and REPOSITORY.fullmatch(origin)):
        metadata["base_model"] = base["repository"] if base else origin
        if solubility:
            adapter = sections["form"] == "adapter"
            metadata["base_model_relation"] = "adapter" if adapter else "finetune"
    metadata["tags"] = ["biology", "protein", "jax", "equinox"]
    metadata["tags"] += ["solubility"] if solubility else []
    metadata["tags"] += ["esm"] if sections["encoder"]["type"] == "esmc" else []
    if not facts or not solubility:
        return metadata
    if sets := facts["training"].get("datasets"):
        metadata["datasets"] = list(sets)
    if facts["evaluation"]["sets"]:
        metadata["metrics"] = [name for name, _ in METRICS_THERE.values()]
        metadata["model-index"] = [
            {
                "name": str(facts["name"] or "eqxesm model"),
                "results": [_result(each) for each in facts["evaluation"]["sets"]],
            }
        ]
    return metadata


def _result(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Write one test set's figures of the model; https://github.com/huggingface/hub-docs."""
    name = f"{measured['name']}, {measured['variant']}"
    # Plain floats: those of numpy become binary in YAML.
    return {
        "task": {"type": "text-classification", "name": "Protein solubility"},
        "dataset": {
            "type": measured.get("dataset") or re.sub(r"\W+", "-", measured["name"]).lower(),
            "name": name,
        },
        "metrics": [
            {
                "type": kind,
                "value": round(float(found["value"]), 4),
                "name": f"{title} (95%: {found['low']:.3f} to {found['high']:.3f})",
            }
            for key, (kind, title) in METRICS_THERE.items()
            if (found := measured["rows"][0]["metrics"].get(key))
        ],
    }


def _citations(sections: Mapping[str, Any], facts: Mapping[str, Any] | None) -> list[str]:
    recorded = facts["training"].get("citations", []) if facts and "head" in sections else []
    return [ESMC_CITATION] * (sections["encoder"]["type"] == "esmc") + list(recorded)


def _describe_parity(reports: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        "The port was held against the PyTorch original, layer by layer, on real proteins. The "
        "distance is the largest relative L2 of any layer in any case.",
        "",
        "| original | precision | device | distance | tolerance | weights | date |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {each['original']} | {each['dtype']} | {each['device']} | {each['distance']:.1e} | "
        f"{each['tolerance']:.0e} | {each['weights']} | {each['date']} |"
        for each in reports
    ]
    return "\n".join(rows)
