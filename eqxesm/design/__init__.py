"""Explain a prediction, scan substitutions, and compose losses for design: functions of a soft sequence."""

from eqxesm.design.attribution import (
    Attribution,
    gradient_times_input,
    integrated_gradients,
    mean_residue,
    occlusion,
    pooling_weights,
)
from eqxesm.design.substitutions import estimate_substitutions, masked_marginal, score_substitutions, wild_type_marginal
from eqxesm.design.terms import ORDER, PseudoLikelihoodTerm, SolubilityTerm, place

__all__ = [
    "ORDER",
    "Attribution",
    "PseudoLikelihoodTerm",
    "SolubilityTerm",
    "estimate_substitutions",
    "gradient_times_input",
    "integrated_gradients",
    "masked_marginal",
    "mean_residue",
    "occlusion",
    "place",
    "pooling_weights",
    "score_substitutions",
    "wild_type_marginal",
]
