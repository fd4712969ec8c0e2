"""Labelled proteins in ArrayRecord files: random access to sets that outgrow memory."""

import json
import os
import tempfile
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import overload

import numpy as np

from eqxesm.data.records import LabelledProtein, Selection
from eqxesm.errors import InputError

ENDING = ".arrayrecord"

BLOCK = 1024
"""Records that are read at once where all of them are wanted, many times faster than one by one."""

_TYPES = typing.get_type_hints(LabelledProtein)


def write_array_record(path: str | os.PathLike[str], proteins: Iterable[LabelledProtein]) -> int:
    """Write proteins to an ArrayRecord file, whole or not at all.

    A record is one protein as a JSON object in UTF-8. Only the ids are held in memory.

    Args:
        path: a file that ends in .arrayrecord; what was there is replaced.
        proteins: at least one, their ids unique.

    Returns:
        How many were written.

    Raises:
        InputError: the ending is another one, there are no proteins, an id stands there twice, or
            the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ENDING:
        raise InputError(f"{path}: name it with the ending {ENDING}")
    try:
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        try:
            count = _write(path, partial, proteins)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): choose another") from error
    return count


def _write(path: Path, partial: str, proteins: Iterable[LabelledProtein]) -> int:
    from array_record.python import array_record_module  # ty: ignore[missing-module-member]

    ids = set()
    # One record a group: a larger group is read and decompressed whole for each of its records.
    writer = array_record_module.ArrayRecordWriter(partial, "group_size:1")
    try:
        for protein in proteins:
            if protein.id in ids:
                raise InputError(f"{path}: id {protein.id!r} stands there twice: make it unique")
            ids.add(protein.id)
            present = {name: value for name, value in asdict(protein).items() if value is not None}
            _or_refuse(path, writer.write, json.dumps(present, ensure_ascii=False).encode())
    finally:
        _or_refuse(path, writer.close)
    if not ids:
        raise InputError(f"{path}: no proteins to write: give at least 1")
    return len(ids)


def _or_refuse(path: Path, function: Callable, *arguments: bytes) -> None:
    try:
        function(*arguments)
    except RuntimeError as error:
        raise InputError(
            f"{path}: writing failed ({_short(error)}): make room or choose another"
        ) from error


class ArrayRecords(Sequence[LabelledProtein]):
    """The proteins of an ArrayRecord file, each read when it is asked for.

    Several threads may read at once, and a copy of it can be sent to another process.

    Raises:
        InputError: the file is missing or no ArrayRecord file; on access, a record is damaged or
            was not written by `write_array_record`.
    """

    def __init__(self, path: str | os.PathLike[str]):
        # Imported late: it takes half a second.
        from grain.sources import ArrayRecordDataSource

        self._path = os.fspath(path)
        if not os.path.isfile(self._path):
            raise InputError(f"{self._path}: no such file: check the path")
        try:
            self._records = ArrayRecordDataSource(self._path)
        except RuntimeError as error:
            raise InputError(
                f"{self._path}: not a whole ArrayRecord file ({_short(error)}): write it again"
            ) from error

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> LabelledProtein: ...
    @overload
    def __getitem__(self, index: slice) -> Selection: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return Selection(self, np.arange(len(self))[index])
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"protein {index} of {len(self)}")
        try:
            record = self._records[position]
        except RuntimeError as error:
            raise InputError(
                f"{self._place(position)}: damaged ({_short(error)}): write the file again"
            ) from error
        return _parse(self._place(position), record)

    def __iter__(self) -> Iterator[LabelledProtein]:
        for start in range(0, len(self), BLOCK):
            positions = range(start, min(start + BLOCK, len(self)))
            try:
                records = self._records.__getitems__(positions)
            except RuntimeError:
                # One by one, so that the damaged one is named.
                yield from (self[position] for position in positions)
            else:
                for position, record in zip(positions, records, strict=True):
                    yield _parse(self._place(position), record)

    def _place(self, position: int) -> str:
        return f"{self._path}: record {position + 1}"


def _parse(place: str, record: bytes) -> LabelledProtein:
    try:
        values = json.loads(record)
    except (ValueError, RecursionError):
        values = None
    if (
        not isinstance(values, dict)
        or not set(values) <= set(_TYPES)
        or not all(isinstance(values.get(name), hint) for name, hint in _TYPES.items())
        or values["label"] not in (0, 1)
    ):
        raise InputError(
            f"{place}: not a labelled protein: write the file with eqxesm's write_array_record"
        )
    return LabelledProtein(**values)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:150]
