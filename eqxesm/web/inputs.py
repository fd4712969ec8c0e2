"""What people give to the page, within bounds."""

from collections.abc import Iterator

from eqxesm.alphabet import RESIDUES
from eqxesm.data.proteins import read_text
from eqxesm.errors import InputError
from eqxesm.records import Record, place_records

MAX_BYTES = 500_000
"""Of what is pasted or of a file, after unpacking."""

MAX_PROTEINS = 500
MAX_RESIDUES = 5_000
"""Of a protein that is predicted."""

MAX_ONE = 1_000
"""Residues of a protein that is explained, scanned or designed."""

MAX_SETTING = 1_000
"""Characters of a setting, such as positions."""

NAME = "the input"

COMMAND = "The command eqxesm predict has no such limit."


def read_records(text: str) -> list[Record]:
    """The proteins of FASTA or of a table with a header."""
    size = len(text.encode("utf-8", errors="replace"))
    if size > MAX_BYTES:
        raise InputError(f"{NAME} has more than {MAX_BYTES:,} bytes, the most that this page takes. {COMMAND}")
    if not text.strip():
        raise InputError(f"{NAME} is empty. Paste proteins, or choose a file.")
    records: list[Record] = []
    for record in _place(text):
        if len(records) == MAX_PROTEINS:
            raise InputError(
                f"{NAME} has more than {MAX_PROTEINS:,} proteins, the most that this page takes. {COMMAND}"
            )
        _check_length(record, MAX_RESIDUES)
        records.append(record)
    return records


def read_one(text: str) -> Record:
    """The only protein of a text."""
    records = read_records(text)
    if len(records) > 1:
        raise InputError(f"{NAME} has {len(records):,} proteins, expected one. Leave out the others.")
    _check_length(records[0], MAX_ONE)
    return records[0]


def check_setting(name: str, text: str) -> str:
    """A setting without blanks around it; one that is too long is refused."""
    if len(text) > MAX_SETTING:
        raise InputError(f"{name}: more than {MAX_SETTING:,} characters. Shorten it.")
    return text.strip()


def _place(text: str) -> Iterator[Record]:
    bare = _is_sequence(text)
    return place_records([(NAME, read_text(NAME, f">protein\n{text}" if bare else text))])


def _is_sequence(text: str) -> bool:
    """Whether a text is a bare sequence: lines of capital letters of residues, 20 or more in all."""
    words, lines = text.split(), [line for line in text.splitlines() if line.strip()]
    letters = "".join(words)
    return len(words) == len(lines) and len(letters) >= 20 and set(letters) <= set(RESIDUES)


def _check_length(record: Record, most: int) -> None:
    if (length := record.protein.count()) > most:
        raise InputError(
            f"record {record.number} ({record.protein.id}): {length:,} residues, at most {most:,} are taken here. "
            "Split it into domains."
        )
