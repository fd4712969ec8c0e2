"""`eqxesm join`."""

import sys
from argparse import ArgumentParser, Namespace

from eqxesm.parts import Parts

SUMMARY = "join what --shard wrote"

DESCRIPTION = """Join the parts that shards of `eqxesm predict` or `eqxesm embed` wrote beside an output. If one is
missing, it is named and nothing changes."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("out", metavar="FILE", help="the output that the shards were given")


def run(options: Namespace) -> None:
    from eqxesm import tables

    parts = Parts(options.out)
    if tables.is_output(options.out):
        parts.join(tables.join_tables)
    else:
        from eqxesm.embed import join_embeddings

        parts.join(join_embeddings)
    print(f"joined: {options.out}", file=sys.stderr)
