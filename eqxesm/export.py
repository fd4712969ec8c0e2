"""Models as programs that run with JAX alone: StableHLO for any number of proteins of any length."""

import os
from functools import partial
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from eqxesm.assay import AssayModel
from eqxesm.checkpoint import tensors as tensor_files
from eqxesm.checkpoint.leaves import fill_leaves, named_leaves
from eqxesm.checkpoint.tensors import TensorSpec
from eqxesm.encoders import AbstractEncoder
from eqxesm.errors import missing_extra
from eqxesm.files import check_writable, expand_user, replace_file, write_file
from eqxesm.model import SolubilityModel
from eqxesm.protein_model import ProteinModel

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

MOST_INSIDE = 10**9
"""Bytes of weights that the program may hold: its format ends at 2 GiB."""

WEIGHTS = ".safetensors"
"""Added to the name of a program whose weights are beside it."""


def export(model: ProteinModel | AbstractEncoder, path: str | os.PathLike) -> bool:
    """Write a model as a program for `jax.export.deserialize`, for the CPU, NVIDIA and AMD GPUs, and TPUs.

    It takes tokens `[batch length]`, int32, padded with 1, and gives the probabilities `[batch]` of a solubility model,
    the features `[batch length d_model]` of an encoder, or a dict of what any other model predicts (see
    `Target.quantity`). Weights of more than a gigabyte are written beside it, as
    `path` with `.safetensors` added; the program then takes a dict of them first.

    Returns:
        Whether the weights are beside the program.
    """
    try:
        import flatbuffers  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_extra("flatbuffers", "export") from error
    path = Path(expand_user(path))
    check_writable(path)
    leaves = named_leaves(model)
    beside = sum(leaf.nbytes for leaf in leaves.values()) > MOST_INSIDE

    def run(weights: dict[str, Array], tokens: Int[Array, "batch length"]) -> PyTree[Float[Array, "batch ..."]]:
        own = fill_leaves(model, weights)
        if isinstance(own, AssayModel):
            return jax.vmap(own.quantities)(tokens)
        return jax.vmap(own.probability if isinstance(own, SolubilityModel) else own.features)(tokens)

    batch, length = jax.export.symbolic_shape("batch, length")
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
    function, asked = (run, (shapes, tokens)) if beside else (partial(run, leaves), (tokens,))
    program = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*asked)
    if beside:
        specs = {name: TensorSpec(leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
        with replace_file(f"{path}{WEIGHTS}") as unfinished:
            tensor_files.write_file(unfinished, specs, lambda name: [np.asarray(leaves[name])])
    write_file(path, bytes(program.serialize()))
    return beside
