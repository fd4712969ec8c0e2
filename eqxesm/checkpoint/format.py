"""A checkpoint folder: `config.json`, weights by dotted name, and the card."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from eqxesm.checkpoint import tensors
from eqxesm.checkpoint.atomic import whole_folder
from eqxesm.checkpoint.reading import read_bytes
from eqxesm.checkpoint.schema import CARD, CONFIG, METRICS, PICTURES, SCHEMA_VERSION
from eqxesm.errors import InputError


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Name every array of a tree by the fields that lead to it.

    Args:
        tree: a model, or its skeleton from `eqx.filter_eval_shape`.

    Returns:
        Leaves by dotted name, such as `blocks.attention.query.weight`.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
        if eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)
    }


def fingerprint(tree: PyTree) -> str:
    """Hash every array of a model with its name, shape and dtype.

    Args:
        tree: a model, or a part of one.

    Returns:
        The sha256 in hexadecimal digits; equal for equal parameters, however they were stored.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(named_leaves(tree).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(json.dumps([name, list(array.shape), str(array.dtype)]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def save(
    folder: str | os.PathLike,
    tree: PyTree,
    sections: Mapping[str, Any],
    files: Mapping[str, bytes],
    shard_bytes: int = tensors.SHARD_BYTES,
    is_stored: Callable[[str], bool] = lambda _: True,
) -> None:
    """Write a model as a checkpoint folder, whole or not at all.

    Args:
        folder: where to; an earlier checkpoint there is replaced, anything else is left alone.
        tree: the model.
        sections: what `config.json` says beside the versions.
        files: further files by name, the card among them.
        shard_bytes: largest weights file.
        is_stored: says of a leaf's dotted name whether it is written.

    Raises:
        InputError: the folder holds something other than a checkpoint, or cannot be written.
    """
    leaves = {name: leaf for name, leaf in named_leaves(tree).items() if is_stored(name)}
    specs = {name: tensors.Spec(leaf.shape, np.dtype(leaf.dtype)) for name, leaf in leaves.items()}
    write(folder, specs, lambda name: [np.asarray(leaves[name])], sections, files, shard_bytes)


def write(
    folder: str | os.PathLike,
    specs: Mapping[str, tensors.Spec],
    parts: Callable[[str], Iterable[np.ndarray]],
    sections: Mapping[str, Any],
    files: Mapping[str, bytes],
    shard_bytes: int = tensors.SHARD_BYTES,
) -> None:
    """Write a checkpoint folder from pieces of tensors; see `save`.

    Args:
        folder: where to.
        specs: shape and dtype of every tensor, by name.
        parts: gives a tensor as consecutive pieces.
        sections: what `config.json` says beside the versions.
        files: further files by name.
        shard_bytes: largest weights file.

    Raises:
        InputError: the folder holds something other than a checkpoint, or cannot be written.
    """
    folder = Path(folder)
    config = {
        "schema_version": SCHEMA_VERSION,
        "library_version": version("eqxesm"),
        **sections,
    }
    with whole_folder(folder) as partial:
        _refuse_strangers(Path(os.path.realpath(folder)), partial)
        tensors.write_folder(partial, specs, parts, shard_bytes)
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        for name, content in files.items():
            (partial / name).write_bytes(content)


def _refuse_strangers(folder: Path, partial: Path) -> None:
    if not folder.is_dir():
        return
    ours = {CONFIG, CARD, METRICS, *PICTURES, tensors.WEIGHTS, tensors.INDEX}
    items = sorted(item for item in folder.iterdir() if item != partial)
    strangers = [
        item.name
        for item in items
        if item.name not in ours
        and not (item.name.startswith("model-") and item.suffix == ".safetensors")
    ]
    if strangers:
        raise InputError(
            f"{folder}: holds {strangers[0]}, which is no part of a checkpoint: "
            "choose another folder"
        )
    # Other libraries' checkpoints go by the same names of files.
    config = folder / CONFIG
    if items and not (config.is_file() and b'"schema_version"' in read_bytes(config)):
        raise InputError(
            f"{folder}: holds {items[0].name} but no checkpoint of eqxesm: choose another folder"
        )


def load_leaves(
    folder: Path, skeleton: PyTree, given: Mapping[str, jax.Array] | None = None
) -> PyTree:
    """Fill the skeleton of a model with the weights of a checkpoint.

    Files are mapped, so that on the CPU the arrays are the file's own pages.

    Args:
        folder: a checkpoint.
        skeleton: what `eqx.filter_eval_shape` gives for the model.
        given: leaves that come from elsewhere, by dotted name.

    Returns:
        The model, its arrays in the dtype that they are stored in.

    Raises:
        InputError: weights are missing, unknown or of another shape, all of them named.
    """
    stored = tensors.open_folder(folder)
    given = given or {}
    shapes = {name: tuple(leaf.shape) for name, leaf in named_leaves(skeleton).items()}
    wanted = {name: shape for name, shape in shapes.items() if name not in given}
    problems = misfits(stored, wanted)
    if problems:
        raise InputError(
            f"{folder}: the weights do not fit {CONFIG}: {'; '.join(problems)}: "
            "they belong to another model"
        )
    read = {name: jax.device_put(stored[name].view()) for name in wanted}
    return fill(skeleton, {**given, **read})


def misfits(
    stored: Mapping[str, tensors.Tensor], wanted: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Name everything about stored weights that does not fit.

    Args:
        stored: tensors by name.
        wanted: shapes by name.

    Returns:
        A few words for each tensor that is missing, unknown, misshaped or of a dtype that is no
        floating-point number of at most 32 bits.
    """
    problems = [f"missing {name}" for name in sorted(set(wanted) - set(stored))]
    problems += [f"unknown {name}" for name in sorted(set(stored) - set(wanted))]
    for name in sorted(set(stored) & set(wanted)):
        spec = stored[name].spec
        if spec.shape != wanted[name]:
            problems.append(f"{name} has shape {list(spec.shape)}, not {list(wanted[name])}")
        if not jnp.issubdtype(spec.dtype, jnp.floating):
            problems.append(f"{name} has dtype {spec.dtype}, which is not floating point")
        elif spec.dtype.itemsize > 4:
            problems.append(f"{name} has dtype {spec.dtype}, which JAX would narrow")
    return problems


def fill(skeleton: PyTree, leaves: Mapping[str, jax.Array]) -> PyTree:
    """Put arrays in their places; the inverse of `named_leaves`.

    Args:
        skeleton: what `eqx.filter_eval_shape` gives for the model.
        leaves: an array for every dotted name.

    Returns:
        The model.
    """
    names = iter(named_leaves(skeleton))
    return jax.tree.map(
        lambda leaf: (
            leaves[next(names)]
            if isinstance(leaf, jax.ShapeDtypeStruct) or eqx.is_array(leaf)
            else leaf
        ),
        skeleton,
    )
