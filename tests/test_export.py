"""Exported programs against the models they come from, run by a Python that has no eqxesm."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from eqxesm import ESMC, SSM, ESMCConfig, InputError, OneHot, SolubilityModel, Tokenizer
from eqxesm.alphabet import pad
from eqxesm.encoders import SSMConfig
from eqxesm.export import export

SEQUENCES = ["MKVLAGWWDE", "MKV", "GSHMWWYYFFPPLMKTAYIAKQRQISFVKSHFSRQ" * 9]
BATCHES = [SEQUENCES[:2], SEQUENCES[2:], SEQUENCES]

CODE = """
import sys
sys.modules["eqxesm"] = sys.modules["heads"] = sys.modules["equinox"] = None
import jax.export, numpy as np, safetensors.numpy
program, asked, answer, *weights = sys.argv[1:]
call = jax.export.deserialize(open(program, "rb").read()).call
given = [safetensors.numpy.load_file(path) for path in weights]
tokens = safetensors.numpy.load_file(asked)
safetensors.numpy.save_file({name: np.asarray(call(*given, each)) for name, each in tokens.items()}, answer)
"""


def run_elsewhere(folder, program, batches, *weights) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    save_file({str(number): each for number, each in enumerate(batches)}, folder / "asked")
    words = [sys.executable, "-c", CODE, program, folder / "asked", folder / "answer", *weights]
    subprocess.run(list(map(str, words)), check=True, cwd=folder)
    return load_file(folder / "answer")


def make_batches() -> list[np.ndarray]:
    batches = []
    for sequences in BATCHES:
        tokens = [Tokenizer().encode(each) for each in sequences]
        batches.append(np.asarray(pad(tokens, max(map(len, tokens)) + 3)))
    return batches


ENCODERS = {
    "esmc": ESMC(ESMCConfig(2, 32, 2, 64), key=jax.random.key(0)),
    "ssm": SSM(SSMConfig(layers=2, d_model=16, heads=4, d_state=3), key=jax.random.key(0)),
    "one_hot": OneHot(),
}


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_encoders(encoder, tmp_path):
    assert not export(encoder, tmp_path / "program")
    batches = make_batches()
    for number, found in run_elsewhere(tmp_path, tmp_path / "program", batches).items():
        expected = jax.vmap(encoder.features)(batches[int(number)])
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.slow
def test_the_default_model(tmp_path):
    model = SolubilityModel.from_pretrained()
    export(model, tmp_path / "program")
    batches = make_batches()
    for number, found in run_elsewhere(tmp_path, tmp_path / "program", batches).items():
        np.testing.assert_allclose(found, jax.vmap(model.probability)(batches[int(number)]), atol=1e-6)


def test_weights_beside_the_program(tmp_path, monkeypatch):
    monkeypatch.setattr("eqxesm.export.MOST_INSIDE", 1000)
    encoder = ESMC(ESMCConfig(2, 32, 2, 64), key=jax.random.key(0))
    assert export(encoder, tmp_path / "program")
    assert (tmp_path / "program").stat().st_size < (tmp_path / "program.safetensors").stat().st_size
    (batch,) = make_batches()[:1]
    found = run_elsewhere(tmp_path, tmp_path / "program", [batch], tmp_path / "program.safetensors")
    np.testing.assert_allclose(found["0"], jax.vmap(encoder.features)(batch), atol=2e-6)


def test_refuses_where_it_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="its folder does not exist"):
        export(OneHot(), tmp_path / "no" / "program")
