"""`eqxesm explain`."""

import functools
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from eqxesm.cli.arguments import add_model
from eqxesm.cli.devices import use_device
from eqxesm.cli.rows import add_plot, add_rows, check_rows, write_rows
from eqxesm.cli.streams import SHARING, absolute, report

if TYPE_CHECKING:
    from eqxesm.design.streams import Explainer

SUMMARY = "what each residue contributes to the prediction"

DESCRIPTION = """Tell what each residue contributes to the logit of being soluble: the gradient with respect to the
residues, integrated from an even mixture of the 20 residues at every position. All contributions of a protein add
up to the difference of its logit to that of the mixture; the largest gap is told. The table:

  id, position, residue    as read
  attribution              above 0 if the residue speaks for being soluble; empty if it is stripped

  eqxesm explain proteins.fasta -o out.csv
  eqxesm explain protein.fasta -o out.csv --plot out.png       the first protein, residues coloured

""" + SHARING.format(command="explain proteins.fasta -o out.csv", out="out.csv")

COLUMNS = ("id", "position", "residue", "attribution")
METHODS = ("integrated_gradients", "gradient", "occlusion", "pooling_weights")


def add_arguments(parser: ArgumentParser) -> None:
    add_rows(parser)
    add_model(parser, "--model")
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help="gradient: at the protein alone; occlusion: one residue after another; pooling_weights: how much each "
        "residue counts in the head, if that has such weights (default: %(default)s)",
    )
    add_plot(parser)


def run(options: Namespace) -> None:
    check_rows(options)
    settings = {"method": options.method, "strict": options.strict}
    make_worker = functools.partial(_make_worker, absolute(options.model), options.revision, options.device, settings)
    worker = write_rows(options, make_worker, COLUMNS)
    gap = f"; largest gap {worker.gap:.1e}" if options.method == METHODS[0] and not options.ray else ""
    report(options, worker, "explained", "not explained", gap)
    if options.plot and worker.shown:
        from eqxesm.design.plots import draw_attribution

        draw_attribution(options.plot, worker.shown, options.method == "pooling_weights")


def _make_worker(source: str, revision: str | None, device: str | None, settings: dict[str, Any]) -> "Explainer":
    use_device(device)

    from eqxesm.design.streams import Explainer
    from eqxesm.model import SolubilityModel

    return Explainer(SolubilityModel.from_pretrained(source, revision=revision), **settings)
