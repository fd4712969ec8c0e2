"""Measuring predictions: metrics with intervals, and the baselines that they stand beside.

Needs scikit-learn, the `evaluate` extra.
"""

from eqxesm.evaluation.baselines import CompositionRegression, TagRule, is_untagged_met
from eqxesm.evaluation.calibration import fit_temperature
from eqxesm.evaluation.metrics import Interval, evaluate, expected_calibration_error, to_plain

__all__ = [
    "CompositionRegression",
    "Interval",
    "TagRule",
    "evaluate",
    "expected_calibration_error",
    "fit_temperature",
    "is_untagged_met",
    "to_plain",
]
