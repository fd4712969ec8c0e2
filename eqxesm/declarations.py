"""What a model declares beside its weights: its calibration, and what it may be asked about."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Calibration:
    """How a logit becomes a probability, and a probability a decision.

    Args:
        temperature: the logit is divided by it before the sigmoid (Guo et al. 2017,
            arXiv:1706.04599).
        threshold: a protein of at least this probability is called soluble.

    Raises:
        ValueError: the temperature is not positive, or the threshold not between 0 and 1.
    """

    temperature: float = 1.0
    threshold: float = 0.5

    def __post_init__(self):
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature is {self.temperature}: it must be positive and finite")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}: it must lie between 0 and 1")


@dataclass(frozen=True)
class Limits:
    """What proteins a model may be asked about.

    Args:
        max_residues: the longest protein that it was trained on, after cleaning.
        min_residues: the shortest one.

    Raises:
        ValueError: `min_residues` is below 1 or above `max_residues`.
    """

    max_residues: int = 2046
    min_residues: int = 1

    def __post_init__(self):
        if not 1 <= self.min_residues <= self.max_residues:
            raise ValueError(
                f"min_residues is {self.min_residues}: it must be at least 1 and at most "
                f"max_residues, {self.max_residues}"
            )
