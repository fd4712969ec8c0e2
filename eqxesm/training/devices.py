"""Many devices: one mesh, batches split over it, matrices split over it too."""

import os
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from eqxesm.training.partition import BLOCKS, is_matrix, path_names

AXIS = "devices"


def start_processes() -> None:
    """Join the other processes of a run, where the environment says that there are any.

    JAX reads `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`, or finds out by
    itself under Slurm. Has to come before anything else that touches a device.
    """
    declared = "JAX_COORDINATOR_ADDRESS" in os.environ
    if (declared or int(os.environ.get("SLURM_NTASKS", "1")) > 1) and not (
        jax.distributed.is_initialized()
    ):
        # Unlike the address, JAX leaves these two to the caller.
        jax.distributed.initialize(
            num_processes=_number("JAX_NUM_PROCESSES"), process_id=_number("JAX_PROCESS_ID")
        )


def _number(variable: str) -> int | None:
    return int(os.environ[variable]) if variable in os.environ else None


def make_mesh() -> Mesh:
    """Put all devices of all processes in a row.

    Returns:
        A mesh with one axis; data parallel and fully sharded over the same devices.
    """
    return Mesh(np.array(jax.devices()), (AXIS,))


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Wait until every process has come here.

    Args:
        name: of the place, the same in every process.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def partition_spec(path: tuple, leaf: Any, devices: int) -> PartitionSpec:
    """Say how an array of parameters, or of an optimiser's state, is split.

    One rule for all: a matrix is split along its largest axis that the devices divide, everything
    else stands on every device. Blocks are stacked, so one rule covers all layers; their leading
    axis is scanned over and stays whole, so that a device gathers one layer at a time.

    Args:
        path: to the array.
        leaf: the array.
        devices: number of devices.

    Returns:
        The split.
    """
    if not is_matrix(path, leaf):
        return PartitionSpec()
    stacked = BLOCKS in path_names(path)
    axes = [axis for axis in range(stacked, leaf.ndim) if leaf.shape[axis] % devices == 0]
    if not axes:
        return PartitionSpec()
    split = max(axes, key=lambda axis: leaf.shape[axis])
    return PartitionSpec(*(AXIS if axis == split else None for axis in range(leaf.ndim)))


def shardings(tree: PyTree, mesh: Mesh) -> PyTree:
    """Say how every array of a tree is split; see `partition_spec`.

    Args:
        tree: parameters or state, or their shapes.
        mesh: the devices.

    Returns:
        A tree of shardings, None at what is no array.
    """

    def sharding(path: tuple, leaf: Any) -> NamedSharding | None:
        if not (eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)):
            return None
        return NamedSharding(mesh, partition_spec(path, leaf, mesh.size))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def place(tree: PyTree, mesh: Mesh) -> PyTree:
    """Put parameters or state on the devices, split as `partition_spec` says.

    Args:
        tree: arrays, the same in every process.
        mesh: the devices.

    Returns:
        The tree on the devices.
    """

    def put(path: tuple, leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        return jax.device_put(leaf, NamedSharding(mesh, partition_spec(path, leaf, mesh.size)))

    return jax.tree_util.tree_map_with_path(put, tree)


def constrain(tree: PyTree, mesh: Mesh) -> PyTree:
    """Keep arrays split inside of a compiled function; see `place`.

    Args:
        tree: parameters or state.
        mesh: the devices.

    Returns:
        The same tree.
    """

    def keep(path: tuple, leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        spec = partition_spec(path, leaf, mesh.size)
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    return jax.tree_util.tree_map_with_path(keep, tree)


def place_batch(tree: PyTree, mesh: Mesh) -> PyTree:
    """Put this process's rows of a batch on its devices.

    Args:
        tree: arrays `[rows ...]`.
        mesh: the devices of all processes.

    Returns:
        Arrays of all processes' rows, split by row.
    """

    def put(leaf: np.ndarray) -> jax.Array:
        sharding = NamedSharding(mesh, PartitionSpec(AXIS))
        return jax.make_array_from_process_local_data(sharding, leaf)

    return jax.tree.map(put, tree)


def gather(leaf: jax.Array, mesh: Mesh) -> np.ndarray:
    """Bring a split array here whole; every process has to take part.

    Args:
        leaf: an array on the devices.
        mesh: the devices.

    Returns:
        The whole array.
    """
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    whole = NamedSharding(mesh, PartitionSpec())
    return np.asarray(jax.jit(lambda x: x, out_shardings=whole)(leaf))
