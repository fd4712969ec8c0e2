"""Strictness for every test, and the torch originals that tests compare against."""

import os

# Before JAX is imported: CPU alone, so that a test is the same on every machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The labelled sets, which are no part of the repository."""
    if not SHARED.is_dir():
        pytest.skip("the labelled sets are not beside this checkout (../shared/data)")
    return SHARED


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on loopback, with the stock client pointed at it and logged in as `me`."""
    from hub_server import running_hub
    from huggingface_hub import constants

    with running_hub() as server:
        home = tmp_path / "hf"
        for name, value in {
            "ENDPOINT": server.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint
            + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_XET_CACHE": str(home / "xet"),
            "HF_HUB_DISABLE_PROGRESS_BARS": True,
        }.items():
            monkeypatch.setattr(constants, name, value, raising=False)
        monkeypatch.setenv("HF_TOKEN", "token-owner")
        yield server
