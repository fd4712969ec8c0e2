"""Parameters by dotted name: whatever does not fit the configuration is named."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from checkpoints import bits, load_file, made, parameters, refusal

from eqxesm import SolubilityModel
from eqxesm.checkpoint.leaves import fill_leaves, fingerprint, load_leaves, named_leaves
from eqxesm.checkpoint.tensors import INDEX, WEIGHTS


def test_names_are_dotted_and_their_order_in_the_file_does_not_matter(copy):
    folder = copy("model")
    leaves = load_file(folder / WEIGHTS)
    assert "encoder.blocks.attention.query.weight" in leaves
    backwards = dict(reversed(leaves.items()))
    shards = {
        "model-00001-of-00002.safetensors": list(backwards)[::2],
        "model-00002-of-00002.safetensors": list(backwards)[1::2],
    }
    weight_map = {}
    for shard, names in shards.items():
        safetensors.numpy.save_file({name: backwards[name] for name in names}, folder / shard)
        weight_map |= dict.fromkeys(names, shard)
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    assert bits(SolubilityModel.from_pretrained(folder)) == bits(made("model"))


def test_names_everything_wrong_with_the_weights_at_once(copy):
    folder = copy("model")
    leaves = load_file(folder / WEIGHTS)
    del leaves["encoder.norm.weight"], leaves["head.mlp.layers.0.bias"]
    leaves["extra.one"] = np.zeros(1, np.float32)
    leaves["extra\ntwo"] = np.zeros(1, np.float32)
    leaves["encoder.embedding"] = np.zeros((65, 128), np.float32)
    leaves["head.mlp.layers.1.bias"] = leaves["head.mlp.layers.1.bias"].reshape(1, -1)
    leaves["head.mlp.layers.2.bias"] = np.zeros(1, np.int32)
    safetensors.numpy.save_file(leaves, folder / WEIGHTS)
    message = refusal(SolubilityModel, folder)
    for part in (
        "missing encoder.norm.weight",
        "missing head.mlp.layers.0.bias",
        "unknown extra.one",
        "unknown extra two",
        "encoder.embedding has shape [65, 128], not [64, 128]",
        "head.mlp.layers.1.bias has shape [1, 8], not [8]",
        "head.mlp.layers.2.bias has dtype int32",
    ):
        assert part in message
    assert "head.mlp.layers.1.weight" not in message


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.bool_, np.float64])
def test_refuses_parameters_that_are_not_floats_of_at_most_32_bits(dtype, copy):
    folder = copy("small")
    leaves = {name: value.astype(dtype) for name, value in load_file(folder / WEIGHTS).items()}
    safetensors.numpy.save_file(leaves, folder / WEIGHTS)
    message = refusal(SolubilityModel, folder)
    assert all(f"{name} has dtype {np.dtype(dtype)}" in message for name in leaves)


def test_leaves_are_put_back_by_name():
    tree = parameters(made("model"))
    skeleton = eqx.filter_eval_shape(lambda: tree)
    shapes = {name: leaf.shape for name, leaf in named_leaves(skeleton).items()}
    assert shapes == {name: leaf.shape for name, leaf in named_leaves(tree).items()}
    again = fill_leaves(skeleton, named_leaves(tree))
    assert eqx.tree_equal(again, tree)


def test_leaves_that_are_given_are_not_read(copy):
    folder = copy("small")
    tree = parameters(made("small"))
    stored = load_file(folder / WEIGHTS)
    name = "head.mlp.layers.0.weight"
    del stored[name]
    safetensors.numpy.save_file(stored, folder / WEIGHTS)
    given = {name: jnp.ones((4, 26))}
    again = load_leaves(folder, eqx.filter_eval_shape(lambda: tree), given)
    assert named_leaves(again)[name] is given[name]
    np.testing.assert_array_equal(again["head"].mlp.layers[1].weight, tree["head"].mlp.layers[1].weight)


def test_the_fingerprint_is_that_of_names_shapes_dtypes_and_values():
    tree = {"a": np.arange(6, dtype=np.float32), "b": np.zeros(2, np.float32)}
    found = fingerprint(tree)
    assert fingerprint(jax.tree.map(jnp.asarray, tree)) == found
    assert fingerprint({"b": tree["b"], "a": tree["a"]}) == found
    changed = [
        {**tree, "a": tree["a"] + np.float32(1)},
        {**tree, "a": tree["a"].reshape(2, 3)},
        {**tree, "a": tree["a"].astype(np.float16)},
        {"c": tree["a"], "b": tree["b"]},
    ]
    assert len({found, *map(fingerprint, changed)}) == 5
