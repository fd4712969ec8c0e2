"""`eqxesm embed`."""

import functools
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqxesm.cli.arguments import add_model
from eqxesm.cli.compilation import add_compilation_cache
from eqxesm.cli.devices import add_precision, use_device
from eqxesm.cli.streams import SHARING, absolute, add_proteins, add_windows, check_paths, report, write_in_parts
from eqxesm.errors import InputError
from eqxesm.files import check_writable, expand_user

if TYPE_CHECKING:
    from eqxesm.embed import Embedder

SUMMARY = "embeddings of every protein in some files"

DESCRIPTION = """Write an embedding of every protein, by id: the mean of an encoder's hidden states over residues, their
maximum, or a row for each residue.

  eqxesm embed proteins.fasta -o out.h5                        HDF5, as UniProt publishes them
  eqxesm embed proteins.fasta -o out.parquet --pool residue    or .safetensors
  eqxesm embed proteins.fasta -o out.h5 --model esmc_300m --layer 20

A record that cannot be embedded is left out and told.

""" + SHARING.format(command="embed proteins.fasta -o out.h5", out="out.h5")

HDF5 = (".h5", ".hdf5")
ENDINGS = (*HDF5, ".parquet", ".safetensors")
MOST_IN_SAFETENSORS = 500_000
"""With ids of usual length. Its header is limited to 100 MB."""


def add_arguments(parser: ArgumentParser) -> None:
    add_proteins(parser)
    add_windows(parser)
    add_model(parser, "--model", more="; or esmc_300m, _600m, _6b")
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="write .h5, .parquet or .safetensors")
    parser.add_argument("--layer", type=int, metavar="N", help="0 is the embedded sequence (default: the last)")
    parser.add_argument("--pool", choices=("mean", "max", "residue"), default="mean", help="(default: mean)")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="stored (default: float32)")
    add_precision(parser, "--compute-dtype")
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    out = Path(expand_user(options.out))
    if out.suffix.lower() not in ENDINGS:
        raise InputError(f"{out}: unknown ending. Use one of {', '.join(ENDINGS)}.")
    check_writable(out)
    check_paths(options)

    from eqxesm.embed import check_format, join_embeddings, write_embeddings
    from eqxesm.records import count_records

    check_format(out)
    if out.suffix.lower() == ".safetensors" and (count_records(options.proteins) or 0) > MOST_IN_SAFETENSORS:
        raise InputError(f"{out}: over {MOST_IN_SAFETENSORS:,} proteins do not fit. Write .h5 or .parquet.")
    settings = {
        "layer": options.layer,
        "pool": options.pool,
        "dtype": options.dtype,
        "separator": "/" if out.suffix.lower() in HDF5 else "",
        "windows": options.windows,
        "strict": options.strict,
    }
    model, device, dtype = absolute(options.model), options.device, options.compute_dtype
    make_worker = functools.partial(_make_worker, model, options.revision, device, dtype, settings)
    worker = make_worker()
    about = {
        "model": options.model,
        "layer": "last" if options.layer is None else str(options.layer),
        "pool": options.pool,
        "dtype": options.dtype,
    }
    write = functools.partial(write_embeddings, about=about)
    write_in_parts(options, make_worker, worker, write, join_embeddings)
    report(options, worker, "embedded", "left out")


def _make_worker(
    source: str, revision: str | None, device: str | None, dtype: str | None, settings: dict[str, Any]
) -> "Embedder":
    use_device(device)

    from eqxesm.data.cleaning import Cleaning
    from eqxesm.embed import Embedder
    from eqxesm.loading import load_any
    from eqxesm.protein_model import ProteinModel

    model = load_any(source, revision, dtype)
    if isinstance(model, ProteinModel):
        return Embedder(model.encoder, model.cleaning, **settings)
    return Embedder(model, Cleaning(), **settings)
