"""The page of a small model, on this machine."""

import threading
import time

import jax
import pytest

pytest.importorskip("gradio", reason="gradio is not installed")

import uvicorn
from starlette.testclient import TestClient

from eqxesm import OneHot, SolubilityModel
from eqxesm.forms import Calibration, Limits
from eqxesm.web.server import make_app, open_port
from eqxesm.web.service import Service
from heads import AttentionPoolMLP, AttentionPoolMLPConfig


@pytest.fixture(scope="session")
def solubility() -> SolubilityModel:
    head = AttentionPoolMLP(AttentionPoolMLPConfig(OneHot().d_model, hidden=(4,)), key=jax.random.key(0))
    return SolubilityModel(OneHot(), head, calibration=Calibration(margin=0.7), limits=Limits(254, 10, 200))


@pytest.fixture(scope="session")
def service(solubility) -> Service:
    return Service(solubility)


@pytest.fixture(scope="session")
def client(service):
    """The page without a port."""
    with TestClient(make_app(service, "small")) as client:
        yield client


@pytest.fixture(scope="session")
def address(service):
    """The page at a port of this machine, behind a prefix."""
    port = open_port("127.0.0.1", 0)
    config = uvicorn.Config(make_app(service, "small", "/proteins"), log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [port]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port.getsockname()[1]}/proteins/"
    server.should_exit = True
    thread.join()
    port.close()
