"""Which parameters are trained, and how fast: filters over the tree of a model."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from eqxesm.encoders import cast
from eqxesm.encoders.lora import ADAPTER_LEAVES, add_lora, describe_lora, merge_lora
from eqxesm.solubility import SolubilityModel
from eqxesm.training.config import TrainConfig

BLOCKS = "blocks"


def prepare(model: SolubilityModel, config: TrainConfig) -> SolubilityModel:
    """Make a model ready for its strategy: float32 where it is trained, adapters where wanted.

    Adapters that a model brings are trained on if they are of the recipe's kind, and merged first
    if they are of another.

    Args:
        model: where to start.
        config: the recipe.

    Returns:
        The model whose trainable part `trainable` marks.

    Raises:
        ValueError: adapters are wanted and the encoder has no blocks.
    """
    model = eqx.tree_at(lambda model: model.head, model, cast(model.head, np.float32))
    if config.strategy == "joint":
        encoder = cast(merge_lora(model.encoder), np.float32)
        return eqx.tree_at(lambda model: model.encoder, model, encoder)
    if config.strategy == "lora":
        if describe_lora(model.encoder) == config.lora:
            return model
        key = jax.random.fold_in(jax.random.key(config.seed), 1)
        encoder = add_lora(merge_lora(model.encoder), config.lora, key=key)
        return eqx.tree_at(lambda model: model.encoder, model, encoder)
    return model


def trainable(model: SolubilityModel, strategy: str) -> PyTree[bool]:
    """Mark the parameters that a strategy trains.

    Args:
        model: what `prepare` gives, or its shapes.
        strategy: `joint`, `lora` or `frozen`.

    Returns:
        A tree like the model, True at arrays that are trained. The masked-language-model head,
        which no gradient reaches, is never one of them.
    """

    def is_trained(path: tuple, leaf: object) -> bool:
        names = path_names(path)
        array = eqx.is_inexact_array(leaf) or (
            isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact)
        )
        if not array or "lm_head" in names:
            return False
        if names[0] == "head":
            return True
        return strategy == "joint" or (strategy == "lora" and names[-1] in ADAPTER_LEAVES)

    return jax.tree_util.tree_map_with_path(is_trained, model)


def path_names(path: tuple) -> list[str]:
    """Spell the path to a leaf.

    Args:
        path: as JAX gives it.

    Returns:
        The fields that lead to the leaf.
    """
    return jax.tree_util.keystr(path, simple=True, separator=".").split(".")


def is_matrix(path: tuple, leaf: object) -> bool:
    """Tell matrices from gains and biases, which do not decay and are not worth sharding.

    Args:
        path: to the leaf.
        leaf: an array; that of a stacked block has a leading axis of layers.

    Returns:
        Whether it is a matrix, or a kernel of convolution.
    """
    names = path_names(path)
    axes = getattr(leaf, "ndim", 0) - (BLOCKS in names)
    return axes >= 2 and names[-1] != "bias"


def learning_rate_factors(params: PyTree, layer_decay: float) -> PyTree:
    """Scale the learning rate by depth: 1 at the top, less by a factor with every block below.

    Howard & Ruder 2018, arXiv:1801.06146 (discriminative fine-tuning); as in ELECTRA, the
    embedding is one step below the first block.

    Args:
        params: the trained part of a model.
        layer_decay: the factor.

    Returns:
        A tree like `params` of float32 arrays that broadcast against its leaves.
    """
    layers = max(
        (
            leaf.shape[0]
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
            if BLOCKS in path_names(path)
        ),
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
