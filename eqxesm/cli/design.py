"""`eqxesm design`."""

import functools
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqxesm.cli.arguments import add_model
from eqxesm.cli.devices import use_device
from eqxesm.cli.rows import LANGUAGE_MODEL_HELP, add_plot, add_rows, check_rows, write_rows
from eqxesm.cli.streams import SHARING, absolute, report
from eqxesm.errors import InputError
from eqxesm.files import expand_user

if TYPE_CHECKING:
    from eqxesm.design.designs import Designer

SUMMARY = "variants that are predicted to be more soluble"

DESCRIPTION = """Propose variants of every protein that are predicted to be more soluble, within constraints. The table
has the best first:

  id, rank, mutations      positions as read
  sequence                 the whole protein
  probability_before, probability_after
                           of the protein and of the variant, calibrated
  left_out_after           of the variant, by members of the model that the search did not see
  naturalness_change       of the log-likelihood by a language model, in nats; empty without one
  method                   gradient or evolution

  eqxesm design protein.fasta -o out.csv --mutations 5
  eqxesm design protein.fasta -o out.csv --mutations 5 --fix 1-20,57 --forbid C --forbid-motif 'N[^P][ST]'
  eqxesm design protein.fasta -o out.csv --mutations 5 --language-model esmc_300m --least-naturalness 0

A model's score is no experiment: it ranks what is worth trying, and it is wrong about many. Residues that are
stripped stay as they are, and no tag is written.

""" + SHARING.format(command="design proteins.fasta -o out.csv --mutations 5", out="out.csv")

COLUMNS = (
    *("id", "rank", "mutations", "sequence", "probability_before", "probability_after"),
    *("left_out_after", "naturalness_change", "method"),
)


def add_arguments(parser: ArgumentParser) -> None:
    add_rows(parser)
    add_model(parser, "--model")
    parser.add_argument("--mutations", type=int, metavar="K", required=True, help="at most so many in a variant")
    parser.add_argument("--fix", metavar="POSITIONS", help="keep these, such as 1-20,57; or a file of them")
    parser.add_argument("--forbid", metavar="RESIDUES", default="", help="no variant has one of these, such as CM")
    parser.add_argument(
        "--forbid-motif", metavar="REGEX", action="append", default=[], help="nor a match of this; may be repeated"
    )
    parser.add_argument("--min-identity", type=float, metavar="X", default=0.0, help="share of residues that stay")
    parser.add_argument("--language-model", metavar="MODEL", help=LANGUAGE_MODEL_HELP)
    parser.add_argument("--least-naturalness", type=float, metavar="X", help="least change of naturalness, such as 0")
    parser.add_argument("--method", choices=("gradient", "evolution"), default="gradient", help="(default: gradient)")
    parser.add_argument(
        "--budget", type=int, default=1000, metavar="N", help="forward passes for a protein (default: 1000)"
    )
    parser.add_argument("--proposals", type=int, default=10, metavar="N", help="for a protein (default: 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="(default: 0)")
    add_plot(parser)


def run(options: Namespace) -> None:
    check_rows(options)
    for name in ("mutations", "budget", "proposals"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name} is {getattr(options, name)}, expected at least 1")
    if not 0 <= options.min_identity < 1:
        raise InputError(f"--min-identity is {options.min_identity}, expected a share from 0 to below 1")
    if options.least_naturalness is not None and options.language_model is None:
        raise InputError("--least-naturalness needs --language-model")

    from eqxesm.design.constraints import Constraints
    from eqxesm.design.designs import Effort

    constraints = Constraints(
        options.mutations,
        frozenset(_read_positions(options.fix)),
        options.forbid.upper(),
        tuple(options.forbid_motif),
        options.min_identity,
    )
    effort = Effort(options.method, options.budget, options.proposals, options.seed)
    settings = {
        "constraints": constraints, "effort": effort, "least_naturalness": options.least_naturalness,
        "strict": options.strict,
    }  # fmt: skip
    language_model = options.language_model and absolute(options.language_model)
    make_worker = functools.partial(
        _make_worker, absolute(options.model), options.revision, language_model, options.device, settings
    )
    worker = write_rows(options, make_worker, COLUMNS)
    report(options, worker, "designed", "not designed", _describe(worker))
    if options.plot and worker.shown:
        from eqxesm.design.plots import draw_designs

        draw_designs(options.plot, *worker.shown)


def _read_positions(text: str | None) -> list[int]:
    from eqxesm.design.constraints import parse_positions

    if text is None:
        return []
    path = Path(expand_user(text))
    return parse_positions(path.read_text(encoding="utf-8") if os.path.isfile(path) else text)


def _describe(worker: "Designer") -> str:
    import numpy as np

    from eqxesm.design.designs import NO_EXPERIMENT

    if not worker.shares:
        return ""
    seen = f"members that were left out see {np.median(worker.shares):.0%} of the gain (median)"
    return f"; {seen}\nNote: {NO_EXPERIMENT}"


def _make_worker(
    source: str, revision: str | None, language_model: str | None, device: str | None, settings: dict[str, Any]
) -> "Designer":
    use_device(device)

    from eqxesm.design.designs import Designer
    from eqxesm.design.streams import load_language_model
    from eqxesm.model import SolubilityModel

    model = SolubilityModel.from_pretrained(source, revision=revision)
    return Designer(model, load_language_model(language_model), **settings)
