"""The model card: a page filled from recorded facts alone."""

from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import jinja2
import yaml


def render_card(sections: Mapping[str, Any], record: Mapping[str, Any] | None = None) -> str:
    """Render the card of a model.

    Args:
        sections: the sections of its `config.json`.
        record: how it was trained and evaluated, as `metrics.json` holds it, where that is known.

    Returns:
        Markdown with YAML metadata on top.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    name = "solubility.md.j2" if "head" in sections else "encoder.md.j2"
    template = environment.from_string(
        (files("eqxesm") / "checkpoint" / "templates" / name).read_text()
    )
    metadata = yaml.safe_dump(_metadata(sections, record), sort_keys=False)
    body = template.render(**sections, record=record, version=version("eqxesm"))
    return f"---\n{metadata}---\n\n{body.rstrip()}\n"


def _metadata(sections: Mapping[str, Any], record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fill the fields that the Hub reads; https://huggingface.co/docs/hub/model-cards."""
    solubility = "head" in sections
    provenance = sections["provenance"] or {}
    metadata: dict[str, Any] = {"library_name": "eqxesm"}
    if provenance.get("license"):
        metadata["license"] = provenance["license"]
    metadata["pipeline_tag"] = "text-classification" if solubility else "fill-mask"
    metadata["tags"] = ["biology", "protein", "jax", "equinox"]
    metadata["tags"] += ["solubility"] if solubility else []
    metadata["tags"] += ["esm"] if sections["encoder"]["type"] == "esmc" else []
    if record:
        metadata["metrics"] = ["accuracy", "matthews_correlation", "roc_auc"]
    return metadata
