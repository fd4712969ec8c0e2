"""What is known of every residue by its letter, beside the features of an encoder."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eqxesm.alphabet import FIRST_RESIDUE, STANDARD_RESIDUES, VOCAB_SIZE
from eqxesm.checkpoint.record import About
from eqxesm.encoders.base import AbstractEncoder, Inputs, SequenceId, as_probabilities
from eqxesm.encoders.config import WithPropertiesConfig
from eqxesm.encoders.rows import Features
from heads.pooling import at_least_float32

SCALES: dict[str, dict[str, float]] = {
    # Kyte and Doolittle 1982, J Mol Biol 157:105.
    "hydropathy": {
        "A": 1.8, "C": 2.5, "D": -3.5, "E": -3.5, "F": 2.8, "G": -0.4, "H": -3.2, "I": 4.5, "K": -3.9, "L": 3.8,
        "M": 1.9, "N": -3.5, "P": -1.6, "Q": -3.5, "R": -4.5, "S": -0.8, "T": -0.7, "V": 4.2, "W": -0.9, "Y": -1.3,
    },
    # At pH 7; histidine is charged in part.
    "charge": {"D": -1, "E": -1, "H": 0.1, "K": 1, "R": 1},
    # TOP-IDP, Campen 2008, Protein Pept Lett 15:956.
    "disorder": {
        "A": 0.06, "C": 0.02, "D": 0.192, "E": 0.736, "F": -0.697, "G": 0.166, "H": 0.303, "I": -0.486, "K": 0.586,
        "L": -0.326, "M": -0.397, "N": 0.007, "P": 0.987, "Q": 0.318, "R": 0.18, "S": 0.341, "T": 0.059, "V": -0.121,
        "W": -0.884, "Y": -0.51,
    },
    # Chou and Fasman 1978, Adv Enzymol 47:45.
    "strand": {
        "A": 0.83, "C": 1.19, "D": 0.54, "E": 0.37, "F": 1.38, "G": 0.75, "H": 0.87, "I": 1.6, "K": 0.74, "L": 1.3,
        "M": 1.05, "N": 0.89, "P": 0.55, "Q": 1.1, "R": 0.93, "S": 0.75, "T": 1.19, "V": 1.7, "W": 1.37, "Y": 1.47,
    },
    "helix": {
        "A": 1.42, "C": 0.7, "D": 1.01, "E": 1.51, "F": 1.13, "G": 0.57, "H": 1.0, "I": 1.08, "K": 1.16, "L": 1.21,
        "M": 1.45, "N": 0.67, "P": 0.57, "Q": 1.11, "R": 0.98, "S": 0.77, "T": 0.83, "V": 1.06, "W": 1.08, "Y": 0.69,
    },
    # Zamyatnin 1972, Prog Biophys Mol Biol 24:107, in units of 100 cubic angstroms.
    "volume": {
        "A": 0.886, "C": 1.085, "D": 1.111, "E": 1.384, "F": 1.899, "G": 0.601, "H": 1.532, "I": 1.667, "K": 1.686,
        "L": 1.667, "M": 1.629, "N": 1.141, "P": 1.127, "Q": 1.438, "R": 1.734, "S": 0.89, "T": 1.161, "V": 1.4,
        "W": 2.278, "Y": 1.936,
    },
    "aromatic": {"F": 1, "W": 1, "Y": 1},
    "acidic": {"D": 1, "E": 1},
    "basic": {"K": 1, "R": 1},
}  # fmt: skip
"""Properties of residues; what is not named is 0."""

N_PROPERTIES = len(STANDARD_RESIDUES) + len(SCALES)


def _tabulate() -> Float[np.ndarray, "vocab properties"]:
    """Which of the standard residues a token is, and its properties. Any other token has zeros."""
    columns = [*({letter: 1.0} for letter in STANDARD_RESIDUES), *SCALES.values()]
    table = np.zeros((VOCAB_SIZE, N_PROPERTIES), np.float32)
    for number, letter in enumerate(STANDARD_RESIDUES, FIRST_RESIDUE):
        table[number] = [column.get(letter, 0) for column in columns]
    return table


_TABLE = _tabulate()


class WithProperties(AbstractEncoder):
    """Features of an encoder, and before them what is known of each residue by its letter.

    The first 20 columns tell which standard residue it is, in the order of `STANDARD_RESIDUES`; then come its `SCALES`,
    and then the features of the encoder. Columns of other letters are zero.
    """

    encoder: AbstractEncoder
    config: WithPropertiesConfig = eqx.field(static=True)

    def __init__(self, encoder: AbstractEncoder):
        self.encoder = encoder
        self.config = WithPropertiesConfig(encoder.config)

    @property
    def d_model(self) -> int:
        return N_PROPERTIES + self.encoder.d_model

    @property
    def about(self) -> About:
        """Where the encoder came from."""
        return getattr(self.encoder, "about", About())

    def features(self, inputs: Inputs, sequence_id: SequenceId = None, *, remat: bool = False) -> Features:
        features = self.encoder.features(inputs, sequence_id, remat=remat)
        soft = as_probabilities(inputs)
        soft = soft.astype(at_least_float32(soft))
        properties = jnp.matmul(soft, _TABLE.astype(soft.dtype), precision="highest")
        return jnp.concatenate([properties.astype(features.dtype), features], axis=-1)
