"""`eqxesm score`."""

import functools
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from eqxesm.cli.arguments import add_revision
from eqxesm.cli.devices import use_device
from eqxesm.cli.rows import LANGUAGE_MODEL_HELP, add_rows, check_rows, write_rows
from eqxesm.cli.streams import SHARING, absolute, report

if TYPE_CHECKING:
    from eqxesm.design.streams import Scorer

SUMMARY = "how natural a language model finds proteins"

DESCRIPTION = """Tell the pseudo-log-likelihood of every protein: the sum over its residues of the log-probability of
each, given all the others, in nats. Pseudo-perplexity is its exponential per residue: less is more natural.

  eqxesm score proteins.fasta -o out.csv --model esmc_300m
  eqxesm score proteins.fasta -o out.csv --model esmc_300m --one-pass     residues are seen: fast, and too high

""" + SHARING.format(command="score proteins.fasta -o out.csv --model esmc_300m", out="out.csv")

COLUMNS = ("id", "length", "pseudo_log_likelihood", "pseudo_perplexity", "note")


def add_arguments(parser: ArgumentParser) -> None:
    add_rows(parser)
    parser.add_argument("--model", metavar="MODEL", required=True, help=LANGUAGE_MODEL_HELP)
    add_revision(parser)
    parser.add_argument("--one-pass", action="store_true", help="mask nothing: one forward pass a protein")


def run(options: Namespace) -> None:
    check_rows(options)
    settings = {"one_pass": options.one_pass, "strict": options.strict}
    make_worker = functools.partial(_make_worker, absolute(options.model), options.revision, options.device, settings)
    worker = write_rows(options, make_worker, COLUMNS)
    report(options, worker, "scored", "not scored: see the notes")


def _make_worker(source: str, revision: str | None, device: str | None, settings: dict[str, Any]) -> "Scorer":
    use_device(device)

    from eqxesm.data.cleaning import Cleaning
    from eqxesm.design.streams import Scorer, require_language_model
    from eqxesm.loading import load_any

    model = load_any(source, revision)
    return Scorer(require_language_model(model, source), getattr(model, "cleaning", Cleaning()), **settings)
