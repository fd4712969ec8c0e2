"""What commands share that read any number of proteins and write a result for each."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqxesm.cli.arguments import PROTEINS_HELP, add_columns, read_columns
from eqxesm.errors import InputError
from eqxesm.files import check_input, expand_user
from eqxesm.parts import Parts, Shard

if TYPE_CHECKING:
    from eqxesm.records import Worker

SHARING = """A run that was stopped goes on with --resume. Machines may share the work, all with the same files:

  eqxesm {command} --shard 1/8      and so on to 8/8
  eqxesm join {out}                 when all are done"""

NOT_SETTINGS = ("run", "proteins", "model", "revision", "out", "resume", "shard", "strict", "compilation_cache")
"""Options that change no result, or that are looked at otherwise."""


def add_proteins(parser: ArgumentParser) -> None:
    """Add the input, and how it is worked through."""
    parser.add_argument("proteins", metavar="FILE", nargs="+", help=f"{PROTEINS_HELP}; - is standard input")
    parser.add_argument("--windows", action="store_true", help="take longer proteins in overlapping windows")
    parser.add_argument("--strict", action="store_true", help="refuse the input if a record cannot be used")
    parser.add_argument("--resume", action="store_true", help="go on with the run that was stopped")
    parser.add_argument("--shard", metavar="I/N", help="do one N-th of the work")
    add_columns(parser, label=False)


def check_paths(options: Namespace) -> None:
    """Refuse inputs that are not there, and an output that is one of them, before the work is done."""
    from eqxesm.records import STANDARD_INPUT, are_files

    for path in map(expand_user, options.proteins):
        if path != STANDARD_INPUT:
            check_input(path)
        both = [path, expand_user(options.out)] if options.out else []
        if both and all(map(os.path.exists, both)) and os.path.samefile(*both):
            raise InputError(f"{options.out}: is the input. Name another file to write to.")
    if options.resume or options.shard:
        if not options.out:
            raise InputError("--resume and --shard need a file to write to: add --out")
        if not are_files(options.proteins):
            raise InputError("--resume and --shard read the input more than once: name files")


def write_in_parts(
    options: Namespace,
    worker: "Worker",
    model: str,
    write: Callable[[Path, Any], object],
    join: Callable[[Sequence[Path], Path], object],
) -> bool:
    """Work through the input, write what comes of each block, and join it all; False if other shards must do the rest.

    `model` is a hash of what the results come from besides the input.
    """
    from eqxesm.inference import show_progress
    from eqxesm.records import are_files, count_records, cut_blocks, hash_files, read_records

    shard = Shard.parse(options.shard) if options.shard else Shard()
    parts = Parts(options.out)
    settings = {name: value for name, value in vars(options).items() if name not in NOT_SETTINGS}
    inputs = {
        "input": hash_files(options.proteins) if are_files(options.proteins) else "",
        "model": model,
        "version of eqxesm": version("eqxesm"),
        **{f"--{name.replace('_', '-')}": str(value) for name, value in settings.items()},
    }
    blocks = 0
    with parts.kept(), show_progress(count_records(options.proteins), " proteins", True) as bar:
        parts.start(inputs, keep=options.resume or shard.count > 1)
        for block in cut_blocks(read_records(options.proteins, read_columns(options)), worker.parameters):
            blocks += 1
            if parts.done(block.number) or not shard.takes(block.number):
                bar.update(len(block.records))
                continue
            write(parts.path(block.number), worker(block, bar.update))
        parts.end(blocks)
        if shard.count > 1:
            return False
        parts.join(join)
    return True
