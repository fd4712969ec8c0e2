"""The encoder that learns nothing: which residue is where."""

import equinox as eqx
from jaxtyping import PRNGKeyArray

from eqxesm.alphabet import FIRST_RESIDUE, LAST_RESIDUE, RESIDUES
from eqxesm.encoders.base import AbstractEncoder, Inputs, SequenceId, as_probabilities, check_inputs
from eqxesm.encoders.config import OneHotConfig
from eqxesm.encoders.rows import Features


class OneHot(AbstractEncoder):
    """Features are the probabilities of the 25 residue letters, in vocabulary order."""

    config: OneHotConfig = eqx.field(static=True)

    def __init__(self, config: OneHotConfig = OneHotConfig(), *, key: PRNGKeyArray | None = None):
        del key
        self.config = config

    @property
    def d_model(self) -> int:
        return len(RESIDUES)

    def features(self, inputs: Inputs, sequence_id: SequenceId = None, *, remat: bool = False) -> Features:
        """The residue columns of a soft sequence. Positions do not mix, so chains do not matter."""
        del sequence_id, remat
        check_inputs(inputs)
        return as_probabilities(inputs)[:, FIRST_RESIDUE : LAST_RESIDUE + 1]
