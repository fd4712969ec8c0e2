"""Training: functions, one step, one readable loop. Needs the extra `train`."""

from eqxesm.training.config import TrainConfig
from eqxesm.training.examples import Examples, score_examples
from eqxesm.training.loop import fit
from eqxesm.training.objective import cross_entropy
from eqxesm.training.state import Epoch, RunState, Scores

__all__ = ["Epoch", "Examples", "RunState", "Scores", "TrainConfig", "cross_entropy", "fit", "score_examples"]
