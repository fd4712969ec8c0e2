"""The records of files, in blocks of about the same work, and what works on them."""

import gzip
import hashlib
import logging
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from eqxesm.data.cleaning import Cleaned
from eqxesm.data.formats import ANNOTATED, STANDARD_INPUT, suffix_of
from eqxesm.data.protein import Columns, Protein
from eqxesm.data.proteins import read_proteins
from eqxesm.errors import InputError, pluralise
from eqxesm.files import expand_user

_log = logging.getLogger(__name__)

BLOCK_WORK = 1e13
"""Parameters times residues of a block: about a minute on two CPU cores for a large encoder."""

FEWEST, MOST = 32_768, 524_288
"""Bounds of the residues of a block: enough to find proteins of similar length, and few enough to hold."""


@dataclass(frozen=True)
class Record:
    """A protein with its place: the file, and its number there. `repeat` says that its id was there before."""

    where: str
    number: int
    protein: Protein
    repeat: str | None


@dataclass(frozen=True)
class Block:
    """Consecutive records. `more` tells whether others follow."""

    number: int
    records: list[Record]
    more: bool


def read_records(paths: Sequence[str], columns: Columns = Columns()) -> Iterator[Record]:
    """The records of files, one after another."""
    names = ("standard input" if path == STANDARD_INPUT else path for path in paths)
    return place_records(zip(names, (read_proteins(path, columns) for path in paths), strict=True))


def place_records(files: Iterable[tuple[str, Iterable[Protein]]]) -> Iterator[Record]:
    """The proteins of named files with their places."""
    first: dict[str, int] = {}
    total = 0
    for where, proteins in files:
        for number, protein in enumerate(proteins, 1):
            total += 1
            before = first.setdefault(protein.id, total)
            repeat = None if before == total else f"duplicate id, first used by record {before:,}"
            yield Record(where, number, protein, repeat)


def cut_blocks(records: Iterable[Record], parameters: int) -> Iterator[Block]:
    """Cut records into blocks for a model of so many parameters."""
    enough = min(MOST, max(FEWEST, BLOCK_WORK / max(parameters, 1)))
    number, block, residues = 0, [], 0
    for record in records:
        if residues >= enough:
            yield Block(number, block, True)
            number, block, residues = number + 1, [], 0
        block.append(record)
        residues += len(record.protein.sequence)
    yield Block(number, block, False)


def are_files(paths: Sequence[str]) -> bool:
    """Whether all can be read more than once: standard input and pipes cannot."""
    return all(path != STANDARD_INPUT and os.path.isfile(expand_user(path)) for path in paths)


def hash_files(paths: Sequence[str]) -> str:
    """A hash of what is in files, whatever their names are."""
    digest = hashlib.sha256()
    for path in paths:
        with open(expand_user(path), "rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
        digest.update(b"\0")
    return digest.hexdigest()


def count_records(paths: Sequence[str]) -> int | None:
    """About how many records there are, for a progress bar; None if that cannot be told in a moment."""
    if not are_files(paths):
        return None
    total = 0
    for path in map(expand_user, paths):
        suffix = suffix_of(path)
        if suffix in (".parquet", ".arrayrecord", *ANNOTATED):
            return None
        header = suffix in (".csv", ".tsv")
        try:
            with open(path, "rb") as raw:
                file = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
                total += sum(header or line.startswith(b">") for line in file) - header
        except (OSError, EOFError, zlib.error):
            # Reading it will say what is wrong.
            return None
    return total


Advance = Callable[[int], Any]
"""Is told how many more records are done."""

Looked = tuple[Cleaned | None, str]
"""What cleaning made of a record, and the note on it, which says why if that is nothing."""


class Worker(ABC):
    """Works on block after block of records. One that cannot be used is told, or with `strict` refuses all."""

    parameters: int
    weights: Any
    """Modules whose arrays decide what comes of a record."""
    refusal: ClassVar[str]
    """What comes before the reason in the note on a record that cannot be used."""

    def __init__(self, *, strict: bool = False):
        self.used = self.unused = 0
        self._strict = strict
        self._problem = ""
        self._more_problems = 0

    @abstractmethod
    def clean(self, sequence: str) -> Cleaned:
        """Clean a sequence, or refuse it."""

    @abstractmethod
    def work(self, records: list[Record], looked: list[Looked], advance: Advance, more: bool) -> Any:
        """What comes of records."""

    def __call__(self, block: Block, advance: Advance) -> Any:
        """What comes of a block. `advance` is told of every batch."""
        looked = [self._look_at(record) for record in block.records]
        usable = sum(cleaned is not None for cleaned, _ in looked)
        if self._problem and (self._strict or not (usable or self.used or block.more)):
            more = f" ({pluralise(self._more_problems, 'more problem')})" if self._more_problems else ""
            raise InputError(self._problem + more)
        advance(len(looked) - usable)
        made = self.work(block.records, looked, advance, block.more)
        self.used, self.unused = self.used + usable, self.unused + len(looked) - usable
        return made

    def pick_usable(self, records: list[Record], looked: list[Looked]) -> list[tuple[Record, Cleaned]]:
        """Records that can be used. The notes on all are logged, for results that have no room for them."""
        for record, (_, note) in zip(records, looked, strict=True):
            if note:
                _log.warning("%s, record %d (%s): %s", record.where, record.number, record.protein.id, note)
        return [(record, each) for record, (each, _) in zip(records, looked, strict=True) if each is not None]

    def find_fault(self, record: Record, cleaned: Cleaned) -> str | None:  # noqa: ARG002
        """Why a record of a good sequence cannot be used, if it cannot; or refuse it."""
        return None

    def _look_at(self, record: Record) -> Looked:
        protein = record.protein
        cleaned, fault, remark = None, protein.remark, None
        if protein.sequence or not fault:
            try:
                cleaned, remark = self.clean(protein.sequence), protein.remark
                fault = self.find_fault(record, cleaned)
            except InputError as error:
                fault = str(error)
        problems = list(dict.fromkeys(each for each in (fault, remark, record.repeat) if each))
        for problem in problems:
            self._more_problems += bool(self._problem)
            self._problem = self._problem or f"{record.where}, record {record.number} ({protein.id}): {problem}"
        if cleaned is not None and not fault:
            return cleaned, "; ".join([*cleaned.notes, *problems])
        return None, "; ".join([f"{self.refusal}: {problems[0]}", *problems[1:]])
