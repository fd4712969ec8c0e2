"""Variants that were measured, as deep mutational scans are published."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import bootstrap, spearmanr

from eqxesm.data.formats import open_delimited, read_lines
from eqxesm.design.variants import Substitution, parse_variant
from eqxesm.errors import InputError, pluralise
from eqxesm.evaluation.metrics import Interval
from eqxesm.files import check_input

VARIANTS = ("mutant", "hgvs_pro", "variant", "mutation", "mutations")
"""Columns of variants: ProteinGym's, MaveDB's, and others."""

VALUES = ("DMS_score", "score", "fitness", "measured", "value")
"""Columns of what was measured, in the same way."""

CODES = {
    "Ala": "A", "Arg": "R", "Asn": "N", "Asp": "D", "Cys": "C", "Gln": "Q", "Glu": "E", "Gly": "G", "His": "H",
    "Ile": "I", "Leu": "L", "Lys": "K", "Met": "M", "Phe": "F", "Pro": "P", "Ser": "S", "Thr": "T", "Trp": "W",
    "Tyr": "Y", "Val": "V",
}  # fmt: skip
"""Letters of the 20 residues, by their codes of three letters."""

RESAMPLES = 1000


@dataclass(frozen=True)
class Measured:
    """Variants with what was measured. `unused` counts the rows of no substitution, or without a number."""

    variants: list[tuple[Substitution, ...]]
    values: Float[np.ndarray, " variants"]
    unused: int

    def compare(self, predicted: Sequence[float]) -> Interval:
        """Spearman's correlation with what is predicted, and its 95% bootstrap interval over variants."""

        def correlate(x: np.ndarray, y: np.ndarray) -> float:
            return float(spearmanr(x, y).statistic)

        values = np.asarray(predicted, np.float64), self.values
        found = bootstrap(values, correlate, paired=True, vectorized=False, n_resamples=RESAMPLES, method="percentile",
                          rng=0)  # fmt: skip
        return Interval(correlate(*values), *map(float, found.confidence_interval))


def read_measured(path: str) -> Measured:
    """Read CSV or TSV with a column of `VARIANTS`, such as A123V or p.Ala123Val, and one of `VALUES`."""
    check_input(path)
    table = open_delimited(path, read_lines(path, path), ",", lambda header: bool(set(VARIANTS) & set(header)))
    named, valued = (_find(path, table.header, names) for names in (VARIANTS, VALUES))
    variants, values, unused = [], [], 0
    for place, row in table.read([named, valued]):
        if isinstance(row, str):
            raise InputError(f"{place}: {row}")
        try:
            variant, value = parse_variant(_shorten(row[named])), float(row[valued])
        except ValueError:
            unused += 1
            continue
        if not math.isfinite(value):
            unused += 1
            continue
        variants.append(variant)
        values.append(value)
    if len(variants) < 3:
        found = pluralise(len(variants), "substitution")
        raise InputError(f"{path}: {found} with a number, expected at least 3")
    return Measured(variants, np.array(values), unused)


def _find(path: str, header: Sequence[str], names: Sequence[str]) -> str:
    for name in names:
        if name in header:
            return name
    raise InputError(f"{path}: no column {', '.join(names[:-1])} or {names[-1]}. Its columns: {', '.join(header)}")


def _shorten(text: str) -> str:
    """HGVS, such as p.[Ala123Val;Gly2Ser], in letters."""
    text = text.strip()
    if not text.startswith("p."):
        return text
    text = re.sub(r"[()\[\]]", "", text[2:]).replace(";", ":")
    return re.sub("[A-Z][a-z]{2}", lambda found: CODES.get(found[0], found[0]), text)
