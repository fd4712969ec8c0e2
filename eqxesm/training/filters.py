"""Which parameters are trained, and how fast: filters over the tree of a model."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from eqxesm.encoders import cast
from eqxesm.encoders.lora import ADAPTER_LEAVES, add_lora, describe_lora, merge_lora
from eqxesm.protein_model import ProteinModel
from eqxesm.training.config import TrainConfig
from heads import FIXED

BLOCKS = "blocks"

Model = TypeVar("Model", bound=ProteinModel)


def prepare(model: Model, config: TrainConfig) -> Model:
    """Make a model ready for its strategy: float32 where it is trained, adapters for `lora`."""
    encoder, head = model.encoder, cast(model.head, np.float32)
    if config.strategy == "joint":
        encoder = cast(merge_lora(encoder), np.float32)
    elif config.strategy == "lora" and describe_lora(encoder) != config.lora:
        key = jax.random.fold_in(jax.random.key(config.seed), 1)
        encoder = add_lora(merge_lora(encoder), config.lora, key=key)
    return eqx.tree_at(lambda model: (model.encoder, model.head), model, (encoder, head))


def trainable(model: ProteinModel, strategy: str) -> PyTree[bool]:
    """True at the parameters that a strategy trains."""

    def is_trained(path: tuple, leaf: object) -> bool:
        names = path_names(path)
        is_float = eqx.is_inexact_array(leaf) or (
            isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact)
        )
        is_fixed = names[0] == "head" and names[-1] in FIXED
        if not is_float or is_fixed or "lm_head" in names or names[0] not in ("encoder", "head"):
            return False
        is_adapter = strategy == "lora" and names[-1] in ADAPTER_LEAVES
        return names[0] == "head" or strategy == "joint" or is_adapter

    return jax.tree_util.tree_map_with_path(is_trained, model)


def path_names(path: tuple) -> list[str]:
    """Names of the fields that lead to a leaf."""
    return jax.tree_util.keystr(path, simple=True, separator=".").split(".")


def is_matrix(path: tuple, leaf: object) -> bool:
    """Whether a leaf is a matrix. Gains and biases do not decay and are not worth sharding."""
    names = path_names(path)
    axes = getattr(leaf, "ndim", 0) - (BLOCKS in names)
    return axes >= 2 and names[-1] != "bias"


def learning_rate_factors(params: PyTree, layer_decay: float) -> PyTree:
    """Factor of each parameter's learning rate: 1 at the top, times `layer_decay` per block below."""
    layers = max(
        (leaf.shape[0] for path, leaf in jax.tree_util.tree_leaves_with_path(params) if BLOCKS in path_names(path)),
        default=0,
    )

    def factor(path: tuple, leaf: Any) -> np.ndarray:
        names = path_names(path)
        if BLOCKS in names:
            depth = np.arange(layers, 0, -1).reshape(-1, *(1,) * (leaf.ndim - 1))
            return (layer_decay ** (depth - 1)).astype(np.float32)
        if names == ["encoder", "embedding"]:
            return np.full((1,) * leaf.ndim, layer_decay**layers, np.float32)
        return np.ones((1,) * leaf.ndim, np.float32)

    return jax.tree_util.tree_map_with_path(factor, params)
