"""Measuring predictions: metrics with intervals, and the baselines that they stand beside.

Needs scikit-learn, and for reports matplotlib: the `evaluate` extra.
"""

from eqxesm.evaluation.assessment import assess
from eqxesm.evaluation.baselines import (
    Baselines,
    CompositionRegression,
    TagRule,
    fit_baselines,
)
from eqxesm.evaluation.calibration import fit_temperature
from eqxesm.evaluation.features import is_untagged_met
from eqxesm.evaluation.metrics import Interval, evaluate, expected_calibration_error, to_plain

__all__ = [
    "Baselines",
    "CompositionRegression",
    "Interval",
    "TagRule",
    "assess",
    "evaluate",
    "expected_calibration_error",
    "fit_baselines",
    "fit_temperature",
    "is_untagged_met",
    "to_plain",
]
