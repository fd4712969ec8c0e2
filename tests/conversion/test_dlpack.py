"""Tensors and arrays share memory, or the error says why they cannot."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from paths import ROOT

from conversion.dlpack import pointer, to_jax, to_torch
from eqxesm import InputError

DTYPES = {
    torch.float32: jnp.float32,
    torch.float16: jnp.float16,
    torch.bfloat16: jnp.bfloat16,
    torch.int32: jnp.int32,
    torch.int8: jnp.int8,
    torch.uint8: jnp.uint8,
    torch.bool: jnp.bool_,
}


@pytest.mark.parametrize("shape", [(8, 16), (3,), (), (2, 3, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_to_jax_shares_memory(dtype, shape):
    tensor = (torch.randn(shape) > 0).to(dtype)
    array = to_jax(tensor)
    assert array.dtype == DTYPES[dtype]
    assert pointer(array) == tensor.data_ptr()
    np.testing.assert_array_equal(np.asarray(array, np.float32), tensor.float().numpy())


@pytest.mark.parametrize("shape", [(8, 16), (3,), (), (2, 3, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_jax_to_torch_shares_memory(dtype, shape):
    array = (jax.random.normal(jax.random.key(0), shape) > 0).astype(DTYPES[dtype])
    tensor = to_torch(array)
    assert tensor.dtype == dtype
    assert pointer(array) == tensor.data_ptr()
    np.testing.assert_array_equal(np.asarray(array, np.float32), tensor.float().numpy())


def test_both_ways_give_the_same_memory():
    tensor = torch.randn(64, 3)
    assert to_torch(to_jax(tensor)).data_ptr() == tensor.data_ptr()


def test_what_torch_writes_jax_sees():
    tensor = torch.zeros(16)
    array = to_jax(tensor)
    tensor[3] = 7
    assert float(array[3]) == 7


def test_memory_outlives_the_tensor():
    array = to_jax(torch.full((1000,), 5.0))
    for _ in range(50):
        torch.full((1000,), 9.0)
    np.testing.assert_array_equal(array, 5.0)


def test_a_permutation_of_axes_is_shared():
    tensor = torch.arange(24.0).reshape(2, 3, 4)
    array = to_jax(tensor.permute(2, 0, 1))
    assert pointer(array) == tensor.data_ptr()
    np.testing.assert_array_equal(array, tensor.permute(2, 0, 1).numpy())


def test_gradient_history_is_dropped():
    parameter = torch.nn.Parameter(torch.ones(4))
    assert pointer(to_jax(parameter)) == parameter.data_ptr()


def test_empty_tensors_may_be_shared():
    assert to_jax(torch.empty(0, 3)).shape == (0, 3)
    assert to_torch(jnp.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(4, 6)[:, 1:3], "is strided"),
        (torch.ones(8, 6)[::2], "is strided"),
        (torch.ones(1, 6).expand(4, 6), "is strided"),
        (torch.ones(17)[1:], "is not aligned"),
        (torch.ones(4, dtype=torch.int64), "64 bits"),
        (torch.ones(4, dtype=torch.float64), "64 bits"),
        (torch.ones(4).to_sparse(), "is sparse"),
        (torch.empty(4, device="meta"), "cannot be shared"),
    ],
)
def test_refuses_what_cannot_be_shared(tensor, message):
    with pytest.raises(InputError, match=message) as error:
        to_jax(tensor)
    assert len(str(error.value).splitlines()) == 1


def test_64_bits_are_shared_where_jax_has_them():
    with jax.enable_x64(True):
        tensor = torch.arange(16)
        assert pointer(to_jax(tensor)) == tensor.data_ptr()


def test_a_mapped_file_is_shared(tmp_path):
    file = tmp_path / "x"
    np.arange(1024, dtype=np.float32).tofile(file)
    mapped = np.asarray(np.memmap(file, np.float32, "r"))
    array = jax.device_put(mapped)
    assert to_torch(array).data_ptr() == mapped.ctypes.data


def test_refuses_an_array_on_several_devices():
    """In another process, since JAX counts its devices once."""
    code = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from conversion.dlpack import to_torch
from eqxesm import InputError
mesh = Mesh(np.array(jax.devices()), ("data",))
array = jax.device_put(np.zeros(4, np.float32), NamedSharding(mesh, PartitionSpec("data")))
try:
    to_torch(array)
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "spread over devices" in done.stdout
