"""Arrays between torch and JAX without a copy, on the CPU and on CUDA.

Both directions share memory: what one framework writes, the other sees. JAX treats arrays as
immutable, so do not write to a tensor while an array made from it is in use, and never to a tensor
made from an array: the array may be a file that is mapped read-only.
"""

import jax
import jax.numpy as jnp
import torch
from jaxtyping import Shaped

from eqxesm.errors import InputError


def to_jax(tensor: torch.Tensor) -> Shaped[jax.Array, "..."]:
    """Share a torch tensor's memory with JAX, without a copy and without its gradient history.

    Sparse or strided tensors, dtypes that JAX lacks or narrows, and unaligned slices are refused.
    """
    tensor = tensor.detach()
    what = f"{tensor.dtype} tensor {list(tensor.shape)} on {tensor.device}"
    if tensor.layout != torch.strided:
        raise InputError(f"{what} is sparse. Pass tensor.to_dense().")
    if not _is_dense(tensor):
        raise InputError(f"{what} is strided. Pass tensor.contiguous().")
    if tensor.dtype.itemsize > jax.dtypes.canonicalize_dtype("float64").itemsize:
        raise InputError(f"{what} has 64 bits, which JAX narrows. Convert it, or set jax_enable_x64.")
    try:
        array = jnp.from_dlpack(tensor)
    except (RuntimeError, ValueError, TypeError, BufferError) as error:
        raise InputError(f"{what} cannot be shared with JAX: {error}") from error
    if tensor.numel() and pointer(array) != tensor.data_ptr():
        raise InputError(f"{what} is not aligned for XLA (a slice of a larger tensor?). Pass tensor.clone().")
    return array


def to_torch(array: Shaped[jax.Array, "..."]) -> torch.Tensor:
    """Share a JAX array's memory with torch, without a copy. The tensor must not be written to.

    Arrays that are spread over several devices are refused.
    """
    what = f"{array.dtype} array {list(array.shape)}"
    if len(array.sharding.device_set) > 1:
        raise InputError(f"{what} is spread over devices. Gather it onto one with jax.device_put.")
    try:
        tensor = torch.from_dlpack(array)
    except (RuntimeError, ValueError, TypeError, BufferError) as error:
        raise InputError(f"{what} cannot be shared with torch: {error}") from error
    if array.size and pointer(array) != tensor.data_ptr():
        raise InputError(f"{what} was copied by torch, so its memory cannot be shared")
    return tensor


def pointer(array: Shaped[jax.Array, "..."]) -> int:
    """Address of the first element."""
    return array.unsafe_buffer_pointer()


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill their memory, in the order of some permutation of the axes."""
    axes = [(stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]
    expected = 1
    for stride, size in sorted(axes):
        if stride != expected:
            return False
        expected *= size
    return True
