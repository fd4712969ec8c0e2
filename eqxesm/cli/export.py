"""`eqxesm export`."""

import sys
from argparse import ArgumentParser, Namespace

from eqxesm.cli.arguments import add_model

SUMMARY = "a model as a program that runs with JAX alone"

DESCRIPTION = """Write a model as a program (StableHLO) for `jax.export`, which runs it with jax and flatbuffers
alone, on batches of any size and length:

  eqxesm export run/model --out model.jaxexport

  import jax.export
  program = jax.export.deserialize(open("model.jaxexport", "rb").read())
  program.call(tokens)         # int32 [batch, length] -> probabilities [batch]

Of an encoder it gives the features, [batch, length, d_model]. Weights of more than a gigabyte are written beside the
program, as model.jaxexport.safetensors, and are given to it first, as safetensors.numpy.load_file reads them."""


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser, "model", nargs="?")
    parser.add_argument("--out", metavar="FILE", required=True, help="the program")


def run(options: Namespace) -> None:
    from eqxesm.export import WEIGHTS, export
    from eqxesm.loading import load_any

    beside = export(load_any(options.model, options.revision), options.out)
    print(f"exported: {options.out}{f', {options.out}{WEIGHTS}' if beside else ''}", file=sys.stderr)
