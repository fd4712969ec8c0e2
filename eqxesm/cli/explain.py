"""`eqxesm explain`."""

import functools
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from eqxesm import tables
from eqxesm.cli.arguments import add_model, needs_extra
from eqxesm.cli.compilation import add_compilation_cache
from eqxesm.cli.devices import use_device
from eqxesm.cli.streams import (
    SHARING,
    absolute,
    add_plot,
    add_proteins,
    check_paths,
    check_plot,
    report,
    write_in_parts,
)

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
METHODS = ("integrated_gradients", "gradient", "occlusion")


def add_arguments(parser: ArgumentParser) -> None:
    add_proteins(parser)
    add_model(parser, "--model")
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="write .csv, .tsv, .jsonl or .parquet")
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help="gradient: at the protein alone; occlusion: one residue after another (default: %(default)s)",
    )
    add_plot(parser)
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    tables.check_output(options.out)
    check_paths(options)
    check_plot(options.plot)

    from eqxesm.checkpoint.leaves import fingerprint

    settings = {"method": options.method, "strict": options.strict}
    make_worker = functools.partial(_make_worker, absolute(options.model), options.revision, options.device, settings)
    worker = make_worker()
    write = functools.partial(tables.write_table, columns=COLUMNS)
    write_in_parts(options, make_worker, worker, fingerprint(worker.model), write, tables.join_tables)
    gap = f"; largest gap {worker.gap:.1e}" if options.method == METHODS[0] and not options.ray else ""
    report(options, worker, "explained", "not explained", gap)
    if options.plot and worker.shown:
        with needs_extra("evaluate"):
            from eqxesm.design.plots import draw_attribution

            draw_attribution(options.plot, worker.shown)


def _make_worker(source: str, revision: str | None, device: str | None, settings: dict[str, Any]) -> "Explainer":
    use_device(device)

    from eqxesm.design.streams import Explainer
    from eqxesm.model import SolubilityModel

    return Explainer(SolubilityModel.from_pretrained(source, revision=revision), **settings)
