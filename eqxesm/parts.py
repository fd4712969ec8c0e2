"""Outputs that are written in whole parts and joined at the end, so that a stopped run can go on.

The parts of `out.csv` are in the folder `.out.csv.parts` beside it, one file for each block of the input. Under its
own name the output appears whole, by one rename.
"""

import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqxesm.errors import InputError, pluralise
from eqxesm.files import expand_user, make_folder, read_json, replace_file, write_file

INPUTS = "inputs.json"
END = "end.json"


@dataclass(frozen=True)
class Shard:
    """Which blocks of the input a process takes: every `count`-th, from `number` on, which counts from 1."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `I/N`."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise InputError(f"--shard {text}: expected I/N, such as 1/8 to 8/8")
        return cls(int(number), int(count))

    def takes(self, block: int) -> bool:
        return block % self.count == self.number - 1


class Parts:
    """The parts of one output, which several processes may share."""

    def __init__(self, output: str | os.PathLike):
        self.output = Path(expand_user(output))
        target = Path(os.path.realpath(self.output))
        self.folder = target.with_name(f".{target.name}.parts")

    def start(self, inputs: Mapping[str, str], *, keep: bool) -> None:
        """Make the folder. With `keep`, go on with what is there, if `inputs`, all that it depends on, are the same."""
        path = self.folder / INPUTS
        if path.exists() and not keep:
            self.remove()
        if path.exists():
            earlier = read_json(path)
            changed = [name for name in inputs if not isinstance(earlier, dict) or earlier.get(name) != inputs[name]]
            if changed:
                raise InputError(
                    f"{self.output}: the run that was stopped had another {changed[0]}. Start anew without --resume, "
                    "or name another file."
                )
            return
        make_folder(self.folder)
        write_file(path, json.dumps(dict(inputs)) + "\n")

    def path(self, block: int) -> Path:
        """Where the part of a block is, or is to be written whole."""
        return self.folder / f"{block:09}{self.output.suffix}"

    def done(self, block: int) -> bool:
        return self.path(block).exists()

    def end(self, blocks: int) -> None:
        """Note how many blocks the input has."""
        write_file(self.folder / END, json.dumps({"blocks": blocks}) + "\n")

    def fill(
        self,
        blocks: Iterable[Any],
        shard: Shard,
        work: Callable[[Any, Callable[[int], Any]], Any],
        write: Callable[[Path, Any], object],
        advance: Callable[[int], Any],
    ) -> None:
        """Work on the blocks of a shard that have no part yet, and write what comes of each."""
        total = 0
        for block in blocks:
            total += 1
            if self.done(block.number) or not shard.takes(block.number):
                advance(len(block.records))
            else:
                write(self.path(block.number), work(block, advance))
        self.end(total)

    @contextmanager
    def kept(self) -> Generator[None, None, None]:
        """Keep the parts that there are when what is inside is stopped."""
        try:
            yield
        except BaseException as error:
            if not any(self.folder.glob(f"*{self.output.suffix}")):
                self.remove()
            elif isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"and {self.output} is not whole. Go on with --resume.") from None
            raise

    def join(self, join: Callable[[Sequence[Path], Path], object]) -> None:
        """Make the output of all parts, and delete them. Missing ones are refused."""
        paths = self._find()
        with replace_file(self.output) as partial:
            join(paths, partial)
        self.remove()

    def _find(self) -> list[Path]:
        if not self.folder.is_dir():
            raise InputError(f"{self.output}: there are no parts of it ({self.folder})")
        end = read_json(self.folder / END) if (self.folder / END).exists() else None
        if not isinstance(end, dict) or not isinstance(end.get("blocks"), int):
            raise InputError(f"{self.output}: no shard has come to the end of the input yet")
        paths = [self.path(block) for block in range(end["blocks"])]
        missing = [path.name for path in paths if not path.exists()]
        if missing:
            raise InputError(
                f"{self.output}: {pluralise(len(missing), 'part')} of {len(paths):,} missing, the first {missing[0]}. "
                "Run the shards that were stopped once more."
            )
        return paths

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
