"""What a model is, in words."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from eqxesm.checkpoint.format import METRICS
from eqxesm.checkpoint.schema import Provenance, describe
from eqxesm.encoders import ENCODERS
from eqxesm.errors import InputError
from eqxesm.solubility import SolubilityModel, provenance_of
from heads import HEADS


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read how a model was trained and evaluated.

    Args:
        folder: a checkpoint.

    Returns:
        What `save_pretrained` was given as its record, or None if nothing was recorded.

    Raises:
        InputError: it cannot be read.
    """
    path = folder / METRICS
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON: fetch or write it again") from error
    if not isinstance(record, dict) or not isinstance(record.get("summary"), str):
        raise InputError(f"{path}: has no summary: fetch or write it again")
    return record


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
    return {
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
    }
