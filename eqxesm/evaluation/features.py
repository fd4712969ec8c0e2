"""What the baselines read in a sequence: its construct, and its composition."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.data.tags import has_c_tag, has_n_tag
from eqxesm.errors import InputError


def is_untagged_met(sequence: str) -> bool:
    """Whether the construct gives nothing away: the sequence starts with Met and has no His tag."""
    return sequence.startswith("M") and not has_n_tag(sequence) and not has_c_tag(sequence)


def construct(sequences: Sequence[str]) -> tuple[Int[np.ndarray, " proteins"], ...]:
    """0 or 1 per protein for: initial Met, N-terminal His tag, C-terminal His tag."""
    _check(sequences)
    cells = [(s.startswith("M"), has_n_tag(s), has_c_tag(s)) for s in sequences]
    return tuple(np.array(cells, np.int64).T)


def composition(sequences: Sequence[str]) -> Float[np.ndarray, "proteins 21"]:
    """Frequencies of the 20 residues, in the order of `STANDARD_RESIDUES`, and log length."""
    _check(sequences)
    return np.array(
        [[*(s.count(residue) / len(s) for residue in STANDARD_RESIDUES), np.log(len(s))] for s in sequences]
    )


def _check(sequences: Sequence[str]) -> None:
    if not sequences:
        raise InputError("no sequences: expected at least 1 protein")
    for position, sequence in enumerate(sequences, 1):
        if not sequence:
            raise InputError(f"sequence {position} is empty")
