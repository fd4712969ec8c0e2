"""What a model is, in words."""

import dataclasses
from typing import Any

import equinox as eqx
import jax

from eqxesm.checkpoint.schema import Provenance, describe
from eqxesm.encoders import ENCODERS
from eqxesm.encoders.lora import describe_lora
from eqxesm.solubility import SolubilityModel, provenance_of
from heads import HEADS


def describe_model(model: SolubilityModel) -> dict[str, str]:
    """Say what a model is.

    Args:
        model: the model.

    Returns:
        Lines of text by heading.
    """

    def size(part: eqx.Module) -> str:
        arrays = jax.tree.leaves(eqx.filter(part, eqx.is_array))
        return f"{sum(array.size for array in arrays):,} parameters"

    def fields(config: Any) -> str:
        values = dataclasses.asdict(config).items()
        return ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in values
        )

    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))}
    origin = provenance_of(model) or Provenance("not recorded")
    encoder, head = describe(ENCODERS, model.encoder.config), describe(HEADS, model.head.config)
    base = getattr(model.encoder, "base", None)
    adapter = describe_lora(model.encoder)
    pairs = {
        "encoder": "; ".join(
            filter(None, (encoder["type"], size(model.encoder), fields(model.encoder.config)))
        ),
        "head": f"{head['type']}; {size(model.head)}; {fields(model.head.config)}",
        "precision": ", ".join(sorted(dtypes)),
        "cleaning": fields(model.cleaning),
        "calibration": fields(model.calibration),
        "limits": fields(model.limits),
        "source": origin.source,
        "revision": origin.revision or "none recorded",
        "licence": origin.license or "not recorded",
        "base": f"{base.repository} at {base.revision}" if base else "",
        "adapters": fields(adapter) if adapter else "",
    }
    return {heading: text for heading, text in pairs.items() if text}
