"""The two baselines that every accuracy stands beside: the tag rule and the composition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.data.tags import has_c_tag, has_n_tag
from eqxesm.errors import InputError
from eqxesm.evaluation.metrics import binary

Labels = Int[np.ndarray, " _"] | Bool[np.ndarray, " _"]


def is_untagged_met(sequence: str) -> bool:
    """Choose the proteins on which the construct gives nothing away.

    Args:
        sequence: as it was published, before any cleaning.

    Returns:
        True where it starts with Met and has a His tag at neither end.
    """
    return sequence.startswith("M") and not has_n_tag(sequence) and not has_c_tag(sequence)


@dataclass(frozen=True)
class TagRule:
    """Predicts from the construct alone: an initial Met, a His tag at either end.

    What it scores is what a data set's cloning habits give away; nothing of it is about solubility.
    Fit it on the training split of the set that it is measured on: the habits differ between sets.

    Attributes:
        soluble: fraction soluble by (starts with Met, N-terminal tag, C-terminal tag).
    """

    soluble: Float[np.ndarray, "2 2 2"]

    @classmethod
    def fit(cls, sequences: Sequence[str], labels: Labels) -> "TagRule":
        """Count the soluble in each of the 8 cells.

        The fraction is smoothed by Laplace's rule, `(soluble + 1) / (all + 2)`: 1/2 in a cell
        without a protein.

        Args:
            sequences: training proteins, as they were published.
            labels: 1 = soluble, 0 = insoluble, one a protein.

        Returns:
            The fitted rule.

        Raises:
            InputError: there are no sequences, one is empty, the labels are not as many, or one of
                them is neither 0 nor 1.
        """
        truth = _labels(sequences, labels)
        soluble, total = np.ones((2, 2, 2)), np.full((2, 2, 2), 2.0)
        cells = _construct(sequences)
        np.add.at(soluble, cells, truth)
        np.add.at(total, cells, 1)
        return cls(soluble / total)

    def predict(self, sequences: Sequence[str]) -> Float[np.ndarray, " _"]:
        """Look the proteins' cells up.

        Args:
            sequences: proteins, as they were published.

        Returns:
            float64 probabilities of being soluble, one a protein.

        Raises:
            InputError: there are no sequences, or one is empty.
        """
        return self.soluble[_construct(sequences)]


@dataclass(frozen=True)
class CompositionRegression:
    """Predicts from the frequencies of the 20 residues and the logarithm of the length.

    Logistic regression on standardised features. The classes weigh the same in the fit whatever
    their numbers, as the published test sets are balanced and the training sets are not.

    Attributes:
        pipeline: the fitted scaler and regression.
    """

    pipeline: Pipeline

    @classmethod
    def fit(cls, sequences: Sequence[str], labels: Labels) -> "CompositionRegression":
        """Fit the regression.

        Args:
            sequences: training proteins, in upper case.
            labels: 1 = soluble, 0 = insoluble, one a protein, both present.

        Returns:
            The fitted regression.

        Raises:
            InputError: there are no sequences, one is empty, the labels are not as many, one of
                them is neither 0 nor 1, or they are all the same.
        """
        truth = _labels(sequences, labels)
        if truth.min() == truth.max():
            raise InputError(f"all {len(truth)} labels are {truth[0]}: a fit needs both classes")
        regression = LogisticRegression(class_weight="balanced", max_iter=1000)
        return cls(make_pipeline(StandardScaler(), regression).fit(_composition(sequences), truth))

    def predict(self, sequences: Sequence[str]) -> Float[np.ndarray, " _"]:
        """Apply the regression.

        Args:
            sequences: proteins, in upper case.

        Returns:
            float64 probabilities of being soluble, one a protein.

        Raises:
            InputError: there are no sequences, or one is empty.
        """
        return self.pipeline.predict_proba(_composition(sequences))[:, 1]


def _check(sequences: Sequence[str]) -> None:
    if not sequences:
        raise InputError("no sequences: give at least 1 protein")
    for position, sequence in enumerate(sequences, 1):
        if not sequence:
            raise InputError(f"empty sequence at position {position}: leave it out")


def _labels(sequences: Sequence[str], labels: Labels) -> Int[np.ndarray, " _"]:
    if len(sequences) != len(labels):
        raise InputError(
            f"{len(sequences)} sequences but {len(labels)} labels: give one each a protein"
        )
    return binary(labels)


def _construct(sequences: Sequence[str]) -> tuple[Int[np.ndarray, " proteins"], ...]:
    """Index the tag rule's cells: (starts with Met, N-terminal tag, C-terminal tag)."""
    _check(sequences)
    cells = [(s.startswith("M"), has_n_tag(s), has_c_tag(s)) for s in sequences]
    return tuple(np.array(cells, np.int64).T)


def _composition(sequences: Sequence[str]) -> Float[np.ndarray, "proteins 21"]:
    """Take 20 frequencies, in the vocabulary's order, and the logarithm of the length."""
    _check(sequences)
    return np.array(
        [
            [*(s.count(residue) / len(s) for residue in STANDARD_RESIDUES), np.log(len(s))]
            for s in sequences
        ]
    )
