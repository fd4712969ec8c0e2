"""Strictness for every test, and the torch originals that tests compare against."""

import os

# Before JAX is imported: CPU alone, so that a test is the same on every machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from pathlib import Path

import jax
import pytest
from tqdm import tqdm

# The thread that watches bars may stumble over one that ends, and pytest counts that.
tqdm.monitor_interval = 0

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
def run(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder."""
    from eqxesm import cli

    monkeypatch.chdir(tmp_path)

    def _run(*words):
        status = cli.main([str(word) for word in words])
        return status, *capsys.readouterr()

    return _run


@pytest.fixture(scope="session")
def hub_server():
    from hub_server import running_hub

    with running_hub() as server:
        yield server


@pytest.fixture
def hub(hub_server, tmp_path, monkeypatch):
    """An empty Hub on loopback, the stock client pointed at it and logged in as `me`."""
    from huggingface_hub import constants, file_download

    home = tmp_path / "hf"
    template = hub_server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": hub_server.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_XET_CACHE": str(home / "xet"),
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    # The older client has taken a copy.
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setenv("HF_TOKEN", "token-owner")
    hub_server.clear()
    forget_sessions()
    yield hub_server
    forget_sessions()


def forget_sessions() -> None:
    """Let the client look again at whether it is offline."""
    from huggingface_hub.utils import _http

    # The name that it had until 1.0, and the one that it has since.
    forget = getattr(_http, "reset_sessions", None) or _http.close_session
    forget()
