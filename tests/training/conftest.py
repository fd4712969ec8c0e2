"""A small recipe, its data, and a way to run it fast."""

import pytest
from run_recipes import hurry, make_data


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    """Path of the recipe. Its folder is shared, so tests that change the data make their own."""
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def quick(monkeypatch):
    """Few resamples, no pictures, and one compilation for runs with the same shapes."""
    hurry(monkeypatch)
