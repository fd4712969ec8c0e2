"""Where a command computes, and in what precision."""

import re
from argparse import ArgumentParser

from eqxesm.errors import InputError


def add_device(parser: ArgumentParser) -> None:
    """Add the choice of a device."""
    where = "cpu, gpu, or some of the GPUs, such as gpu:0,2 (default: all GPUs, or else the CPU)"
    parser.add_argument("--device", metavar="D", help=where)


def add_precision(parser: ArgumentParser, name: str) -> None:
    """Add the precision that the encoder computes in."""
    parser.add_argument(
        name, choices=("float32", "bfloat16"), help="precision of the encoder (default: that of its weights)"
    )


def use_device(name: str | None) -> None:
    """Have JAX compute on a device, and on no other. JAX must not have computed anything before."""
    import jax

    if name is None:
        return
    if name == "cpu":
        jax.config.update("jax_platforms", "cpu")
        return
    found = re.fullmatch(r"gpu(?::(\d+(?:,\d+)*))?", name)
    if found is None:
        raise InputError(f"--device {name}: unknown. Use cpu, gpu, or some of the GPUs, such as gpu:0,2.")
    if found[1]:
        jax.config.update("jax_cuda_visible_devices", found[1])
        jax.config.update("jax_rocm_visible_devices", found[1])
    if jax.default_backend() != "gpu":
        raise InputError(f"--device {name}: JAX sees no such GPU. Install the extra cuda, or use --device cpu.")
