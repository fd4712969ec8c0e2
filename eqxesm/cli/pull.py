"""`eqxesm pull`."""

from argparse import ArgumentParser, Namespace

from eqxesm import tables
from eqxesm.cli.arguments import add_revision

SUMMARY = "fetch a model from the Hugging Face Hub"

DESCRIPTION = """Fetch a model or an encoder from the Hugging Face Hub, check it, and say what it is.
It stays in the Hub client's cache, where other commands find it by the same name, offline too.

  eqxesm pull me/solubility-esmc-300m
  eqxesm pull me/solubility-esmc-300m --revision v1 --out folder"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("repository", metavar="REPO", help="owner/name")
    add_revision(parser)
    parser.add_argument("--out", metavar="FOLDER", help="copy it to a new folder")


def run(options: Namespace) -> None:
    from eqxesm.publish import pull_checkpoint

    pairs = pull_checkpoint(options.repository, options.revision, options.out)
    print(tables.format_pairs(pairs))
