"""Labelled proteins in ArrayRecord files: random access to sets that outgrow memory."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields

from eqxesm.data.lazy import LazySequence
from eqxesm.data.protein import Protein
from eqxesm.errors import InputError, missing_extra, one_line

BLOCK = 1024
"""Records read at once by iteration, many times faster than one by one."""

_REQUIRED = {"id": str, "sequence": str, "label": int, "source": str}
_OPTIONAL = {field.name for field in fields(Protein)} - {*_REQUIRED, "values"}


class ArrayRecords(Sequence[Protein]):
    """The proteins of an ArrayRecord file, each read when it is asked for.

    A record is a JSON object with the fields of a `Protein`; `id`, `sequence`, `label` and `source`
    are required. Write the file with `group_size:1`, for random access.
    """

    def __init__(self, path: str | os.PathLike[str]):
        try:
            from grain.sources import ArrayRecordDataSource
        except ImportError as error:
            raise missing_extra(error.name or "grain", "train") from error
        self._path = os.fspath(path)
        if not os.path.isfile(self._path):
            raise InputError(f"{self._path}: file not found")
        try:
            self._records = ArrayRecordDataSource(self._path)
        except RuntimeError as error:
            raise InputError(f"{self._path}: not a whole ArrayRecord file ({one_line(error, 150)})") from error

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return LazySequence(len(self), self.__getitem__)[index]
        position = range(len(self))[index]
        try:
            record = self._records[position]
        except RuntimeError as error:
            raise InputError(f"{self._place(position)}: damaged ({one_line(error, 150)})") from error
        return _parse(self._place(position), record)

    def __iter__(self) -> Iterator[Protein]:
        for start in range(0, len(self), BLOCK):
            positions = range(start, min(start + BLOCK, len(self)))
            try:
                records = self._records.__getitems__(positions)
            except RuntimeError:
                # One by one, so that the error names the damaged one.
                yield from (self[position] for position in positions)
            else:
                for position, record in zip(positions, records, strict=True):
                    yield _parse(self._place(position), record)

    def _place(self, position: int) -> str:
        return f"{self._path}, record {position + 1}"


def _parse(place: str, record: bytes) -> Protein:
    try:
        values = json.loads(record)
        required = {name: values.pop(name) for name in _REQUIRED}
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        required, values = {}, {}
    if (
        not required
        or not all(type(required[name]) is kind for name, kind in _REQUIRED.items())
        or required["label"] not in (0, 1)
        or not set(values) <= _OPTIONAL
        or not all(isinstance(value, str | None) for value in values.values())
    ):
        raise InputError(f"{place}: not a labelled protein: a JSON object with the fields of one")
    return Protein(**required, **values)
