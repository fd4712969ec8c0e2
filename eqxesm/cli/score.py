"""`eqxesm score`."""

import functools
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from eqxesm import tables
from eqxesm.cli.arguments import MODEL_HELP, add_revision
from eqxesm.cli.compilation import add_compilation_cache
from eqxesm.cli.devices import use_device
from eqxesm.cli.streams import SHARING, absolute, add_proteins, check_paths, report, write_in_parts
from eqxesm.errors import InputError

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
    add_proteins(parser)
    parser.add_argument("--model", metavar="MODEL", required=True, help=f"an ESM-C with its head: {MODEL_HELP}")
    add_revision(parser)
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="write .csv, .tsv, .jsonl or .parquet")
    parser.add_argument("--one-pass", action="store_true", help="mask nothing: one forward pass a protein")
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    tables.check_output(options.out)
    check_paths(options)

    from eqxesm.checkpoint.leaves import fingerprint

    settings = {"one_pass": options.one_pass, "strict": options.strict}
    make_worker = functools.partial(_make_worker, absolute(options.model), options.revision, options.device, settings)
    worker = make_worker()
    write = functools.partial(tables.write_table, columns=COLUMNS)
    write_in_parts(options, make_worker, worker, fingerprint(worker.encoder), write, tables.join_tables)
    report(options, worker, "scored", "not scored: see the notes")


def _make_worker(source: str, revision: str | None, device: str | None, settings: dict[str, Any]) -> "Scorer":
    use_device(device)

    from eqxesm.data.cleaning import Cleaning
    from eqxesm.design.streams import Scorer, find_language_model
    from eqxesm.model import load_any

    model = load_any(source, revision)
    found = find_language_model(model)
    if found is None:
        raise InputError(f"{source}: has no language-model head. Name an ESM-C that has one.")
    return Scorer(found, getattr(model, "cleaning", Cleaning()), **settings)
