"""ESM-C in JAX and Equinox, and protein solubility as one differentiable function on top of it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eqxesm.alphabet import Tokenizer
    from eqxesm.assay import AssayModel
    from eqxesm.checkpoint.record import About
    from eqxesm.encoders import ESMC, SSM, ESMCConfig, ESMCOutput, OneHot
    from eqxesm.errors import InputError
    from eqxesm.forms import Calibration
    from eqxesm.model import SolubilityModel
    from eqxesm.targets import Target

__all__ = [
    "ESMC",
    "SSM",
    "About",
    "AssayModel",
    "Calibration",
    "ESMCConfig",
    "ESMCOutput",
    "InputError",
    "OneHot",
    "SolubilityModel",
    "Target",
    "Tokenizer",
]

_MODULES = {
    "ESMC": "encoders",
    "SSM": "encoders",
    "About": "checkpoint.record",
    "AssayModel": "assay",
    "Calibration": "forms",
    "ESMCConfig": "encoders",
    "ESMCOutput": "encoders",
    "InputError": "errors",
    "OneHot": "encoders",
    "SolubilityModel": "model",
    "Target": "targets",
    "Tokenizer": "alphabet",
}


# Imported on first use, so that the command line can answer --help without JAX.
def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'eqxesm' has no attribute {name!r}")
    return getattr(import_module(f"eqxesm.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
