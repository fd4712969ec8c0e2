"""Many devices: one mesh, over which batches and matrices are split."""

import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from eqxesm.errors import InputError
from eqxesm.training.filters import BLOCKS, is_matrix, path_names

AXIS = "devices"


def start_processes() -> None:
    """Join the other processes of a run, if the environment (JAX's or SLURM's) declares any."""
    declared = "JAX_COORDINATOR_ADDRESS" in os.environ
    if (declared or (_read_number("SLURM_NTASKS") or 1) > 1) and not jax.distributed.is_initialized():
        # JAX reads the address from the environment, but not these two.
        jax.distributed.initialize(
            num_processes=_read_number("JAX_NUM_PROCESSES"), process_id=_read_number("JAX_PROCESS_ID")
        )


def _read_number(variable: str) -> int | None:
    value = os.environ.get(variable)
    if value is not None and not value.isdecimal():
        raise InputError(f"the environment variable {variable} is {value!r}, expected a number")
    return None if value is None else int(value)


def make_mesh() -> Mesh:
    """All devices of all processes in a row."""
    return Mesh(np.array(jax.devices()), (AXIS,))


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Wait until every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def partition_spec(path: tuple, leaf: Any, devices: int) -> PartitionSpec:
    """Split a matrix along its longest axis that the devices divide; replicate everything else."""
    if not is_matrix(path, leaf):
        return PartitionSpec()
    # The axis of layers is scanned over, so it stays whole.
    stacked = BLOCKS in path_names(path)
    axes = [axis for axis in range(stacked, leaf.ndim) if leaf.shape[axis] % devices == 0]
    if not axes:
        return PartitionSpec()
    split = max(axes, key=lambda axis: leaf.shape[axis])
    return PartitionSpec(*(AXIS if axis == split else None for axis in range(leaf.ndim)))


def shard(tree: PyTree, mesh: Mesh) -> PyTree:
    """Put parameters or state on the devices, split as `partition_spec` says."""
    return _map_shardings(jax.device_put, tree, mesh)


def constrain(tree: PyTree, mesh: Mesh) -> PyTree:
    """Keep arrays split inside a compiled function; see `shard`."""
    return _map_shardings(jax.lax.with_sharding_constraint, tree, mesh)


def _map_shardings(function: Callable, tree: PyTree, mesh: Mesh) -> PyTree:
    def apply(path: tuple, leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        return function(leaf, NamedSharding(mesh, partition_spec(path, leaf, mesh.size)))

    return jax.tree_util.tree_map_with_path(apply, tree)


def shard_batch(tree: PyTree, mesh: Mesh) -> PyTree:
    """Put this process's rows of a batch on its devices."""

    def put(leaf: np.ndarray) -> jax.Array:
        sharding = NamedSharding(mesh, PartitionSpec(AXIS))
        return jax.make_array_from_process_local_data(sharding, leaf)

    return jax.tree.map(put, tree)


def fetch(leaf: jax.Array | np.ndarray, mesh: Mesh) -> np.ndarray:
    """Copy a split array to this process, whole. Every process has to take part."""
    if isinstance(leaf, np.ndarray) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    whole = NamedSharding(mesh, PartitionSpec())
    return np.asarray(jax.jit(lambda x: x, out_shardings=whole)(leaf))
