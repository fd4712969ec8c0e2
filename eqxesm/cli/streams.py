"""What commands share that read any number of proteins and write a result for each."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqxesm.cli.arguments import PROTEINS_HELP, add_columns, read_columns
from eqxesm.cli.devices import add_device
from eqxesm.errors import InputError, pluralise
from eqxesm.files import check_input, expand_user
from eqxesm.parts import Parts, Shard

if TYPE_CHECKING:
    from eqxesm.records import Worker

SHARING = """A run that was stopped goes on with --resume. Machines may share the work, all with the same files:

  eqxesm {command} --shard 1/8      and so on to 8/8
  eqxesm join {out}                 when all are done"""

NOT_SETTINGS = (
    *("run", "proteins", "model", "revision", "out", "resume", "shard", "ray"),
    *("strict", "device", "compilation_cache", "plot"),
)
"""Options that change no result, or that are looked at otherwise."""


def add_proteins(parser: ArgumentParser) -> None:
    """Add the input, and how it is worked through."""
    parser.add_argument("proteins", metavar="FILE", nargs="+", help=f"{PROTEINS_HELP}; - is standard input")
    parser.add_argument("--strict", action="store_true", help="refuse the input if a record cannot be used")
    parser.add_argument("--resume", action="store_true", help="go on with the run that was stopped")
    parser.add_argument("--shard", metavar="I/N", help="do one N-th of the work")
    parser.add_argument("--ray", metavar="ADDRESS", help="work on a Ray cluster; auto is the one of this machine")
    add_device(parser)
    add_columns(parser, label=False)


def add_windows(parser: ArgumentParser) -> None:
    """Add windows for long proteins."""
    parser.add_argument("--windows", action="store_true", help="take longer proteins in overlapping windows")


def check_paths(options: Namespace) -> None:
    """Refuse inputs that are not there, and an output that is one of them, before the work is done."""
    from eqxesm.records import STANDARD_INPUT, are_files

    for path in map(expand_user, options.proteins):
        if path != STANDARD_INPUT:
            check_input(path)
        both = [path, expand_user(options.out)] if options.out else []
        if both and all(map(os.path.exists, both)) and os.path.samefile(*both):
            raise InputError(f"{options.out}: is the input. Name another file to write to.")
    if options.ray and ":" in (options.device or ""):
        raise InputError(f"--device {options.device}: Ray chooses the GPU of each worker. Use --device gpu.")
    if options.shard and options.ray:
        raise InputError("--shard and --ray each share the work: choose one")
    if (options.resume or options.shard or options.ray) and not options.out:
        raise InputError("--resume, --shard and --ray need a file to write to: add --out")
    if (options.resume or options.shard) and not are_files(options.proteins):
        raise InputError("--resume and --shard read the input more than once: name files")


def absolute(model: str) -> str:
    """A model's name as any machine with the same files may read it."""
    folder = expand_user(model)
    return os.path.abspath(folder) if os.path.isdir(folder) and model != "default" else model


def write_in_parts(
    options: Namespace,
    make_worker: "Callable[[], Worker]",
    worker: "Worker",
    write: Callable[[Path, Any], object],
    join: Callable[[Sequence[Path], Path], object],
) -> None:
    """Work through the input, write what comes of each block, and join it all, unless other shards must do the rest.

    `make_worker` makes another `worker`, on another machine.
    """
    from eqxesm.checkpoint.leaves import fingerprint
    from eqxesm.inference import show_progress
    from eqxesm.records import are_files, count_records, cut_blocks, hash_files, read_records

    shard = Shard.parse(options.shard) if options.shard else Shard()
    parts = Parts(options.out)
    settings = {name: value for name, value in vars(options).items() if name not in NOT_SETTINGS}
    inputs = {
        "input": hash_files(options.proteins) if are_files(options.proteins) else "",
        "model": fingerprint(worker.weights),
        "version of eqxesm": version("eqxesm"),
        **{f"--{name.replace('_', '-')}": _identify(value) for name, value in settings.items()},
    }
    with parts.kept(), show_progress(lambda: count_records(options.proteins), " proteins", True) as bar:
        parts.start(inputs, keep=options.resume or shard.count > 1)
        blocks = cut_blocks(read_records(options.proteins, read_columns(options)), worker.parameters)
        if options.ray:
            from eqxesm.cluster import work_on_cluster

            worker.used, worker.unused = work_on_cluster(options.ray, blocks, parts, make_worker, write, bar.update)
        else:
            parts.fill(blocks, shard, worker, write, bar.update)
        if shard.count == 1:
            parts.join(join)


def _identify(value: Any) -> str:
    """A setting, or a hash of the file that it names: what is in it may change."""
    from eqxesm.records import are_files, hash_files

    return hash_files([value]) if value and isinstance(value, str) and are_files([value]) else str(value)


def report(options: Namespace, worker: "Worker", done: str, not_done: str, more: str = "") -> None:
    """Say what was done, and where it is, and something more."""
    skipped = f", {worker.unused:,} {not_done}" if worker.unused else ""
    where = f": {options.out}" if options.out else ""
    if options.shard and Shard.parse(options.shard).count > 1:
        where = f"; join the shards of {options.out} when all are done"
    print(f"{pluralise(worker.used, 'protein')} {done}{skipped}{where}{more}", file=sys.stderr)
