"""ESM-C in JAX and Equinox, and protein solubility as one differentiable function on top of it."""

from eqxesm.alphabet import Tokenizer
from eqxesm.declarations import Calibration
from eqxesm.encoders import ESMC, ESMCConfig, ESMCOutput, OneHot
from eqxesm.errors import InputError
from eqxesm.solubility import SolubilityModel

__all__ = [
    "ESMC",
    "Calibration",
    "ESMCConfig",
    "ESMCOutput",
    "InputError",
    "OneHot",
    "SolubilityModel",
    "Tokenizer",
]
