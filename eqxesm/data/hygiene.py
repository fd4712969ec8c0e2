"""From proteins as they were read to splits that do not leak, and the report on it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Int

from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene_report import Hygiene, Overlap
from eqxesm.data.records import LabelledProtein
from eqxesm.data.scan import NOTHING, Scan, Sequences, Split, cleaned, digest
from eqxesm.data.similarity import nearest_identity
from eqxesm.data.tags import count
from eqxesm.errors import InputError


@dataclass(frozen=True)
class Policy:
    """What training proteins must fulfil.

    Attributes:
        leakage: what to do about training proteins that stand in validation or in a test set too,
            and validation ones that stand in a test set: "refuse" or "remove" them.
        max_residues: the longest protein to train on and to validate with.
        length_percentile: the same as a percentile of the training lengths, such as 99.0.
        max_identity: a training protein at least this identical to a held-out one leaks too, such
            as 0.3. It takes MMseqs2.

    Raises:
        ValueError: a value is out of range, or the length is limited twice.
    """

    leakage: str = "refuse"
    max_residues: int | None = None
    length_percentile: float | None = None
    max_identity: float | None = None

    def __post_init__(self):
        if self.leakage not in ("refuse", "remove"):
            raise ValueError(f"leakage is {self.leakage!r}: it must be 'refuse' or 'remove'")
        if self.max_residues is not None and self.length_percentile is not None:
            raise ValueError("max_residues and length_percentile are both given: choose one")
        if self.max_residues is not None and self.max_residues < 1:
            raise ValueError(f"max_residues is {self.max_residues}: it must be at least 1")
        if self.length_percentile is not None and not 0 < self.length_percentile <= 100:
            raise ValueError(
                f"length_percentile is {self.length_percentile}: it must be above 0, at most 100"
            )
        if self.max_identity is not None and not 0 < self.max_identity <= 1:
            raise ValueError(f"max_identity is {self.max_identity}: it must be above 0, at most 1")


@dataclass(frozen=True)
class Splits:
    """What to train on, to stop by and to measure with.

    Attributes:
        training: to learn from.
        validation: to stop by.
        tests: to measure with, by name.
        limit: residues of the longest protein to train on.
        report: how they came about.
    """

    training: Split
    validation: Split
    tests: dict[str, Split]
    limit: int
    report: Hygiene


def prepare(
    training: Sequence[LabelledProtein],
    validation: Sequence[LabelledProtein],
    tests: Mapping[str, Sequence[LabelledProtein]],
    cleaning: Cleaning,
    policy: Policy,
) -> Splits:
    """Leave out what must not be trained on or measured with.

    Proteins are compared by their cleaned sequences. Left out are: in every split what cannot be
    cleaned; in training and validation sequences with both labels, all but the first of equal
    ones, those longer than the policy allows, and those that leak. A training protein leaks if
    its sequence stands in validation or in a test set, if its cluster stands in validation, or if
    it is too much like a held-out protein; a validation protein, if its sequence stands in a test
    set. Test sets otherwise stay as they were published. Sequences are read one by one and not
    kept, only 16-byte digests of them; a search by identity writes them to a temporary folder.

    Args:
        training: proteins of all training sources.
        validation: proteins of all validation sources.
        tests: proteins by the name of the test set.
        cleaning: how sequences are cleaned.
        policy: the rules that can be chosen.

    Returns:
        The splits, and a report.

    Raises:
        InputError: something leaks and the policy is to refuse it, a split is empty in the end, or
            training or validation is left with one class.
    """
    train = Scan("training", training, cleaning)
    held = Scan("validation", validation, cleaning)
    test_scans = [Scan(name, tests[name], cleaning, is_test=True) for name in tests]
    scans = [train, held, *test_scans]
    for scan in (train, held):
        conflicting, repeated = scan.repeats()
        scan.leave_out(conflicting, "conflicting labels")
        scan.leave_out(repeated, "duplicate")
    for scan in scans:
        scan.check()
    limit, limit_rule = _limit(policy, train.lengths[train.rows])
    if limit is not None:
        for scan in (train, held):
            scan.leave_out(scan.lengths > limit, "too long")
    leakage = _leakage(train, held, test_scans, policy)
    for scan in scans:
        scan.check()
    limit = int(train.lengths[train.rows].max()) if limit is None else limit
    report = Hygiene(
        portions=tuple(portion for scan in scans for portion in scan.portions()),
        limit=limit,
        limit_rule=limit_rule,
        leakage=leakage,
        overlaps=_overlaps(test_scans),
        data_digest=_data_digest(scans),
    )
    return Splits(
        train.split(), held.split(), {scan.name: scan.split() for scan in test_scans}, limit, report
    )


def cross_validation_folds(
    proteins: Sequence[LabelledProtein], cleaning: Cleaning
) -> dict[str, Int[np.ndarray, " _"]]:
    """Find the folds of a cross-validation, and that none of them leaks.

    Args:
        proteins: each with its fold.
        cleaning: how sequences are cleaned before they are compared.

    Returns:
        Indices of the proteins by fold, the folds in the order of their names.

    Raises:
        InputError: a protein has no fold, there are fewer than two folds, or a cluster or a
            sequence stands in two of them.
    """
    folds: dict[str, list[int]] = {}
    seen: dict[tuple[str, bytes], tuple[str, str]] = {}
    for index, protein in enumerate(proteins):
        if protein.fold is None:
            raise InputError(
                f"protein {protein.id!r} has no fold: set fold_column, or leave it out"
            )
        folds.setdefault(protein.fold, []).append(index)
        sequence = cleaned(cleaning, protein)
        for kind, text in (("sequence", sequence), ("cluster", protein.cluster)):
            if text is None:
                continue
            here = protein.fold, protein.id
            there = seen.setdefault((kind, digest(text)), here)
            if there[0] != here[0]:
                raise InputError(
                    f"a fold leaks: the {kind} of {protein.id!r} in fold {here[0]} stands in fold "
                    f"{there[0]} too, as {there[1]!r}: put both into one fold, or leave one out"
                )
    if len(folds) < 2:
        raise InputError(f"{count(len(folds), 'fold')}: a cross-validation needs at least 2")
    return {fold: np.array(folds[fold], np.int64) for fold in sorted(folds)}


def _limit(policy: Policy, lengths: Int[np.ndarray, " n"]) -> tuple[int | None, str]:
    if policy.max_residues is not None:
        return policy.max_residues, "max_residues"
    if policy.length_percentile is None:
        return None, "no limit is set"
    percentile = policy.length_percentile
    return int(np.percentile(lengths, percentile)), f"percentile {percentile:g} of training lengths"


def _leakage(
    training: Scan, validation: Scan, tests: list[Scan], policy: Policy
) -> dict[str, int | str]:
    # Training goes first, so that it meets validation as it was.
    exact = sum(_shared(training, other, "sequence", policy) for other in (validation, *tests))
    leakage: dict[str, int | str] = {"exact": exact}
    if all((scan.clusters != np.void(NOTHING)).any() for scan in (training, validation)):
        leakage["cluster"] = _shared(training, validation, "cluster", policy)
    else:
        leakage["cluster"] = "not checked: training or validation carries no clusters"
    leakage["identity"] = _alike(training, [validation, *tests], policy)
    leakage["exact"] += sum(_shared(validation, test, "sequence", policy) for test in tests)
    return leakage


def _shared(scan: Scan, other: Scan, what: str, policy: Policy) -> int:
    """Leave out what stands in another split too, by its sequence or by its cluster."""
    keys, others = (
        (one.digests if what == "sequence" else one.clusters)[one.rows] for one in (scan, other)
    )
    leaks = np.isin(keys, others) & (keys != np.void(NOTHING))
    if not leaks.any():
        return 0
    row = np.flatnonzero(leaks)[0]
    twin = other.proteins[int(other.rows[others == keys[row]][0])]
    found = f"the {what} of {scan.proteins[int(scan.rows[row])].id!r} is that of {twin.id!r}"
    rule = "leaks exactly" if what == "sequence" else "leaks by cluster"
    return _leave_out_leaks(scan, scan.rows[leaks], rule, f"{other.title}: {found}", policy)


def _alike(training: Scan, held_out: list[Scan], policy: Policy) -> int | str:
    """Leave out what is too much like a held-out protein."""
    if policy.max_identity is None:
        return "not checked: max_identity is not set"
    identity = nearest_identity(Sequences(training), Sequences(*held_out))
    if identity is None:
        return "not checked: mmseqs is not installed"
    leaks = identity >= policy.max_identity
    if not leaks.any():
        return 0
    rows = training.rows[leaks]
    first = training.proteins[int(rows[0])].id
    found = f"the held-out splits: {first!r} is {identity[leaks][0]:.0%} identical with one there"
    return _leave_out_leaks(training, rows, "leaks by identity", found, policy)


def _leave_out_leaks(
    scan: Scan, rows: Int[np.ndarray, " leaks"], rule: str, found: str, policy: Policy
) -> int:
    if policy.leakage == "refuse":
        raise InputError(
            f"{count(len(rows), f'{scan.name} protein')} {'leaks' if len(rows) == 1 else 'leak'} "
            f'into {found}: leave out what leaks, or set data.leakage = "remove"'
        )
    mask = np.zeros(len(scan.rule), bool)
    mask[rows] = True
    scan.leave_out(mask, rule)
    return len(rows)


def _overlaps(tests: list[Scan]) -> tuple[Overlap, ...]:
    found = []
    for first, second in combinations(tests, 2):
        a, b = (
            [scan.digests[scan.rows][scan.labels[scan.rows] == y] for y in (0, 1)]
            for scan in (first, second)
        )
        shared = np.intersect1d(np.concatenate(a), np.concatenate(b))
        opposite = np.union1d(np.intersect1d(a[0], b[1]), np.intersect1d(a[1], b[0]))
        if len(shared):
            found.append(Overlap(first.name, second.name, len(shared), len(opposite)))
    return tuple(found)


def _data_digest(scans: list[Scan]) -> str:
    digest = hashlib.sha256()
    for scan in scans:
        rows = scan.rows
        digest.update(f"{scan.name}\n{len(rows)}\n".encode())
        digest.update(scan.digests[rows].tobytes())
        digest.update(scan.labels[rows].astype(np.uint8).tobytes())
    return digest.hexdigest()
