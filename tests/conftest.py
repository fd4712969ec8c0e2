"""Strictness for every test, and the torch originals that tests compare against."""

import gc
import os

# Before JAX is imported: CPU alone, so that a test is the same on every machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from pathlib import Path

import jax
import pytest
from tqdm import tqdm

# The thread that watches bars may stumble over one that ends, and pytest counts that.
tqdm.monitor_interval = 0

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

MOST_REGIONS = 30_000
"""Linux lets a process map 65,530 regions of memory, and every compiled program takes some."""

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="module")
def few_regions():
    """Forget compiled programs before there are too many: a process that can map no more crashes."""
    yield
    regions = Path("/proc/self/maps")
    if regions.exists() and len(regions.read_text().splitlines()) > MOST_REGIONS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="module")
def few_shuffled():
    """Shuffle few proteins of a corpus at a time: filling the usual buffer takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eqxesm.data.corpus.SHUFFLED", 64)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The labelled sets, which are no part of the repository."""
    if not SHARED.is_dir():
        pytest.skip("the labelled sets are not beside this checkout (../shared/data)")
    return SHARED


@pytest.fixture(scope="session")
def original():
    """Transformers' ESM-C in torch, three layers of it."""
    pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")
    from originals import transformers_original

    return transformers_original()


@pytest.fixture(scope="session")
def states(original) -> dict:
    """The tensors of `original` as each layout names them."""
    from originals import three_layouts

    return three_layouts(original)


@pytest.fixture(scope="session")
def ported(original, tmp_path_factory) -> Path:
    """The folder of our port of `original`."""
    from conversion.port import port
    from conversion.sources import open_source

    folder = tmp_path_factory.mktemp("original")
    original.save_pretrained(folder / "theirs")
    port(None, open_source("esmc_300m", str(folder / "theirs")), folder / "ours")
    return folder / "ours"


@pytest.fixture(scope="session")
def encoder(ported):
    """Our port of `original`."""
    from eqxesm import ESMC

    return ESMC.from_pretrained(ported)


@pytest.fixture
def tiny_preset(monkeypatch):
    """For one test, esmc_300m has the size of the tiny original."""
    from originals import TINY

    from eqxesm.encoders import PRESETS

    monkeypatch.setitem(PRESETS, "esmc_300m", TINY)
    return TINY


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder."""
    from eqxesm.cli import main

    monkeypatch.chdir(tmp_path)

    def _run(*words):
        status = main.main([str(word) for word in words])
        return status, *capsys.readouterr()

    return _run


@pytest.fixture(scope="session")
def hub_server():
    from hub_server import running_hub

    with running_hub() as server:
        yield server


@pytest.fixture
def hub(hub_server, tmp_path, monkeypatch):
    """An empty Hub on loopback. The client, unchanged, is pointed at it and logged in as `me`."""
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
    # The older client has its own copy.
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setenv("HF_TOKEN", "token-owner")
    hub_server.clear()
    forget_sessions()
    yield hub_server
    forget_sessions()


@pytest.fixture
def base(hub):  # noqa: ARG001
    """A tiny encoder, published on the Hub and loaded from there."""
    from hub_models import BASE, CONFIG

    from eqxesm import ESMC

    ESMC(CONFIG, key=jax.random.key(0)).push_to_hub(BASE)
    return ESMC.from_pretrained(BASE)


def forget_sessions() -> None:
    """Let the client check again whether it is offline."""
    from huggingface_hub.utils import _http

    # The name until 1.0, and the name since.
    forget = getattr(_http, "reset_sessions", None) or _http.close_session
    forget()
