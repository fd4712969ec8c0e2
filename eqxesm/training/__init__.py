"""Training: functions, one step and one readable loop."""

from eqxesm.training.config import TrainConfig
from eqxesm.training.examples import Examples, logits
from eqxesm.training.loop import cross_entropy, fit
from eqxesm.training.store import Epoch, Scores, Store

__all__ = [
    "Epoch",
    "Examples",
    "Scores",
    "Store",
    "TrainConfig",
    "cross_entropy",
    "fit",
    "logits",
]
