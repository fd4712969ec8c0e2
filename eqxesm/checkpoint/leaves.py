"""The arrays of a model by dotted name: into a tree, out of it, and from a checkpoint."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree

from eqxesm.checkpoint.tensors import StoredTensor, open_folder
from eqxesm.errors import InputError


def _is_leaf(leaf: object) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """The arrays of a tree, or their shapes in a skeleton, by the fields that lead to them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves if _is_leaf(leaf)}


def fill_leaves(skeleton: PyTree, leaves: Mapping[str, Any]) -> PyTree:
    """Replace the arrays of a tree, the inverse of `named_leaves`."""
    names = iter(named_leaves(skeleton))
    return jax.tree.map(lambda leaf: leaves[next(names)] if _is_leaf(leaf) else leaf, skeleton)


def fingerprint(tree: PyTree) -> str:
    """SHA-256 of every array with its name, shape and dtype."""
    digest = hashlib.sha256()
    for name, leaf in sorted(named_leaves(tree).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(json.dumps([name, list(array.shape), str(array.dtype)]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def load_leaves(
    folder: Path,
    skeleton: PyTree,
    given: Mapping[str, jax.Array] | None = None,
    *,
    dtype: DTypeLike | None = None,
    part: str = "",
) -> PyTree:
    """Fill a skeleton with the weights of a checkpoint, except for the leaves in `given`.

    Those whose names start with `part` are cast to `dtype`, before they are sent to the device.
    """

    def convert(name: str, array: Any) -> Any:
        return array.astype(dtype) if dtype is not None and name.startswith(part) else array

    if dtype is not None:
        dtype = check_floating(dtype)
    stored = open_folder(folder)
    given = given or {}
    shapes = {name: tuple(leaf.shape) for name, leaf in named_leaves(skeleton).items()}
    wanted = {name: shape for name, shape in shapes.items() if name not in given}
    if problems := find_misfits(stored, wanted):
        raise InputError(f"{folder}: weights and config.json do not belong together: {'; '.join(problems)}")
    read = {name: jax.device_put(convert(name, stored[name].map())) for name in wanted}
    return fill_leaves(skeleton, {**{name: convert(name, leaf) for name, leaf in given.items()}, **read})


def check_floating(dtype: DTypeLike) -> np.dtype:
    """Refuse a precision that is no floating-point type of at most 32 bits."""
    try:
        checked = jnp.dtype(dtype)
    except TypeError:
        checked = None
    if checked is None or not jnp.issubdtype(checked, jnp.floating) or checked.itemsize > 4:
        raise InputError(f"dtype is {dtype!r}, expected a floating-point type of at most 32 bits, as 'bfloat16'")
    return checked


def compare_shapes(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Name every tensor that is missing, unknown or of another shape."""
    problems = [f"missing {name}" for name in sorted(set(wanted) - set(found))]
    problems += [f"unknown {name}" for name in sorted(set(found) - set(wanted))]
    return problems + [
        f"{name} has shape {list(found[name])}, not {list(wanted[name])}"
        for name in sorted(set(found) & set(wanted))
        if found[name] != wanted[name]
    ]


def find_misfits(stored: Mapping[str, StoredTensor], wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Name every tensor that `compare_shapes` names, or that is not a float of at most 32 bits."""
    problems = compare_shapes({name: tensor.spec.shape for name, tensor in stored.items()}, wanted)
    for name in sorted(set(stored) & set(wanted)):
        spec = stored[name].spec
        if not jnp.issubdtype(spec.dtype, jnp.floating):
            problems.append(f"{name} has dtype {spec.dtype}, which is not floating point")
        elif spec.dtype.itemsize > 4:
            problems.append(f"{name} has dtype {spec.dtype}, which JAX would narrow")
    return problems
