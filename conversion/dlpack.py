"""Arrays across torch and JAX without a copy, on the CPU and on CUDA.

Both directions share memory: what one framework writes, the other sees. JAX takes its arrays for
immutable, so a tensor must not be written to while an array made from it is in use, and a tensor
made from an array must never be written to: the array may be a file that is mapped read-only.
"""

import jax
import jax.numpy as jnp
import torch
from jaxtyping import Shaped

from eqxesm.errors import InputError


def to_jax(tensor: torch.Tensor) -> Shaped[jax.Array, "..."]:
    """Give a torch tensor to JAX, in place.

    Args:
        tensor: on the CPU or a CUDA device; its gradient history is left behind.

    Returns:
        An array over the same memory.

    Raises:
        InputError: that cannot be done without a copy: the tensor is sparse, has gaps between its
            elements or a dtype that JAX would narrow or lacks, starts at an address that XLA does
            not take, or lies on a device that JAX does not see.
    """
    tensor = tensor.detach()
    what = f"{tensor.dtype} tensor {list(tensor.shape)} on {tensor.device}"
    if tensor.layout != torch.strided:
        raise InputError(f"{what} is sparse: pass tensor.to_dense()")
    if not _is_dense(tensor):
        raise InputError(f"{what} is strided: pass tensor.contiguous()")
    if tensor.dtype.itemsize > jax.dtypes.canonicalize_dtype("float64").itemsize:
        raise InputError(
            f"{what} has 64 bits, which JAX narrows: convert it, or enable jax_enable_x64"
        )
    try:
        array = jnp.from_dlpack(tensor)
    except (RuntimeError, ValueError, TypeError, BufferError) as error:
        raise InputError(f"{what} cannot be shared with JAX: {error}") from error
    if tensor.numel() and pointer(array) != tensor.data_ptr():
        raise InputError(
            f"{what} starts at an address that XLA does not take (a slice of a larger tensor?): "
            "pass tensor.clone()"
        )
    return array


def to_torch(array: Shaped[jax.Array, "..."]) -> torch.Tensor:
    """Give a JAX array to torch, in place.

    Args:
        array: on one device.

    Returns:
        A tensor over the same memory, not to be written to.

    Raises:
        InputError: the array is spread over devices, or torch lacks its dtype or does not see its
            device.
    """
    what = f"{array.dtype} array {list(array.shape)}"
    if len(array.sharding.device_set) > 1:
        raise InputError(f"{what} is spread over devices: gather it onto one with jax.device_put")
    try:
        tensor = torch.from_dlpack(array)
    except (RuntimeError, ValueError, TypeError, BufferError) as error:
        raise InputError(f"{what} cannot be shared with torch: {error}") from error
    if array.size and pointer(array) != tensor.data_ptr():
        raise InputError(f"{what} was copied by torch: it cannot be shared")
    return tensor


def pointer(array: Shaped[jax.Array, "..."]) -> int:
    """Tell where an array lies.

    Args:
        array: on one device.

    Returns:
        Address of its first element.
    """
    return array.unsafe_buffer_pointer()


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill their memory, in the order of some permutation of the axes."""
    axes = [
        (stride, size)
        for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
        if size > 1
    ]
    expected = 1
    for stride, size in sorted(axes):
        if stride != expected:
            return False
        expected *= size
    return True
