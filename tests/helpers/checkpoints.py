"""Small models with weights drawn at random, and what tests of checkpoints ask of them."""

import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from eqxesm import ESMC, About, Calibration, ESMCConfig, OneHot, SolubilityModel
from eqxesm.checkpoint.record import Provenance, with_about
from eqxesm.data.cleaning import Cleaning
from eqxesm.errors import InputError
from eqxesm.forms import Limits
from heads import CompositionMLP, CompositionMLPConfig, MeanPoolMLP, MeanPoolMLPConfig

PROVENANCE = Provenance("someone/somewhere", "0123abc", ("ff  model.safetensors",), "mit")
SHARD_BYTES = 50_000
"""Small enough that the model below is stored in several files."""


def scramble(tree):
    """Give every parameter its own random values, gains and biases too."""
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(generator.standard_normal(x.shape), x.dtype) if eqx.is_array(x) else x, tree
    )


def make_encoder(**changes) -> ESMC:
    config = ESMCConfig(**{"layers": 3, "d_model": 128, "heads": 2, "d_ffn": 256, **changes})
    return with_about(scramble(ESMC(config, key=jax.random.key(0))), About(PROVENANCE))


def make_model() -> SolubilityModel:
    head = MeanPoolMLP(MeanPoolMLPConfig(128, (16, 8), 0.1), key=jax.random.key(1))
    return SolubilityModel(
        make_encoder(lm_head=False),
        scramble(head),
        Cleaning(strip_tags=True),
        Calibration(1.5, 0.25),
        Limits(700),
        About(PROVENANCE),
    )


def make_small() -> SolubilityModel:
    """A one-hot model, whose few parameters have sizes that are no multiple of the alignment."""
    config = CompositionMLPConfig(OneHot().d_model, (4,))
    return SolubilityModel(OneHot(), scramble(CompositionMLP(config, key=jax.random.key(0))))


MAKERS = {"encoder": make_encoder, "model": make_model, "small": make_small}


@functools.cache
def made(kind: str):
    return MAKERS[kind]()


def parameters(tree) -> dict | ESMC:
    """The part of a model whose arrays are stored as weights."""
    return {"encoder": tree.encoder, "head": tree.head} if isinstance(tree, SolubilityModel) else tree


def bits(tree) -> list:
    """Dtype, shape and bytes of every parameter, to compare models exactly."""
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(parameters(tree), eqx.is_array))]
    return [(array.dtype.name, array.shape, array.tobytes()) for array in arrays]


def attribute(tree, name: str):
    """Look up a parameter by its dotted name."""
    step = lambda x, part: x[int(part)] if part.isdigit() else getattr(x, part)  # noqa: E731
    return functools.reduce(step, name.split("."), tree)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def load_file(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a file, read by the safetensors library."""
    return {name: np.array(value) for name, value in safetensors.numpy.load_file(path).items()}


def refusal(cls, folder: Path) -> str:
    """The message, one line that names the folder, with which a checkpoint is refused."""
    with pytest.raises(InputError) as caught:
        cls.from_pretrained(folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(folder) in message
    return message


def load_or_refuse(folder: Path) -> SolubilityModel | InputError:
    try:
        return SolubilityModel.from_pretrained(folder)
    except InputError as error:
        return error


def assert_loads_or_is_refused_in_one_line(folder: Path) -> None:
    result = load_or_refuse(folder)
    if isinstance(result, InputError):
        assert len(str(result).splitlines()) == 1
        assert str(folder) in str(result)
        return
    assert result.calibration.temperature > 0
    arrays = jax.tree.leaves(eqx.filter(parameters(result), eqx.is_array))
    assert arrays
    assert all(jnp.issubdtype(array.dtype, jnp.floating) for array in arrays)


def key_paths(config: dict, prefix: tuple[str, ...] = ()):
    """Every key of nested tables, as the keys that lead to it."""
    for key, value in config.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from key_paths(value, (*prefix, key))
