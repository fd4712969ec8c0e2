"""The model card: a page made from recorded facts alone."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import jinja2
import yaml

from eqxesm.checkpoint.card_edits import note_fields
from eqxesm.checkpoint.licences import OTHER_LICENCES, licence_fields
from eqxesm.checkpoint.record import TRAINED_ON, Record
from eqxesm.config import REPOSITORY
from eqxesm.errors import InputError, one_line

HERE = "this folder or repository"
"""What a card calls the checkpoint until it is published."""

ESMC_CITATION = (
    "ESM-C: ESM Team (2024), ESM Cambrian: Revealing the mysteries of proteins with unsupervised "
    "learning, EvolutionaryScale, https://evolutionaryscale.ai/blog/esm-cambrian"
)

_INTERVAL = re.compile(r"([\d.]+) \((-?[\d.]+) to (-?[\d.]+)\)")
"""A figure with its interval, which tables must not break into lines."""

_ENCODER_TAGS = {"esmc": ["protein-language-model", "esmc", "esm"], "ssm": ["protein-language-model"]}
"""Tags by the type of the encoder. One-hot features are no language model."""

METRIC_TITLES = {"ece": "calibration error", "covered": "in the interval"}
"""How metrics are called that the Hub does not know."""

HUB_METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "mcc": ("matthews_correlation", "MCC"),
    "auroc": ("roc_auc", "AUROC"),
    "auprc": ("average_precision", "AUPRC"),
    "f1": ("f1", "F1"),
    "brier": ("brier_score", "Brier score"),
    "spearman": ("spearmanr", "Spearman"),
    "r2": ("r_squared", "R2"),
    "pearson": ("pearsonr", "Pearson"),
    "rmse": ("rmse", "RMSE"),
    "macro_f1": ("f1", "macro F1"),
}
"""Metrics by our key: the Hub's name, and the one that people read."""


def title_metric(name: str) -> str:
    """A metric as people read it."""
    return HUB_METRICS[name][1] if name in HUB_METRICS else METRIC_TITLES.get(name, name)


def render_card(sections: Mapping[str, Any], record: Record | None = None) -> str:
    """Render the card from the sections of `config.json` and the record: Markdown below YAML."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        loader=jinja2.FunctionLoader(_read_template),
    )
    kind = "assay" if sections.get("targets") else "solubility" if "head" in sections else "encoder"
    template = environment.get_template(f"{kind}.md.j2")
    facts = None
    try:
        if record is not None:
            facts = {"name": None, "parity": None, "pretraining": None, **record.facts}
        fields = _metadata(sections, facts)
        metadata = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
        body = template.render(
            **{**sections, **({"targets": _escape(sections["targets"])} if sections.get("targets") else {})},
            facts=facts,
            pictures=record.pictures if record else {},
            citations=_citations(sections, facts),
            features=_name_features(sections),
            here=HERE,
            licence_links=OTHER_LICENCES,
            parity=_format_parity,
            title=title_metric,
            note=note_fields(fields),
            version=version("eqxesm"),
        )
    except (
        jinja2.TemplateError, yaml.YAMLError, LookupError, ArithmeticError, TypeError, ValueError,
        AttributeError, RecursionError,
    ) as error:  # fmt: skip
        raise InputError(f"the record of the model does not fit the card ({one_line(error)})") from error
    body = _INTERVAL.sub("\\1\u00a0(\\2\u00a0to\u00a0\\3)", re.sub(r"\n{3,}", "\n\n", body).strip())
    return f"---\n{metadata}---\n\n{body}\n"


def _escape(values: Any) -> Any:
    """Texts that Markdown takes as they are, also in tables."""
    if isinstance(values, dict):
        return {key: _escape(each) for key, each in values.items()}
    if isinstance(values, list):
        return [_escape(each) for each in values]
    return values.replace("<", "&lt;").replace("|", "\\|") if isinstance(values, str) else values


def _read_template(name: str) -> str:
    return (files("eqxesm") / "checkpoint" / "templates" / name).read_text(encoding="utf-8")


def _metadata(sections: Mapping[str, Any], facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields that the Hub reads; https://huggingface.co/docs/hub/model-cards."""
    has_head, targets = "head" in sections, sections.get("targets")
    provenance, base = sections["provenance"] or {}, sections.get("base")
    metadata: dict[str, Any] = {"library_name": "eqxesm", **licence_fields(provenance.get("license"))}
    metadata["pipeline_tag"] = "text-classification" if has_head else "fill-mask"
    origin = str(provenance.get("source", "")).removeprefix(TRAINED_ON)
    if base or (provenance.get("revision") and REPOSITORY.fullmatch(origin)):
        metadata["base_model"] = base["repository"] if base else origin
        if has_head:
            adapter = sections["form"] == "adapter"
            metadata["base_model_relation"] = "adapter" if adapter else "finetune"
    metadata["tags"] = ["biology", "protein", "jax", "equinox"]
    metadata["tags"] += ["solubility"] if has_head and not targets else []
    metadata["tags"] += _ENCODER_TAGS.get(_language_model(sections)["type"], [])
    if not facts or not has_head:
        return metadata
    if sets := facts["training"].get("datasets"):
        metadata["datasets"] = list(sets)
    if measured := facts["evaluation"]["sets"]:
        known = {key for each in measured for key in each["rows"][0]["metrics"]}
        metadata["metrics"] = [name for key, (name, _) in HUB_METRICS.items() if key in known]
        metadata["model-index"] = [
            {
                "name": str(facts["name"] or "eqxesm model"),
                "results": [_result(each, "targets" in sections) for each in measured],
            }
        ]
    return metadata


def _result(measured: Mapping[str, Any], of_assay: bool) -> dict[str, Any]:
    """The figures of one test set; https://github.com/huggingface/hub-docs."""
    name = f"{measured['name']}, {measured['variant']}"
    return {
        "task": {"type": "text-classification", "name": measured["variant"] if of_assay else "Protein solubility"},
        "dataset": {"type": measured.get("dataset") or re.sub(r"\W+", "-", measured["name"]).lower(), "name": name},
        "metrics": [
            {
                "type": kind,
                # numpy's floats would become binary in YAML.
                "value": round(float(found["value"]), 4),
                "name": f"{title} (95%: {found['low']:.3f} to {found['high']:.3f})",
            }
            for key, (kind, title) in HUB_METRICS.items()
            if (found := measured["rows"][0]["metrics"].get(key))
        ],
    }


def _name_features(sections: Mapping[str, Any]) -> str:
    kind, provenance = sections["encoder"]["type"], sections["provenance"] or {}
    if kind == "with_properties":
        return f"properties of residues and {_name_features({**sections, 'encoder': sections['encoder']['encoder']})}"
    if kind != "esmc":
        return {"one_hot": "one-hot features", "ssm": "features of a state-space encoder"}[kind]
    # A port knows the hashes of the files that it read.
    published = sections.get("base") or provenance.get("sha256")
    return (
        "features of ESM-C" if published else "features of an encoder built like ESM-C, without its published weights"
    )


def _citations(sections: Mapping[str, Any], facts: Mapping[str, Any] | None) -> list[str]:
    recorded = facts["training"].get("citations", []) if facts and "head" in sections else []
    return [ESMC_CITATION] * (_language_model(sections)["type"] == "esmc") + list(recorded)


def _language_model(sections: Mapping[str, Any]) -> Mapping[str, Any]:
    """The encoder, without what puts properties of residues beside it."""
    return sections["encoder"].get("encoder", sections["encoder"])


def _format_parity(reports: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        "The port was compared with the PyTorch original, layer by layer, on real proteins. The "
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
