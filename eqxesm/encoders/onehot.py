"""The encoder that learns nothing: which residue stands where."""

from dataclasses import dataclass

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.alphabet import FIRST_RESIDUE, LAST_RESIDUE, RESIDUES, AnyArray
from eqxesm.encoders.base import AbstractEncoder, Inputs, as_probabilities, check_inputs


@dataclass(frozen=True)
class OneHotConfig:
    """The one-hot encoder has nothing to choose."""


class OneHot(AbstractEncoder):
    """Features are the probabilities of the 25 residue letters, in vocabulary order."""

    config: OneHotConfig = eqx.field(static=True)

    def __init__(self, config: OneHotConfig | None = None, *, key: PRNGKeyArray | None = None):
        del key
        self.config = config or OneHotConfig()

    @property
    def d_model(self) -> int:
        """Number of residue letters."""
        return len(RESIDUES)

    def features(
        self,
        inputs: Inputs,
        sequence_id: Int[AnyArray, " length"] | None = None,
        *,
        remat: bool = False,
    ) -> Float[Array, "length d_model"]:
        """Select the residue columns; see `AbstractEncoder.features`.

        Args:
            inputs: tokens `[length]` or probabilities `[length vocab]`.
            sequence_id: without effect, since positions do not mix.
            remat: without effect, since nothing is kept.

        Returns:
            Features `[length 25]`.
        """
        del sequence_id, remat
        check_inputs(inputs)
        return as_probabilities(inputs)[:, FIRST_RESIDUE : LAST_RESIDUE + 1]
