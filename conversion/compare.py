"""How far the port is from an original, and how far it may be."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float

from conversion.originals import Rungs

FLOAT32_TOLERANCE = 1e-5
"""Relative L2 distance of any rung from the float32 original."""

BFLOAT16_TOLERANCE = 3e-2
"""The same from the bfloat16 original."""

BFLOAT16_EXCESS = 1.2
"""How many times further from the float32 truth ours may be than the bfloat16 original is."""


@dataclass(frozen=True)
class Distance:
    """How far ours is from theirs.

    Attributes:
        relative_l2: norm of the difference over the norm of theirs.
        p999: the 99.9th percentile of the absolute difference.
        maximum: its maximum.
        cosine: of the angle between both.
    """

    relative_l2: float
    p999: float
    maximum: float
    cosine: float


def distance(ours: Float[np.ndarray, "n _"], theirs: Float[np.ndarray, "n _"]) -> Distance:
    """Measure the distance between two sets of vectors, in float64.

    Args:
        ours: what we computed `[n features]`.
        theirs: what the original did.

    Returns:
        The distance.
    """
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    difference = np.abs(ours - theirs)
    norms = np.linalg.norm(ours) * np.linalg.norm(theirs)
    return Distance(
        float(np.linalg.norm(difference) / np.linalg.norm(theirs)),
        float(np.percentile(difference, 99.9)),
        float(difference.max()),
        float((ours * theirs).sum() / norms),
    )


def compare(
    ours: Rungs, theirs: Rungs, truth: Rungs, kept: Bool[np.ndarray, "batch length"]
) -> dict[str, dict[str, float]]:
    """Compare rung by rung, residues only.

    Args:
        ours: what we computed.
        theirs: what the original did, in the same precision.
        truth: what the original did in float32.
        kept: True where there is no padding.

    Returns:
        For each rung the fields of `Distance` and both sides' distance to the truth.
    """
    return {
        name: {
            **asdict(distance(ours[name][kept], theirs[name][kept])),
            "ours_to_truth": distance(ours[name][kept], truth[name][kept]).relative_l2,
            "theirs_to_truth": distance(theirs[name][kept], truth[name][kept]).relative_l2,
        }
        for name in theirs
    }


def failures(rungs: dict[str, dict[str, float]], dtype: str) -> list[str]:
    """Name what is over tolerance.

    Args:
        rungs: what `compare` gave.
        dtype: precision of the run.

    Returns:
        A line for each rung that fails.
    """
    tolerance = FLOAT32_TOLERANCE if dtype == "float32" else BFLOAT16_TOLERANCE
    lines = []
    for name, found in rungs.items():
        # Written so that a distance which is no number fails.
        if not found["relative_l2"] <= tolerance:
            lines.append(f"{name}: relative L2 {found['relative_l2']:.1e} is over {tolerance:.0e}")
        bound = BFLOAT16_EXCESS * found["theirs_to_truth"]
        if dtype != "float32" and not found["ours_to_truth"] <= bound:
            lines.append(
                f"{name}: {found['ours_to_truth']:.1e} from the float32 truth, "
                f"over {BFLOAT16_EXCESS} times the original's {found['theirs_to_truth']:.1e}"
            )
    return lines
