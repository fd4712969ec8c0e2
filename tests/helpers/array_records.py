"""Writes ArrayRecord files of proteins, as the library reads them."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict

from array_record.python.array_record_module import ArrayRecordWriter

from eqxesm.data.protein import Protein


def write_records(path: str | os.PathLike[str], records: Iterable[bytes]) -> None:
    """Write raw records, one to a group, so that each can be read without the others."""
    writer = ArrayRecordWriter(os.fspath(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def write_proteins(path: str | os.PathLike[str], proteins: Iterable[Protein]) -> None:
    """Write proteins, each a JSON object of the fields that it has."""
    present = ({name: value for name, value in asdict(p).items() if value not in (None, ())} for p in proteins)
    write_records(path, (json.dumps(each, ensure_ascii=False).encode() for each in present))
