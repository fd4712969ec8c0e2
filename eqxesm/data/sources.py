"""Sources of labelled proteins, as a recipe names them."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Strict

from eqxesm.config import REPOSITORY, Commit, Sha256, Url, configuration
from eqxesm.data.fetch import HUB, check_hash, fetch
from eqxesm.data.lazy import select
from eqxesm.data.protein import Columns, Protein
from eqxesm.data.proteins import ARRAY_RECORD, is_table, read_proteins, to_proteins, wanted_columns
from eqxesm.errors import InputError, pluralise
from eqxesm.files import expand_user
from eqxesm.sequences import is_missing
from heads.fields import Count

_log = logging.getLogger(__name__)

Texts = Annotated[tuple[str, ...], Strict(False)]


@configuration
class Source:
    """A file, or a part of one, that holds labelled proteins.

    `path` is a file; or a folder or data set of the Hub, and `file` a CSV file in it. A data set
    needs `revision`, a commit. A file that is not at `path` is fetched from `url`; wherever it is,
    its hash must be `sha256`. `where` lists conditions `column=value`; `folds` values of the fold
    column. `proteins` takes at most so many: a random choice, always the same. `license` and `name`
    count where a row does not say its own licence and source.
    """

    path: str
    name: str = ""
    file: str | None = None
    revision: Commit | None = None
    url: Url | None = None
    sha256: Sha256 | None = None
    proteins: Count | None = None
    sequence_column: str = "sequence"
    label_column: str = "label"
    id_column: str | None = None
    source_column: str | None = None
    fold_column: str | None = None
    cluster_column: str | None = None
    license_column: str | None = None
    license: str | None = None
    citation: str | None = None
    where: Texts = ()
    folds: Texts = ()

    def __post_init__(self):
        if not self.path:
            raise ValueError("path is empty, expected a file, a folder or a data set of the Hub")
        split_conditions(self.where)
        if (self.url or self.sha256) and (self.file or self.revision):
            raise ValueError("url and sha256 are of a file that path names. Leave out file and revision.")
        if self.folds and self.fold_column is None and not self.path.endswith(ARRAY_RECORD):
            raise ValueError("folds are given but no fold_column")

    @property
    def title(self) -> str:
        """The name that reports use."""
        return self.name or Path((self.file or self.path).removesuffix(".gz")).stem

    @property
    def hub_set(self) -> str | None:
        """The data set of the Hub that the proteins are from."""
        if self.revision is not None:
            return self.path
        found = re.match(rf"{HUB}datasets/({REPOSITORY.pattern})/resolve/", self.url or "")
        return found[1] if found else None

    @property
    def columns(self) -> Columns:
        named = {f.name: getattr(self, f"{f.name}_column") for f in fields(Columns)}
        return Columns(**named)

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """Pairs of column and value in `where`."""
        return split_conditions(self.where)


def split_conditions(where: Sequence[str]) -> list[tuple[str, str]]:
    """Conditions `column=value` as pairs."""
    for condition in where:
        if "=" not in condition:
            raise ValueError(f"where has {condition!r}, expected column=value")
    parts = [condition.partition("=") for condition in where]
    return [(column.strip(), value.strip()) for column, _, value in parts]


def open_source(source: Source, root: Path, values: Sequence[str] = ()) -> Sequence[Protein]:
    """The labelled proteins of a source, with `source` and `license` filled in.

    Those without a label are left out. If columns are named by `values`, these are read in the place of labels.
    ArrayRecord files are read as they are needed, all other sources at once.
    """
    path = _find_file(source, root)
    if path.suffix == ARRAY_RECORD and not values:
        return _choose(source, _open_array_record(source, path))
    proteins, unlabelled, ids = [], [], set()
    for protein in _read(source, path, values):
        if source.folds and protein.fold not in source.folds:
            continue
        if protein.label is None and all(map(is_missing, protein.values)):
            unlabelled.append(protein)
            continue
        if protein.id in ids and not values:
            raise InputError(f"{path}: id {protein.id!r} appears twice. Make the ids unique.")
        ids.add(protein.id)
        proteins.append(
            replace(protein, source=protein.source or source.title, license=protein.license or source.license)
        )
    without = f"{pluralise(len(unlabelled), 'protein')} without a label"
    if not proteins:
        raise InputError(f"{path}: no labelled protein matches where and folds ({without})")
    if unlabelled:
        first = unlabelled[0].remark or unlabelled[0].id
        _log.warning("%s: %s left out, first %s", path, without, first)
    return _choose(source, proteins)


def _find_file(source: Source, root: Path) -> Path:
    """Where the file of a source is, or its folder or data set."""
    path = root / expand_user(source.path)
    if source.file is not None or source.revision is not None:
        return path
    if source.url is not None and not os.path.exists(path):
        return fetch(source.url, source.sha256)
    if not os.path.exists(path):
        raise InputError(f"{path}: file not found. Name the folder of the data with --data.")
    check_hash(path, source.sha256, path)
    return path


def _choose(source: Source, proteins: Sequence[Protein]) -> Sequence[Protein]:
    if source.proteins is None or source.proteins >= len(proteins):
        return proteins
    chosen = np.random.default_rng(0).choice(len(proteins), source.proteins, replace=False)
    return select(proteins, np.sort(chosen))


def _read(source: Source, path: Path, values: Sequence[str]) -> Iterator[Protein]:
    columns, where, labelled = source.columns, source.conditions, not values
    # Rows without ids are numbered, and numbers repeat between tables.
    prefix = f"{source.title}:"
    if source.file is None and source.revision is None and not os.path.isdir(path):
        prefix = prefix if is_table(path) else ""
        return read_proteins(path, columns, labelled=labelled, where=where, values=values, number_prefix=prefix)
    # Imported late, as it needs an extra.
    from eqxesm.data.hub_sets import read_hub_rows

    name, file = _locate_set(source, path)
    rows = read_hub_rows(name, file, source.revision, wanted_columns(columns, labelled, where, values))
    return to_proteins(rows, columns, labelled, where, values, prefix)


def _locate_set(source: Source, path: Path) -> tuple[str, str]:
    """Folder or name on the Hub of a data set, and the file in it."""
    if os.path.isfile(path):
        raise InputError(f"{path}: is a file. Leave out file and revision.")
    if source.file is None or not source.file.lower().endswith(".csv"):
        raise InputError(f"{source.path}: holds several files. Name one of its CSV files as file.")
    if os.path.isdir(path):
        if source.revision is not None:
            raise InputError(f"{path}: is a folder, which has no revision. Leave it out.")
        return str(path), source.file
    if not REPOSITORY.fullmatch(source.path):
        raise InputError(f"{path}: folder not found, and not the name of a data set of the Hub (owner/name)")
    if source.revision is None:
        raise InputError(f"{source.path}: folder not found, and a data set of the Hub needs a commit as revision")
    return source.path, source.file


def _open_array_record(source: Source, path: Path) -> Sequence[Protein]:
    # Imported late, as it needs an extra.
    from eqxesm.data.array_record import ArrayRecords

    given = [
        field.name
        for field in fields(source)
        if field.name not in ("path", "name", "folds", "url", "sha256", "proteins")
        and getattr(source, field.name) != field.default
    ]
    if given:
        raise InputError(f"{path}: an ArrayRecord file has these for each protein. Leave out {', '.join(given)}.")
    proteins: Sequence[Protein] = ArrayRecords(path)
    if source.folds:
        kept = [i for i, protein in enumerate(proteins) if protein.fold in source.folds]
        proteins = select(proteins, np.array(kept, np.int64))
    if not proteins:
        raise InputError(f"{path}: no proteins{' in these folds' if source.folds else ''}")
    return proteins
