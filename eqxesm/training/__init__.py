"""Training: functions, one step and one readable loop."""

from eqxesm.training.config import TrainConfig
from eqxesm.training.loop import Epoch, Examples, cross_entropy, fit, logits

__all__ = ["Epoch", "Examples", "TrainConfig", "cross_entropy", "fit", "logits"]
