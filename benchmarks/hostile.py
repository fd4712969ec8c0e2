"""How the time to read hostile input grows with its size: at most in proportion.

    python benchmarks/hostile.py --out benchmarks/results/hostile.json

Each case is read at a size and at four times that. A case that takes ten times as long for four times
the size grows faster than in proportion, and fails.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from eqxesm.checkpoint.card_edits import merge_cards, note_fields
from eqxesm.config import parse
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.proteins import read_proteins
from eqxesm.errors import InputError
from eqxesm.files import read_json
from eqxesm.forms import ModelSections
from eqxesm.tables import format_table

CARD = "---\nlicense: mit\ntags:\n- a\n---\n\n<!-- eqxesm:about -->\nours\n<!-- /eqxesm:about -->\n"
STRIP = Cleaning(strip_tags=True, strip_initial_met=True)


def read(ending: str, text: str) -> None:
    """Read a file of proteins."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"p{ending}")
        path.write_text(text)
        for _ in read_proteins(path, labelled=True):
            pass


def load(text: str) -> None:
    """Read a config.json."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(text)
        parse(ModelSections, read_json(path), path)


CASES: dict[str, Callable[[int], object]] = {
    "stars inside a sequence": lambda n: Cleaning().clean("M" + "*" * n + "K"),
    "blanks inside a sequence": lambda n: Cleaning().clean("M" + " " * n + "1"),
    "unknown letters": lambda n: Cleaning().clean("J" * n),
    "a His run": lambda n: STRIP.clean("H" * n),
    "protease sites": lambda n: STRIP.clean("MHHHHHH" + "ENLYFQGLVPRLEVLFQ" * (n // 17) + "HHHHHH"),
    "vector scars": lambda n: STRIP.clean("MSL" + "EGHHHHHHH" * (n // 9)),
    "headers of FASTA": lambda n: read(".fasta", ">a-1\n" * (n // 5)),
    "a long header of FASTA": lambda n: read(".fasta", ">" + "-" * n + "1\nM\n"),
    "words in a header of FASTA": lambda n: read(".fasta", ">" + "a " * (n // 2) + "-1\nM\n"),
    "comments of FASTA": lambda n: read(".fasta", ">a-1\n" + ";\n" * (n // 2)),
    "columns": lambda n: read(".csv", "id,sequence,label" + ",x" * (n // 2) + "\nM,1\n"),
    "fields": lambda n: read(".csv", "sequence,label\nM,1" + "," * n + "\n"),
    "quotes": lambda n: read(".csv", 'sequence,label\n"' + '""' * (n // 2) + '",1\n'),
    "quotes that nobody closes": lambda n: read(".csv", "id,sequence\n" + ('"a,M\n' + "b,M\n" * 120) * (n // 485)),
    "blank rows": lambda n: read(".csv", "sequence,label\n" + ",\n" * (n // 2) + "M,1\n"),
    "comments of a table": lambda n: read(".csv", "#\n" * (n // 2) + "sequence,label\nM,1\n"),
    "labels of many zeros": lambda n: read(".csv", f"sequence,label\nM,1.{'0' * n}\nM,0.{'0' * n}1\n"),
    "marks of a card": lambda n: merge_cards(CARD, "<!-- eqxesm:a -->\n<!-- /eqxesm:a -->\nx\n" * (n // 36)),
    "open marks of a card": lambda n: merge_cards(CARD, "<!-- eqxesm:" * (n // 12)),
    "blanks in a mark": lambda n: merge_cards(CARD, "<!--" + " " * n + "eqxesm:a"),
    "notes of a card": lambda n: merge_cards(CARD, "<!-- written by eqxesm: {" * (n // 24)),
    "rules of a card": lambda n: merge_cards(CARD, "---\n" * (n // 4)),
    "blank lines of a card": lambda n: merge_cards(CARD, "\n" * n + "---"),
    "tags of a card": lambda n: merge_cards(
        f"---\ntags:\n- a\n---\n\n{note_fields({'tags': [str(i) for i in range(n // 8)]})}\n",
        "---\ntags:\n" + "".join(f"- {i}\n" for i in range(min(n, 90_000) // 8)) + "---\n",
    ),
    "nested YAML": lambda n: merge_cards(CARD, "---\ntags: " + "[" * min(n, 90_000) + "\n---\n"),
    "nested JSON": lambda n: load("[" * n),
    "keys of JSON": lambda n: load("{" + ",".join(f'"{i}":1' for i in range(n // 10)) + "}"),
    "a message": lambda n: InputError("\n" * n + "\x1b" * n),
    "a table": lambda n: format_table([{"id": "\x1b" * 8, "x": 1.0}] * (n // 8)),
}


def measure(case: Callable[[int], object], size: int) -> float:
    """Seconds that a case takes; what it refuses counts as read."""
    start = time.perf_counter()
    with suppress(InputError):
        case(size)
    return time.perf_counter() - start


def main() -> int:
    """Measure every case, and fail if one grows too fast."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=250_000, help="characters of the smaller input")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    rows = {}
    for name, case in CASES.items():
        small, large = measure(case, options.size), measure(case, 4 * options.size)
        rows[name] = {"seconds": round(small, 4), "seconds_at_four_times": round(large, 4)}
        print(f"{name:30} {small:8.3f} s {large:8.3f} s", flush=True)
    if options.out:
        facts = {"machine": platform.machine(), "python": platform.python_version(), "characters": options.size}
        options.out.write_text(json.dumps({**facts, "cases": rows}, indent=1) + "\n")
    # Below a tenth of a second it is the start-up that is measured.
    slow = [name for name, row in rows.items() if row["seconds_at_four_times"] > max(0.5, 10 * row["seconds"])]
    print(f"faster than in proportion: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
