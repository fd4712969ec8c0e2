"""How far the port is from an original, and how far it may be."""

import numpy as np
from jaxtyping import Bool, Float

from conversion.originals import Rungs

TOLERANCES = {"float32": 1e-5, "bfloat16": 3e-2}
"""Relative L2 distance of any rung from an original of that precision, at most."""

BFLOAT16_EXCESS = 1.2
"""How many times further from the float32 truth ours may be than the bfloat16 original is."""


def distance(ours: Float[np.ndarray, "n _"], theirs: Float[np.ndarray, "n _"]) -> dict[str, float]:
    """Relative L2, 99.9th percentile and maximum of the absolute difference, and cosine, in float64."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    difference = np.abs(ours - theirs)
    norms = np.linalg.norm(ours) * np.linalg.norm(theirs)
    return {
        "relative_l2": float(np.linalg.norm(difference) / np.linalg.norm(theirs)),
        "p999": float(np.percentile(difference, 99.9)),
        "maximum": float(difference.max()),
        "cosine": float((ours * theirs).sum() / norms),
    }


def compare(
    ours: Rungs, theirs: Rungs, truth: Rungs, kept: Bool[np.ndarray, "batch length"]
) -> dict[str, dict[str, float]]:
    """Distances by rung, over the positions in `kept`. `truth` is the float32 original."""
    return {
        name: {
            **distance(ours[name][kept], theirs[name][kept]),
            "ours_to_truth": distance(ours[name][kept], truth[name][kept])["relative_l2"],
            "theirs_to_truth": distance(theirs[name][kept], truth[name][kept])["relative_l2"],
        }
        for name in theirs
    }


def find_failures(rungs: dict[str, dict[str, float]], dtype: str) -> list[str]:
    """Name every rung that is over tolerance."""
    tolerance = TOLERANCES[dtype]
    lines = []
    for name, found in rungs.items():
        # Written so that NaN fails.
        if not found["relative_l2"] <= tolerance:
            lines.append(f"{name}: relative L2 {found['relative_l2']:.1e} is over {tolerance:.0e}")
        bound = BFLOAT16_EXCESS * found["theirs_to_truth"]
        if dtype != "float32" and not found["ours_to_truth"] <= bound:
            lines.append(
                f"{name}: {found['ours_to_truth']:.1e} from the float32 truth, over "
                f"{BFLOAT16_EXCESS} times the original's {found['theirs_to_truth']:.1e}"
            )
    return lines
