"""Port a published ESM-C checkpoint to eqxesm: `python -m conversion.port esmc_300m`."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from conversion.layouts import Layout, check, check_size, infer_config, recognise
from conversion.names import TABLE, Row
from conversion.sources import RELEASES, Source, open_source
from eqxesm.checkpoint.card import render_card
from eqxesm.checkpoint.folder import with_words_of
from eqxesm.checkpoint.format import named_leaves, write
from eqxesm.checkpoint.publish import check_repository, push
from eqxesm.checkpoint.schema import CARD, Provenance
from eqxesm.checkpoint.tensors import Spec
from eqxesm.encoders import ESMC, PRESETS, ESMCConfig
from eqxesm.encoders.esmc import describe_encoder
from eqxesm.errors import InputError

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclass(frozen=True)
class Port:
    """What a port read and wrote.

    Attributes:
        source: what it read.
        layout: the layout that it recognised.
        config: the architecture that it found.
        provenance: what the checkpoint says of where it comes from.
        leaves: tensors that it wrote.
        parameters: numbers in them.
    """

    source: Source
    layout: Layout
    config: ESMCConfig
    provenance: Provenance
    leaves: int
    parameters: int


def port(
    size: str | None, source: Source, folder: str | Path, dtype: np.dtype | None = None
) -> Port:
    """Write a published checkpoint as ours, tensor by tensor.

    Args:
        size: the size that it must have, or None for any.
        source: the checkpoint.
        folder: where to; an earlier checkpoint there is replaced.
        dtype: precision to write; that of the source by default.

    Returns:
        What was read and written.

    Raises:
        InputError: the source is not exactly an ESM-C of that size, or the folder cannot be
            written; then nothing is.
    """
    layout, config = understand(size, source)
    wanted = skeleton(config)
    dtype = dtype or _only_dtype(source)
    table = {row.ours: row for row in TABLE}

    def parts(name: str) -> Iterator[np.ndarray]:
        for layer in range(config.layers if name.startswith("blocks.") else 1):
            block = read_leaf(source, layout, table[name], layer)
            # An overflow is told below, by its name.
            with np.errstate(over="ignore"):
                block = block.astype(dtype, copy=False)
            if not np.isfinite(block).all():
                raise InputError(
                    f"{source.name}: {layout.tensor(table[name], layer)} holds NaN or infinity "
                    f"as {dtype}: the file is damaged, or {dtype} is too narrow for it"
                )
            yield block

    provenance = Provenance(source.name, source.revision, source.hashes(), source.license)
    sections = describe_encoder(config, provenance)
    specs = {name: Spec(shape, dtype) for name, shape in wanted.items()}
    card = with_words_of(Path(folder), render_card(sections))
    write(folder, specs, parts, sections, {CARD: card.encode("utf-8")})
    parameters = sum(int(np.prod(shape)) for shape in wanted.values())
    return Port(source, layout, config, provenance, len(specs), parameters)


def _only_dtype(source: Source) -> np.dtype:
    found = {tensor.spec.dtype for tensor in source.tensors.values()}
    if len(found) > 1 or not found <= set(DTYPES.values()):
        names = " and ".join(sorted(dtype.name for dtype in found))
        raise InputError(f"{source.name}: is {names}: name --dtype {' or '.join(DTYPES)}")
    return found.pop()


def understand(size: str | None, source: Source) -> tuple[Layout, ESMCConfig]:
    """Tell the layout and the architecture of a published checkpoint, and that all of it is there.

    Args:
        size: the size that it must have, or None for any.
        source: the checkpoint.

    Returns:
        Its layout and its architecture.

    Raises:
        InputError: it is not exactly an ESM-C of that size.
    """
    layout = recognise(source.tensors, source.name)
    for name, tensor in source.tensors.items():
        if not jnp.issubdtype(tensor.spec.dtype, jnp.floating):
            raise InputError(
                f"{source.name}: {name} is {tensor.spec.dtype.name}, no floating-point number: "
                "quantised checkpoints are not read, name the original one"
            )
    shapes = {name: tensor.spec.shape for name, tensor in source.tensors.items()}
    config = infer_config(layout, shapes, source.name)
    if size is not None:
        check_size(size, config, source.name)
    check(layout, config, shapes, skeleton(config), source.name)
    return layout, config


def read_leaf(source: Source, layout: Layout, row: Row, layer: int) -> np.ndarray:
    """Read one layer of one of our leaves from a published checkpoint.

    Args:
        source: the checkpoint.
        layout: its layout.
        row: the leaf.
        layer: number of the block; without effect for leaves outside the blocks.

    Returns:
        The array, in the precision of the source.
    """
    part = row.part(layout.name)
    tensor = source.tensors[layout.tensor(row, layer)]
    height = tensor.spec.shape[0] // part.of
    return tensor.read(part.index * height, (part.index + 1) * height)


@cache
def skeleton(config: ESMCConfig) -> dict[str, tuple[int, ...]]:
    """List the leaves of an encoder without making it.

    Args:
        config: the architecture.

    Returns:
        Shapes by dotted name.
    """
    tree = eqx.filter_eval_shape(lambda: ESMC(config, key=jax.random.key(0)))
    return {name: tuple(leaf.shape) for name, leaf in named_leaves(tree).items()}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the program's name; those of the process by default.

    Returns:
        The exit status: 0, or 2 after an error.
    """
    parser = argparse.ArgumentParser(
        prog="python -m conversion.port",
        description="Port a published ESM-C checkpoint to a folder that ESMC.from_pretrained reads."
        " The layout is recognised by the tensors' names, and anything missing, unknown or"
        " misshaped is refused.",
        epilog="Example: python -m conversion.port esmc_300m --source model.safetensors"
        " --out esmc_300m",
    )
    parser.add_argument("size", choices=list(PRESETS), help="the size that the source must have")
    parser.add_argument(
        "--source",
        metavar="PATH|REPO[@REVISION]",
        help="a .safetensors or .pth file, a folder, or a Hub repository; by default the release"
        f" that was reviewed: {', '.join(release.repository for release in RELEASES.values())}",
    )
    parser.add_argument("--out", metavar="FOLDER", help="where to write (default: ./SIZE)")
    parser.add_argument(
        "--dtype", choices=list(DTYPES), help="precision to write (default: the source's own)"
    )
    parser.add_argument(
        "--push",
        metavar="REPO",
        help="prove the port against the torch original (extra 'convert'), and publish it with its"
        " card and the proof in a Hub repository (owner/name), which is made private",
    )
    parser.add_argument("--public", action="store_true", help="make the repository public")
    parser.add_argument(
        "--no-parity",
        action="store_true",
        help="publish without the proof, for want of memory say; the card then says so",
    )
    options = parser.parse_args(arguments)
    folder = Path(options.out or options.size)
    address = None
    try:
        if options.push:
            check_repository(options.push)
        elif options.public or options.no_parity:
            raise InputError("--public and --no-parity go with --push: name the repository")
        source = open_source(options.size, options.source)
        report = port(options.size, source, folder, DTYPES.get(options.dtype))
        if options.push:
            if not options.no_parity:
                add_proof(folder, source)
            address = _publish(folder, options.push, report, not options.public)
    except InputError as error:
        print(f"conversion.port: error: {error}", file=sys.stderr)
        return 2
    print(describe(report, folder))
    if address:
        print(f"pushed  {address}")
    return 0


