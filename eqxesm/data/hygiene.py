"""From proteins as they were read to splits that do not leak, with a report."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt, Le
from jaxtyping import Int

from eqxesm.alphabet import CONTEXT_RESIDUES
from eqxesm.config import configuration
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.hygiene_report import Hygiene, Overlap
from eqxesm.data.lazy import LazySequence
from eqxesm.data.protein import Protein
from eqxesm.data.scan import NO_DIGEST, Scan, Split, clean_or_none, digest
from eqxesm.data.similarity import nearest_identity
from eqxesm.errors import InputError, pluralise
from heads.fields import Count

_log = logging.getLogger(__name__)


@configuration
class Policy:
    """What training proteins must fulfil.

    Training proteins that are in a held-out split too, by sequence, cluster or identity of at least
    `max_identity`, are refused or removed. Longer ones than `max_residues`, or than a percentile of
    the training lengths, are dropped, or truncated as the model then truncates what it predicts.
    """

    leakage: Literal["refuse", "remove"] = "refuse"
    max_residues: Count | None = None
    length_percentile: Annotated[float, Gt(0), Le(100)] | None = None
    too_long: Literal["drop", "truncate"] = "drop"
    max_identity: Annotated[float, Gt(0), Le(1)] | None = None

    def __post_init__(self):
        if self.max_residues is not None and self.length_percentile is not None:
            raise ValueError("max_residues and length_percentile are both given. Choose one.")
        if self.too_long == "truncate" and self.max_residues is None and self.length_percentile is None:
            raise ValueError("too_long is 'truncate', but neither max_residues nor length_percentile says to what")


@dataclass(frozen=True)
class Splits:
    """What to train on, to stop by and to test on, and how its sequences are cleaned."""

    cleaning: Cleaning
    training: Split
    validation: Split
    tests: dict[str, Split]
    report: Hygiene


def prepare_splits(
    training: Sequence[Protein],
    validation: Sequence[Protein],
    tests: Mapping[str, Sequence[Protein]],
    cleaning: Cleaning,
    policy: Policy,
) -> Splits:
    """Leave out what must not be trained on or measured with.

    Test sets stay as published, but for what a model of these training proteins does not accept.
    """
    train = _scan_without_repeats("training", training, cleaning)
    limit, limit_rule = _choose_limit(policy, train.lengths[train.rows])
    if policy.too_long == "truncate":
        cleaning = replace(cleaning, truncate=limit)
        train, limit_rule = _scan_without_repeats("training", training, cleaning), f"{limit_rule}, truncated"
    held_out = _scan_without_repeats("validation", validation, cleaning)
    test_scans = [Scan(name, tests[name], cleaning, is_test=True) for name in tests]
    scans = [train, held_out, *test_scans]
    for scan in scans:
        scan.check()
    if limit is not None:
        for scan in (train, held_out):
            scan.leave_out(scan.lengths > limit, "too long")
    leakage = _leave_out_leakage(train, held_out, test_scans, policy)
    longest = int(train.lengths[train.rows].max(initial=0))
    for scan in test_scans:
        scan.leave_out(scan.lengths > max(longest, CONTEXT_RESIDUES), "too long")
    for scan in scans:
        scan.check()
    report = Hygiene(
        portions=tuple(portion for scan in scans for portion in scan.portions()),
        limit=longest if limit is None else limit,
        limit_rule=limit_rule,
        leakage=leakage,
        overlaps=_find_overlaps(test_scans),
        data_digest=_digest_data(scans),
    )
    split_tests = {scan.name: scan.split() for scan in test_scans}
    return Splits(cleaning, train.split(), held_out.split(), split_tests, report)


def cross_validation_folds(proteins: Sequence[Protein], cleaning: Cleaning) -> dict[str, Int[np.ndarray, " _"]]:
    """Indices of the proteins of each fold. Folds that share a sequence or cluster are refused."""
    folds: dict[str, list[int]] = {}
    seen: dict[tuple[str, bytes], tuple[str, str]] = {}
    for index, protein in enumerate(proteins):
        if protein.fold is None:
            raise InputError(f"protein {protein.id!r} has no fold. Set fold_column, or leave it out.")
        folds.setdefault(protein.fold, []).append(index)
        sequence = clean_or_none(cleaning, protein)
        for kind, text in (("sequence", sequence), ("cluster", protein.cluster)):
            if text is None:
                continue
            here = protein.fold, protein.id
            first = seen.setdefault((kind, digest(text)), here)
            if first[0] != here[0]:
                both = f"{protein.id!r} in fold {here[0]} and {first[1]!r} in fold {first[0]}"
                raise InputError(f"folds leak: {both} have the same {kind}. Put both into one fold.")
    if len(folds) < 2:
        raise InputError(f"{pluralise(len(folds), 'fold')}: cross-validation needs at least 2")
    return {fold: np.array(folds[fold], np.int64) for fold in sorted(folds)}


def _scan_without_repeats(name: str, proteins: Sequence[Protein], cleaning: Cleaning) -> Scan:
    scan = Scan(name, proteins, cleaning)
    conflicting, repeated = scan.find_repeats()
    scan.leave_out(conflicting, "conflicting labels")
    scan.leave_out(repeated, "duplicate")
    return scan


def _choose_limit(policy: Policy, lengths: Int[np.ndarray, " n"]) -> tuple[int | None, str]:
    if policy.max_residues is not None:
        return policy.max_residues, "max_residues"
    if policy.length_percentile is None:
        return None, "no limit is set"
    if not len(lengths):
        return None, "no protein is left"
    percentile = policy.length_percentile
    return int(np.percentile(lengths, percentile)), f"percentile {percentile:g} of training lengths"


def _leave_out_leakage(training: Scan, validation: Scan, tests: list[Scan], policy: Policy) -> dict[str, int | str]:
    # Training is compared first, with validation as it was.
    exact = sum(_leave_out_shared(training, o, "sequence", policy) for o in (validation, *tests))
    leakage: dict[str, int | str] = {"exact": exact}
    if all((scan.clusters != np.void(NO_DIGEST)).any() for scan in (training, validation)):
        leakage["cluster"] = _leave_out_shared(training, validation, "cluster", policy)
    else:
        leakage["cluster"] = "not checked: training or validation has no clusters"
    leakage["identity"] = _leave_out_similar(training, [validation, *tests], policy)
    exact += sum(_leave_out_shared(validation, test, "sequence", policy) for test in tests)
    return leakage | {"exact": exact}


def _leave_out_shared(scan: Scan, other: Scan, what: str, policy: Policy) -> int:
    """Leave out proteins whose sequence or cluster is in another split too."""
    keys, others = ((one.digests if what == "sequence" else one.clusters)[one.rows] for one in (scan, other))
    leaks = np.isin(keys, others) & (keys != np.void(NO_DIGEST))
    if not leaks.any():
        return 0
    row = np.flatnonzero(leaks)[0]
    twin = other.proteins[int(other.rows[others == keys[row]][0])]
    found = f"the {what} of {scan.proteins[int(scan.rows[row])].id!r} is that of {twin.id!r}"
    rule = "leaks exactly" if what == "sequence" else "leaks by cluster"
    return _leave_out_leaks(scan, scan.rows[leaks], rule, f"{other.title}: {found}", policy)


def _leave_out_similar(training: Scan, held_out: list[Scan], policy: Policy) -> int | str:
    """Leave out proteins that are too similar to a held-out one."""
    if policy.max_identity is None:
        return "not checked: max_identity is not set"
    parts = [scan.sequences() for scan in held_out]
    targets = LazySequence(sum(map(len, parts)), lambda _: "", lambda: chain.from_iterable(parts))
    identity = nearest_identity(training.sequences(), targets)
    if identity is None:
        _log.warning("mmseqs is not installed, so max_identity is not checked")
        return "not checked: mmseqs is not installed"
    leaks = identity >= policy.max_identity
    if not leaks.any():
        return 0
    rows = training.rows[leaks]
    first = training.proteins[int(rows[0])].id
    found = f"held-out splits: {first!r} is {identity[leaks][0]:.0%} identical to one there"
    return _leave_out_leaks(training, rows, "leaks by identity", found, policy)


def _leave_out_leaks(scan: Scan, rows: Int[np.ndarray, " leaks"], rule: str, found: str, policy: Policy) -> int:
    if policy.leakage == "refuse":
        who = f"{pluralise(len(rows), f'{scan.name} protein')} {'leaks' if len(rows) == 1 else 'leak'}"
        raise InputError(f'{who} into {found}. Leave out what leaks, or set data.leakage = "remove".')
    mask = np.zeros(len(scan.rule), bool)
    mask[rows] = True
    scan.leave_out(mask, rule)
    return len(rows)


def _find_overlaps(tests: list[Scan]) -> tuple[Overlap, ...]:
    found = []
    for first, second in combinations(tests, 2):
        a, b = ([scan.digests[scan.rows][scan.labels[scan.rows] == y] for y in (0, 1)] for scan in (first, second))
        shared = np.intersect1d(np.concatenate(a), np.concatenate(b))
        opposite = np.union1d(np.intersect1d(a[0], b[1]), np.intersect1d(a[1], b[0]))
        if len(shared):
            found.append(Overlap(first.name, second.name, len(shared), len(opposite)))
    return tuple(found)


def _digest_data(scans: list[Scan]) -> str:
    digest = hashlib.sha256()
    for scan in scans:
        rows = scan.rows
        digest.update(f"{scan.name}\n{len(rows)}\n".encode())
        digest.update(scan.digests[rows].tobytes())
        digest.update(scan.labels[rows].astype(np.uint8).tobytes())
    return digest.hexdigest()
