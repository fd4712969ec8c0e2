"""What the baselines read in a sequence: its construct, and its composition."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.data.tags import has_c_tag, has_n_tag
from eqxesm.errors import InputError


def is_untagged_met(sequence: str) -> bool:
    """Choose the proteins on which the construct gives nothing away.

    Args:
        sequence: as it was published, before any cleaning.

    Returns:
        True where it starts with Met and has a His tag at neither end.
    """
    return sequence.startswith("M") and not has_n_tag(sequence) and not has_c_tag(sequence)


def construct(sequences: Sequence[str]) -> tuple[Int[np.ndarray, " proteins"], ...]:
    """Index the tag rule's cells.

    Args:
        sequences: proteins, as they were published, in upper case.

    Returns:
        Of each protein whether it starts with Met, has an N-terminal and a C-terminal His tag.

    Raises:
        InputError: there are no sequences, or one is empty.
    """
    _check(sequences)
    cells = [(s.startswith("M"), has_n_tag(s), has_c_tag(s)) for s in sequences]
    return tuple(np.array(cells, np.int64).T)


def composition(sequences: Sequence[str]) -> Float[np.ndarray, "proteins 21"]:
    """Take the frequencies of the 20 residues and the logarithm of the length.

    Args:
        sequences: proteins, in upper case.

    Returns:
        The features of each protein, the residues in the vocabulary's order.

    Raises:
        InputError: there are no sequences, or one is empty.
    """
    _check(sequences)
    return np.array(
        [
            [*(s.count(residue) / len(s) for residue in STANDARD_RESIDUES), np.log(len(s))]
            for s in sequences
        ]
    )


def _check(sequences: Sequence[str]) -> None:
    if not sequences:
        raise InputError("no sequences: give at least 1 protein")
    for position, sequence in enumerate(sequences, 1):
        if not sequence:
            raise InputError(f"empty sequence at position {position}: leave it out")
