"""What a model is, in words."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax

from eqxesm.assay import AssayModel
from eqxesm.checkpoint.leaves import named_leaves
from eqxesm.checkpoint.record import Provenance
from eqxesm.domain import UNLIKE, Domain
from eqxesm.encoders.lora import describe_lora
from eqxesm.forms import COVERED, GROUP, Calibration
from eqxesm.model import SolubilityModel
from eqxesm.targets import COVERED as COVERED_VALUES
from eqxesm.targets import Target


def describe_model(model: SolubilityModel | AssayModel) -> dict[str, str]:
    """Parts, settings and origin of a model, by heading."""
    dtypes = {str(leaf.dtype) for leaf in named_leaves([model.encoder, model.head]).values()}
    origin = model.about.provenance or Provenance("not recorded")
    base, adapter = model.about.base, describe_lora(model.encoder)
    facts = model.about.record.facts if model.about.record else {}
    pairs = {
        "encoder": _describe_part(model.encoder),
        "head": _describe_part(model.head),
        "precision": ", ".join(sorted(dtypes)),
        "cleaning": format_fields(model.cleaning),
        **(_describe_solubility(model) if isinstance(model, SolubilityModel) else _describe_targets(model.targets)),
        "limits": format_fields(model.limits),
        "source": origin.source,
        "revision": origin.revision or "not recorded",
        "licence": origin.license or "not recorded",
        "base": f"{base.repository} at {base.revision}" if base else "",
        "adapters": format_fields(adapter) if adapter else "",
        "record": facts.get("summary", "not recorded"),
    }
    return {heading: text for heading, text in pairs.items() if text}


def _describe_part(part: Any) -> str:
    arrays = jax.tree.leaves(eqx.filter(part, eqx.is_array))
    size = f"{sum(array.size for array in arrays):,} parameters"
    return "; ".join(filter(None, (part.config.type, size, format_fields(part.config))))


def _describe_solubility(model: SolubilityModel) -> dict[str, str]:
    return {
        "calibration": format_fields(model.calibration),
        "interval": _describe_interval(model.calibration),
        "domain": _describe_domain(model.domain),
    }


def _describe_targets(targets: Sequence[Target]) -> dict[str, str]:
    return {f"predicts {target.title}": _describe_target(target) for target in targets}


def _describe_target(target: Target) -> str:
    if not target.is_number:
        return f"{target.kind}: {', '.join(target.classes)}; temperature {target.temperature:.3g}"
    within = (
        "" if target.margin is None else f"; {COVERED_VALUES:.0%} of validation proteins within {target.margin:.3g}"
    )
    return f"{target.kind}{within}"


def _describe_interval(calibration: Calibration) -> str:
    if calibration.margin is None:
        return ""
    return (
        f"{calibration.margin:.2f} to both sides of the logit of the probability. Of groups of {GROUP} held-out "
        f"proteins of one source with similar probabilities, {COVERED:.0%} had their share of soluble ones within it."
    )


def _describe_domain(domain: Domain | None) -> str:
    if domain is None:
        return ""
    return (
        f"a protein is noted as {UNLIKE} if the mean of its features is further than {float(domain.limit):.1f} from "
        f"theirs (Mahalanobis distance); {1 - domain.config.share:.0%} of held-out proteins are."
    )


def format_fields(config: Any) -> str:
    """The fields of a configuration in words."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return ", ".join(_format_field(name, each) for name, each in values.items() if name != "type" and each is not None)


def _format_field(name: str, value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return f"{name} {getattr(value, 'type', '')} ({format_fields(value)})"
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return f"{name} ({'; '.join(format_fields(each) for each in value)})"
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
