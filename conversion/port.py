"""Port a published ESM-C checkpoint to eqxesm: `python -m conversion.port esmc_300m`."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conversion.sources import open_source
from eqxesm.checkpoint.folder import write_checkpoint
from eqxesm.checkpoint.record import Provenance
from eqxesm.checkpoint.tensors import TensorSpec
from eqxesm.cli.arguments import read_path
from eqxesm.cli.main import run_command
from eqxesm.config import describe
from eqxesm.encoders import PRESETS, ESMCConfig
from eqxesm.encoders.language_model import EncoderSections
from eqxesm.encoders.published.layouts import Layout, leaf_shapes
from eqxesm.encoders.published.reader import DTYPES, PublishedCheckpoint, leaf_parts, understand
from eqxesm.errors import InputError
from eqxesm.files import expand_user, make_folder
from eqxesm.hub.download import check_repository
from eqxesm.hub.releases import RELEASES


@dataclass(frozen=True)
class Port:
    """What a port read and wrote."""

    source: PublishedCheckpoint
    layout: Layout
    config: ESMCConfig
    provenance: Provenance
    leaves: int
    parameters: int


def port(size: str | None, source: PublishedCheckpoint, folder: str | Path, dtype: np.dtype | None = None) -> Port:
    """Write a published checkpoint as ours, tensor by tensor.

    Args:
        size: the size that the source must have.
        dtype: precision to write; by default that of the source.
    """
    layout, config = understand(size, source)
    wanted = leaf_shapes(config)
    dtype = dtype or source.dtype
    provenance = Provenance(source.name, source.revision, source.hashes(), source.license)
    sections = describe(EncoderSections(config, provenance))
    specs = {name: TensorSpec(shape, dtype) for name, shape in wanted.items()}
    write_checkpoint(folder, specs, leaf_parts(source, layout, config, dtype), sections)
    parameters = sum(int(np.prod(shape)) for shape in wanted.values())
    return Port(source, layout, config, provenance, len(specs), parameters)


def describe_port(ported: Port, folder: Path) -> str:
    """What a port did, for the terminal."""
    source, config = ported.source, ported.config
    revision = f" at {source.revision}" if source.revision else ""
    extra = f" ({source.ignored} of extra state ignored)" if source.ignored else ""
    bare = ", bare encoder" if ported.layout.bare else ""
    head = "" if config.lm_head else ", no LM head"
    written = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return "\n".join(
        [
            f"read    {source.name}{revision}: {len(source.tensors)} tensors{extra}",
            *(f"sha256  {line}" for line in ported.provenance.sha256),
            f"layout  {ported.layout.name}{bare}: {config.layers} layers of width {config.d_model}{head}",
            f"wrote   {folder}: {ported.leaves} tensors, {ported.parameters:,} parameters, {written:,} bytes",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return run_command("conversion.port", lambda: _run(_parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    folder = Path(expand_user(options.out or options.size))
    if options.push:
        check_repository(options.push)
    elif options.public or options.no_parity:
        raise InputError("--public and --no-parity need --push")
    if options.parity and options.no_parity:
        raise InputError("--parity and --no-parity exclude each other")
    if options.parity:
        make_folder(options.parity)
    source = open_source(options.size, options.source)
    ported = port(options.size, source, folder, DTYPES.get(options.dtype))
    print(describe_port(ported, folder))
    if options.parity or (options.push and not options.no_parity):
        from conversion.publish import add_parity

        print(f"comparing {folder} with the torch original", file=sys.stderr)
        largest = add_parity(folder, source, options.parity)
        report = f", report in {options.parity}" if options.parity else ""
        print(f"parity  {largest:.1e}, largest relative L2 of any layer; on the card of {folder}{report}")
    if options.push:
        from conversion.publish import publish

        print(f"pushed  {publish(folder, options.push, source.name, not options.public)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conversion.port",
        description="Port a published ESM-C checkpoint to a folder that ESMC.from_pretrained reads."
        " The layout is recognised by the tensors' names. Missing, unknown or misshaped tensors are"
        " refused.",
        epilog="Example: python -m conversion.port esmc_300m --source model.safetensors --out esmc_300m",
    )
    parser.add_argument("size", choices=list(PRESETS), help="the size that the source must have")
    parser.add_argument(
        "--source",
        metavar="PATH|REPO[@REVISION]",
        help="a .safetensors or .pth file, a folder, or a Hub repository; by default the release"
        f" that was reviewed: {', '.join(release.repository for release in RELEASES.values())}",
    )
    parser.add_argument("--out", metavar="FOLDER", help="folder to write (default: ./SIZE)")
    parser.add_argument("--dtype", choices=list(DTYPES), help="precision to write (default: that of the source)")
    parser.add_argument(
        "--parity",
        type=read_path,
        metavar="FOLDER",
        help="compare the port with the torch original (extra 'convert'), write the report to FOLDER, and put the"
        " figures on the port's card",
    )
    parser.add_argument(
        "--push",
        metavar="REPO",
        help="compare the port with the torch original (extra 'convert'), and publish it with its"
        " card and the figures in a private Hub repository (owner/name)",
    )
    parser.add_argument("--public", action="store_true", help="make the repository public")
    parser.add_argument(
        "--no-parity",
        action="store_true",
        help="publish without the comparison, which needs memory; the card then says so",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
