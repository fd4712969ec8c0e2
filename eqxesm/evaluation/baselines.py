"""The two baselines that every accuracy stands beside: the tag rule and the composition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.checkpoint.schema import complain
from eqxesm.data.tags import count
from eqxesm.errors import InputError
from eqxesm.evaluation.features import composition, construct
from eqxesm.evaluation.metrics import binary

Labels = Int[np.ndarray, " _"] | Bool[np.ndarray, " _"]

FEATURES = len(STANDARD_RESIDUES) + 1
"""Of the regression: the frequencies of the residues and the logarithm of the length."""

LARGEST = 1e9
"""Bounds what is read from a checkpoint, so that no prediction overflows."""


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
        cells = construct(sequences)
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
        return self.soluble[construct(sequences)]

    def to_plain(self) -> list[float]:
        """Write the rule as what JSON holds.

        Returns:
            The 8 fractions, where the C-terminal tag changes fastest and the Met slowest.
        """
        return self.soluble.ravel().tolist()

    @classmethod
    def from_plain(cls, values: Any, where: str) -> "TagRule":
        """Read what `to_plain` wrote.

        Args:
            values: of JSON, from anywhere.
            where: what to name as the place in an error.

        Returns:
            The rule.

        Raises:
            InputError: it is not 8 numbers from 0 to 1.
        """
        return cls(_numbers(values, 8, 0.0, 1.0, where).reshape(2, 2, 2))


@dataclass(frozen=True)
class CompositionRegression:
    """Predicts from the frequencies of the 20 residues and the logarithm of the length.

    Logistic regression on standardised features. The classes weigh the same in the fit whatever
    their numbers, as the published test sets are balanced and the training sets are not.

    Attributes:
        means: of the features over the training proteins: 20 frequencies, in the vocabulary's
            order, and the logarithm of the length.
        scales: their standard deviations, 1 where a feature is constant.
        coefficients: of the standardised features.
        intercept: the logit of a protein whose features are the means.
    """

    means: Float[np.ndarray, "21"]
    scales: Float[np.ndarray, "21"]
    coefficients: Float[np.ndarray, "21"]
    intercept: float

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
        features = composition(sequences)
        scaler = StandardScaler().fit(features)
        regression = LogisticRegression(class_weight="balanced", max_iter=1000)
        regression.fit(scaler.transform(features), truth)
        return cls(
            scaler.mean_, scaler.scale_, regression.coef_[0], float(regression.intercept_[0])
        )

    def predict(self, sequences: Sequence[str]) -> Float[np.ndarray, " _"]:
        """Apply the regression.

        Args:
            sequences: proteins, in upper case.

        Returns:
            float64 probabilities of being soluble, one a protein.

        Raises:
            InputError: there are no sequences, or one is empty.
        """
        standardised = (composition(sequences) - self.means) / self.scales
        return expit(standardised @ self.coefficients + self.intercept)

    def to_plain(self) -> dict[str, Any]:
        """Write the regression as what JSON holds.

        Returns:
            The attributes by name: lists of 21 numbers, and the intercept.
        """
        return {
            "means": self.means.tolist(),
            "scales": self.scales.tolist(),
            "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept,
        }

    @classmethod
    def from_plain(cls, values: Any, where: str) -> "CompositionRegression":
        """Read what `to_plain` wrote.

        Args:
            values: of JSON, from anywhere.
            where: what to name as the place in an error.

        Returns:
            The regression.

        Raises:
            InputError: a key is missing or unknown, or what it holds is not as many finite numbers
                as it should be, or a scale is not above 0.
        """
        means, scales, coefficients, intercept = _fields(
            values, ("means", "scales", "coefficients", "intercept"), where
        )
        return cls(
            _numbers(means, FEATURES, -LARGEST, LARGEST, f"{where}: means"),
            _numbers(scales, FEATURES, 1 / LARGEST, LARGEST, f"{where}: scales"),
            _numbers(coefficients, FEATURES, -LARGEST, LARGEST, f"{where}: coefficients"),
            float(_numbers([intercept], 1, -LARGEST, LARGEST, f"{where}: intercept")[0]),
        )


@dataclass(frozen=True)
class Baselines:
    """Both baselines, fitted on the same proteins."""

    tag_rule: TagRule
    composition: CompositionRegression

    def predict(self, sequences: Sequence[str]) -> dict[str, Float[np.ndarray, " _"]]:
        """Apply both.

        Args:
            sequences: proteins, as they were published, in upper case.

        Returns:
            float64 probabilities of being soluble, one a protein, of `tag_rule` and `composition`.

        Raises:
            InputError: there are no sequences, or one is empty.
        """
        return {
            "tag_rule": self.tag_rule.predict(sequences),
            "composition": self.composition.predict(sequences),
        }

    def to_plain(self) -> dict[str, Any]:
        """Write both as what JSON holds, such as the record of a model.

        Returns:
            `tag_rule` and `composition`, as their own `to_plain` write them.
        """
        return {"tag_rule": self.tag_rule.to_plain(), "composition": self.composition.to_plain()}

    @classmethod
    def from_plain(cls, values: Any, where: str) -> "Baselines":
        """Read what `to_plain` wrote.

        Args:
            values: of JSON, from anywhere.
            where: what to name as the place in an error.

        Returns:
            The baselines.

        Raises:
            InputError: it is anything else than what `to_plain` writes.
        """
        tag_rule, regression = _fields(values, ("tag_rule", "composition"), where)
        return cls(
            TagRule.from_plain(tag_rule, f"{where}: tag_rule"),
            CompositionRegression.from_plain(regression, f"{where}: composition"),
        )


def fit_baselines(sequences: Sequence[str], labels: Labels) -> Baselines:
    """Fit both baselines.

    Args:
        sequences: training proteins, as they were published, in upper case.
        labels: 1 = soluble, 0 = insoluble, one a protein, both present.

    Returns:
        The fitted baselines.

    Raises:
        InputError: there are no sequences, one is empty, the labels are not as many, one of them
            is neither 0 nor 1, or they are all the same.
    """
    return Baselines(TagRule.fit(sequences, labels), CompositionRegression.fit(sequences, labels))


def _fields(values: Any, names: tuple[str, ...], where: str) -> list[Any]:
    if not isinstance(values, dict):
        raise InputError(f"{where}: is no JSON object: fetch or write it again")
    complain(where, set(values) - set(names), set(names) - set(values))
    return [values[name] for name in names]


def _numbers(
    values: Any, size: int, low: float, high: float, where: str
) -> Float[np.ndarray, " size"]:
    # What is not a number is not between two others either.
    if (
        not isinstance(values, list)
        or len(values) != size
        or not all(type(value) in (int, float) and low <= value <= high for value in values)
    ):
        raise InputError(
            f"{where}: does not hold {count(size, 'number')} from {low:g} to {high:g}: "
            "fetch or write it again"
        )
    return np.array(values, np.float64)


def _labels(sequences: Sequence[str], labels: Labels) -> Int[np.ndarray, " _"]:
    if len(sequences) != len(labels):
        raise InputError(
            f"{len(sequences)} sequences but {len(labels)} labels: give one each a protein"
        )
    return binary(labels)
