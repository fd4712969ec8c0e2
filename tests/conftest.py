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