def _publish(folder: Path, repository: str, report: Port, private: bool) -> str:
    try:
        message = f"Port of {report.source.name} to eqxesm"
        return push(folder, repository, private=private, commit_message=message)
    except InputError as error:
        raise InputError(
            f"{error}; the port is whole: eqxesm push {folder} {repository}"
        ) from error


def add_proof(folder: Path, source: Source) -> None:
    """Hold a port against its torch original, and put the figures into its folder and card.

    Args:
        folder: what `port` wrote.
        source: what it read.

    Raises:
        InputError: the port is not within tolerance, or there is no original to hold it against.
    """
    try:
        from conversion.parity import prove
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed, and the port is proved before it is published: "
            "pip install 'eqxesm[convert]', or publish with --no-parity"
        ) from error
    print(f"proving {folder} against the torch original", file=sys.stderr, flush=True)
    report, plot = prove(folder, source)
    kept = ("original", "dtype", "device", "tolerance", "weights", "date")
    rungs = (rung for case in report["cases"] for rung in case["rungs"].values())
    facts = {
        "summary": f"A port of {source.name}, tensor by tensor.",
        "parity": [
            {
                **{key: report[key] for key in kept},
                "distance": max(rung["relative_l2"] for rung in rungs),
                "versions": report["versions"],
            }
        ],
    }
    ESMC.from_folder(folder).save_pretrained(folder, facts, {"parity.png": plot})


def describe(report: Port, folder: Path) -> str:
    """Say what a port did.

    Args:
        report: what `port` gave.
        folder: where it wrote.

    Returns:
        A few lines of text.
    """
    source, config = report.source, report.config
    revision = f" at {source.revision}" if source.revision else ""
    extra = f" ({source.ignored} of extra state ignored)" if source.ignored else ""
    bare = ", bare encoder" if report.layout.bare else ""
    head = "" if config.lm_head else ", no LM head"
    written = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return "\n".join(
        [
            f"read    {source.name}{revision}: {len(source.tensors)} tensors{extra}",
            *(f"sha256  {line}" for line in report.provenance.sha256),
            f"layout  {report.layout.name}{bare}: {config.layers} layers of width "
            f"{config.d_model}{head}",
            f"wrote   {folder}: {report.leaves} tensors, {report.parameters:,} parameters, "
            f"{written:,} bytes",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
