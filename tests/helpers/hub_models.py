"""Small models for the Hub of the tests, and how another process sees them."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hub_server import Hub, environment

from eqxesm import ESMC, Calibration, ESMCConfig, InputError, SolubilityModel
from eqxesm.checkpoint.record import with_about
from eqxesm.data.cleaning import Cleaning
from eqxesm.encoders.lora import LoRAConfig, LoRALinear, add_lora
from heads import MeanPoolMLP, MeanPoolMLPConfig

BASE, NAME = "me/esmc-tiny", "me/solubility"
CONFIG = ESMCConfig(2, 64, 2, 96)
"""Of the encoder that the fixture `base` publishes as `BASE`."""

ENCODER = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0))
LARGE = ESMC(ESMCConfig(2, 320, 5, 1120), key=jax.random.key(0))
"""About 12 MB."""

TENTHS = [pytest.param(tenth, marks=() if tenth in (0, 5, 9) else pytest.mark.slow) for tenth in range(10)]
"""Where transfers of it are cut."""

SEQUENCES = [
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV",
    "MSHHHHHHGSENLYFQGMKTAYIAKQRQISFVKSHFSRQ",
    "ACDEFGHIKLMNPQRSTVWY" * 5,
]

PREDICT = """
import json, sys
from eqxesm import SolubilityModel
model = SolubilityModel.from_pretrained(sys.argv[1])
print(json.dumps([p.hex() for p in model.predict(json.loads(sys.argv[2])).astype(float).tolist()]))
"""


def make_trained(encoder: ESMC, strategy: str) -> SolubilityModel:
    """A model as the training strategy `frozen`, `joint` or `lora` would leave it, with weights drawn at random."""

    def perturb(x):
        return x + 0.1 * jax.random.normal(jax.random.key(2), x.shape, x.dtype)

    trained = encoder
    if strategy == "joint":
        trained = jax.tree.map(perturb, encoder)
    elif strategy == "lora":
        trained = jax.tree.map(
            lambda node: (
                LoRALinear(node.base, perturb(node.lora_a), perturb(node.lora_b), node.alpha)
                if isinstance(node, LoRALinear)
                else node
            ),
            add_lora(encoder, LoRAConfig(2), key=jax.random.key(3)),
            is_leaf=lambda node: isinstance(node, LoRALinear),
        )
    head = MeanPoolMLP(MeanPoolMLPConfig(encoder.d_model, (8,)), key=jax.random.key(1))
    return SolubilityModel(with_about(trained, encoder.about), head, Cleaning(strip_tags=True), Calibration(1.25))


def predict_bits(model: SolubilityModel) -> list[str]:
    """Predictions, written so that they are compared exactly."""
    return [value.hex() for value in model.predict(SEQUENCES).astype(float).tolist()]


def predict_elsewhere(hub: Hub, home: Path, name: str = NAME) -> list[str]:
    """Predict in another process, in which nothing is cached yet."""
    result = subprocess.run(
        [sys.executable, "-c", PREDICT, name, json.dumps(SEQUENCES)],
        env=environment(hub, home), capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return json.loads(result.stdout)


def assert_same(found: ESMC, expected: ESMC) -> None:
    """Two encoders have the same parameters."""
    assert found.config == expected.config
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def refusal(function, *arguments, **options) -> str:
    """The message with which a call is refused: one line, without a token."""
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "token-" not in message
    return message
