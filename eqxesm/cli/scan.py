"""`eqxesm scan`."""

import functools
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqxesm.cli.arguments import add_model
from eqxesm.cli.devices import use_device
from eqxesm.cli.rows import LANGUAGE_MODEL_HELP, add_plot, add_rows, check_rows, write_rows
from eqxesm.cli.streams import SHARING, absolute, report
from eqxesm.errors import InputError, pluralise
from eqxesm.files import expand_user

if TYPE_CHECKING:
    from eqxesm.design.streams import Scanner

SUMMARY = "what every substitution changes"

DESCRIPTION = """Tell for every substitution of a residue by another how the logit of being soluble changes, and how
likely a language model finds it. The table:

  id, position, wild_type, mutant    positions as read
  delta_logit                        above 0 if the variant is predicted to be more soluble
  llr                                log-likelihood ratio to the wild type; empty without a language model
  measured                           with --measured

  eqxesm scan protein.fasta -o out.csv                          every substitution, each predicted
  eqxesm scan protein.fasta -o out.csv --method gradient        all of them from one gradient, to first order
  eqxesm scan protein.fasta -o out.csv --variants FILE          those in a file, one in a line: A123V or A123V:G45W
  eqxesm scan protein.fasta -o out.csv --measured FILE          those in the table of a deep mutational scan
  eqxesm scan protein.fasta -o out.csv --language-model esmc_300m

The language model is the model's own encoder, if that has its head. Residues that are stripped are not scanned.

""" + SHARING.format(command="scan proteins.fasta -o out.csv", out="out.csv")

COLUMNS = ("id", "position", "wild_type", "mutant", "delta_logit", "llr")


def add_arguments(parser: ArgumentParser) -> None:
    add_rows(parser)
    add_model(parser, "--model")
    parser.add_argument("--method", choices=("exact", "gradient"), default="exact", help="(default: exact)")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--variants", metavar="FILE", help="scan the variants in a file")
    chosen.add_argument(
        "--measured", metavar="FILE", help="scan the variants in a table, and tell how well the changes rank them"
    )
    parser.add_argument("--language-model", metavar="MODEL", help=LANGUAGE_MODEL_HELP)
    parser.add_argument(
        "--marginal",
        choices=("masked", "wild_type", "pseudo"),
        default="masked",
        help="how the likelihood is told, as in Meier et al. 2021 (default: masked; pseudo is by far the slowest)",
    )
    add_plot(parser)


def run(options: Namespace) -> None:
    check_rows(options)
    if options.plot and (options.variants or options.measured):
        raise InputError("--plot draws every substitution: leave out --variants and --measured")

    from eqxesm.design.measured import read_measured
    from eqxesm.design.variants import read_variants

    measured = read_measured(expand_user(options.measured)) if options.measured else None
    settings = {
        "method": options.method, "marginal": options.marginal, "measured": measured, "strict": options.strict,
        "variants": read_variants(Path(expand_user(options.variants))) if options.variants else None,
    }  # fmt: skip
    language_model = options.language_model and absolute(options.language_model)
    make_worker = functools.partial(
        _make_worker, absolute(options.model), options.revision, language_model, options.device, settings
    )
    worker = write_rows(options, make_worker, (*COLUMNS, *["measured"] * bool(measured)))
    report(options, worker, "scanned", "not scanned", _describe(worker))
    if options.plot and worker.shown:
        from eqxesm.design.plots import draw_scan

        draw_scan(options.plot, worker.shown)


def _describe(worker: "Scanner") -> str:
    """How near the first order comes, how well measured values are ranked, and that there is no language model."""
    import numpy as np

    parts = []
    if worker.correlations:
        parts.append(f"; rank correlation of exact and first-order changes {np.median(worker.correlations):.2f}")
    for name, found in worker.agreements:
        told = " and ".join(f"{each} {i.value:.2f} ({i.low:.2f} to {i.high:.2f})" for each, i in found.items())
        parts.append(f"\n{name}: Spearman's correlation with what was measured: {told}")
    if worker.measured and worker.measured.unused:
        parts.append(f"\n{pluralise(worker.measured.unused, 'row')} without a substitution or a number left out")
    if worker.language_model is None:
        parts.append("\nNote: no language model, so llr is empty. Name an ESM-C with --language-model.")
    return "".join(parts)


def _make_worker(
    source: str, revision: str | None, language_model: str | None, device: str | None, settings: dict[str, Any]
) -> "Scanner":
    use_device(device)

    from eqxesm.design.streams import Scanner, find_language_model, load_language_model
    from eqxesm.model import SolubilityModel

    model = SolubilityModel.from_pretrained(source, revision=revision)
    return Scanner(model, load_language_model(language_model) or find_language_model(model), **settings)
