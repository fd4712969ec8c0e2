"""A small model, and commands that use it."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from eqxesm import ESMC, About, Calibration, ESMCConfig, OneHot, SolubilityModel
from eqxesm.checkpoint.record import Provenance
from eqxesm.cli.main import main
from eqxesm.data.cleaning import Cleaning
from eqxesm.forms import Limits
from heads import CompositionMLP, CompositionMLPConfig

FASTA = ">a one\nMKVLLAAG\n>b\nMKJ\nWW*\n>c,d\nGSHMWWYYFFPPL\n"


@pytest.fixture(scope="session")
def model() -> SolubilityModel:
    """A one-hot model that takes up to 60 residues."""
    config = CompositionMLPConfig(OneHot().d_model, (4,))
    head = CompositionMLP(config, key=jax.random.key(0))
    about = About(Provenance("a test", license="mit"))
    return SolubilityModel(OneHot(), head, Cleaning(), Calibration(0.2, 0.5, 0.5), Limits(60), about)


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "model"
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory) -> Path:
    """A folder with a small ESM-C."""
    path = tmp_path_factory.mktemp("cli") / "encoder"
    ESMC(ESMCConfig(3, 16, 2, 32), key=jax.random.key(0)).save_pretrained(path)
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few proteins."""
    monkeypatch.setattr("eqxesm.records.MOST", 40)
    monkeypatch.setattr("eqxesm.records.FEWEST", 40)


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder. Those that predict use the small model unless another one is named."""
    monkeypatch.chdir(tmp_path)

    def _run(*words, stdin: bytes = b""):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(stdin))))
        arguments = [str(word) for word in words]
        if "--model" not in arguments and arguments[0] in ("predict", "explain", "scan", "design"):
            arguments += ["--model", str(folder)]
        status = main(arguments)
        return status, *capsys.readouterr()

    return _run


@pytest.fixture
def write(tmp_path):
    """Write a file into the folder of the command."""

    def _write(name: str, content: str | bytes = FASTA) -> str:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return name

    return _write
