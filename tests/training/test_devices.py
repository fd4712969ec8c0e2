"""The same run on one device, on eight and in two processes; killed and resumed."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from checkpoints import parameters
from jax.sharding import PartitionSpec
from paths import ROOT
from training_sets import baseline, examples, tiny

from eqxesm import InputError, SolubilityModel, files
from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.training import RunState, TrainConfig, fit
from eqxesm.training.devices import AXIS, partition_spec

PROGRAM = ROOT / "tests" / "helpers" / "training_program.py"


def hash_of(model) -> str:
    return fingerprint(parameters(model))


def start(*arguments: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read(process: subprocess.Popen) -> tuple[np.ndarray, str, int]:
    """Losses by epoch, the hash of the parameters, the number of devices."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    lines = [line for line in out.splitlines() if line.startswith(("[", "ready"))]
    _, digest, devices = lines[-1].split()
    losses = [json.loads(line) for line in lines[:-1] if not line.startswith("[Gloo]")]
    return np.array(losses), digest, int(devices)


@pytest.fixture(scope="module")
def alone() -> tuple[np.ndarray, str, int]:
    return read(start("joint", "-", 2))


@pytest.mark.slow
def test_eight_devices_give_the_losses_of_one(alone, tmp_path):
    losses, _, devices = read(start("joint", tmp_path, 2, XLA_FLAGS="--xla_force_host_platform_device_count=8"))
    assert (alone[2], devices) == (1, 8)
    np.testing.assert_allclose(losses, alone[0], atol=1e-5)


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(alone, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        start("joint", tmp_path, 2, JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(number))
        for number in range(2)
    ]
    (losses, first, devices), (silent, second, _) = map(read, processes)
    assert devices == 2
    np.testing.assert_allclose(losses, alone[0], atol=1e-5)
    # Only the first process reports and writes; both have the model.
    assert not len(silent)
    assert first == second == hash_of(SolubilityModel.from_pretrained(RunState(tmp_path).model))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["joint", "frozen"])
def test_killed_run_resumes_to_the_same_parameters(strategy, tmp_path):
    """Killed three times at random moments, and finished by a fourth process."""
    epochs = 3
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    # With compiled programs cached, most of the time of a run is its steps.
    kept = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    losses, expected, _ = read(start(strategy, tmp_path / "whole", epochs, **kept))
    folder, moments = tmp_path / "killed", random.Random(strategy)
    for _ in range(3):
        process = start(strategy, folder, epochs, 0.1, **kept)
        seen = set(folder.rglob("*"))
        while process.poll() is None and set(folder.rglob("*")) == seen:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert any(folder.glob("state-*"))
    rest, again, _ = read(start(strategy, folder, epochs, **kept))
    assert again == expected
    np.testing.assert_array_equal(rest, losses[epochs - len(rest) :])
    # No unfinished files are left.
    assert not list(folder.glob(".*"))


CONFIG = TrainConfig(epochs=2, tokens_per_batch=2048, checkpoint_steps=1)
DATA = examples(60, 0, longest=38), examples(20, 1, longest=38)


def run(folder: Path, config: TrainConfig = CONFIG):
    folder.mkdir(exist_ok=True)
    return fit(baseline(), *DATA, config, state=RunState(folder))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("when", [1, 2, 4])
def test_full_disk_keeps_the_last_state(when, tmp_path, monkeypatch):
    whole, epochs = run(tmp_path / "whole")
    real, calls = files._swap, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == when:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_swap", full)
        with pytest.raises(InputError, match=r"No space left on device.* Nothing was changed"):
            run(tmp_path / "cut")
    again, same = run(tmp_path / "cut")
    assert hash_of(again) == hash_of(whole)
    assert same == epochs


@pytest.mark.usefixtures("quick")
def test_model_folder_is_recovered_after_a_kill_between_its_two_renames(tmp_path):
    """The old model has been moved away, and the new one is not there yet."""
    whole, _ = run(tmp_path / "run")
    aside = tmp_path / "run" / ".model.abc"
    aside.mkdir()
    (tmp_path / "run" / "model").rename(aside / "model")
    assert hash_of(SolubilityModel.from_pretrained(RunState(tmp_path / "run").model)) == hash_of(whole)
    assert not aside.exists()


@pytest.mark.usefixtures("quick")
def test_refuses_the_state_of_another_run(tmp_path):
    run(tmp_path / "run")
    other = TrainConfig(epochs=2, tokens_per_batch=2048, ema=0.5)
    with pytest.raises(InputError, match="state of another run"):
        run(tmp_path / "run", other)


def test_one_rule_decides_how_every_array_is_split():
    """Matrices along their longest axis that the devices divide, never along the layers; the rest not."""
    model = tiny(layers=8)
    specs = {
        jax.tree_util.keystr(path, simple=True, separator="."): partition_spec(path, leaf, 8)
        for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(model, eqx.is_array))
    }
    blocks = "encoder.blocks"
    assert specs[f"{blocks}.attention.query.weight"] == PartitionSpec(None, AXIS, None)
    assert specs[f"{blocks}.ffn.gate.weight"] == PartitionSpec(None, AXIS, None)
    assert specs[f"{blocks}.ffn.down.weight"] == PartitionSpec(None, None, AXIS)
    assert specs["encoder.embedding"] == PartitionSpec(AXIS, None)
    whole = {name for name, spec in specs.items() if AXIS not in tuple(spec)}
    # The one row of the last layer cannot be divided; gains, biases and settings are not worth it.
    assert whole == {
        f"{blocks}.attention_norm.weight", f"{blocks}.attention_norm.bias",
        f"{blocks}.ffn_norm.weight", f"{blocks}.ffn_norm.bias",
        f"{blocks}.attention.query_norm.weight", f"{blocks}.attention.key_norm.weight",
        "encoder.norm.weight", "head.mlp.layers.0.bias", "head.mlp.layers.1.bias",
        "temperature", "threshold", "margin", "max_residues", "min_residues", "trained_residues",
    }  # fmt: skip
    assert partition_spec((), np.zeros((7, 9)), 8) == PartitionSpec()
