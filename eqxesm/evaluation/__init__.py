"""Measuring predictions: metrics with intervals, beside two baselines. Needs the extra `evaluate`."""

from eqxesm.evaluation.assess import assess
from eqxesm.evaluation.baselines import Baselines, CompositionRegression, fit_baselines
from eqxesm.evaluation.calibration import fit_margin, fit_temperature, group_errors
from eqxesm.evaluation.features import is_untagged_met
from eqxesm.evaluation.metrics import Interval, evaluate, expected_calibration_error, to_json

__all__ = [
    "Baselines",
    "CompositionRegression",
    "Interval",
    "assess",
    "evaluate",
    "expected_calibration_error",
    "fit_baselines",
    "fit_margin",
    "fit_temperature",
    "group_errors",
    "is_untagged_met",
    "to_json",
]
