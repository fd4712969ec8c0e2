"""Compare the port with a torch original: `python -m conversion.parity esmc_300m`."""

import argparse
import sys

from eqxesm.cli.arguments import needs_extra, read_path
from eqxesm.cli.main import run_command
from eqxesm.encoders import PRESETS
from eqxesm.files import make_folder
from eqxesm.hub.releases import RELEASES


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return run_command("conversion.parity", lambda: _run(_parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    with needs_extra("convert"):
        from conversion.check import check_size
        from conversion.report import format_report, save_report

    if options.out:
        make_folder(options.out)
    report = check_size(options.size, options.source, options.random_weights, options.dtype, options.device)
    if options.out:
        save_report(report, options.out)
    print(format_report(report))
    return 1 if report["failures"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conversion.parity",
        description="Port an ESM-C through dlpack and compare it layer by layer with its torch"
        " original. Exit status 0: within tolerance; 1: over it; 2: an error.",
        epilog="Example: python -m conversion.parity esmc_300m --random-weights --out report",
    )
    parser.add_argument("size", choices=list(PRESETS))
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--source",
        metavar="PATH|REPO[@REVISION]",
        help=f"as for conversion.port (default: {RELEASES['esmc_300m'].repository} and its like)",
    )
    weights.add_argument(
        "--random-weights", action="store_true", help="download nothing: the original at full size with random weights"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=read_path, metavar="FOLDER", help="write the report as JSON and a plot")
    return parser


if __name__ == "__main__":
    sys.exit(main())
