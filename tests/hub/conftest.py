"""What tests of the Hub share."""

import pytest
from hub_models import ENCODER

NAME = "me/encoder"


@pytest.fixture
def delays(monkeypatch):
    """Do not sleep, and note the seconds that would have been slept."""
    noted = []
    monkeypatch.setattr("time.sleep", noted.append)
    return noted


@pytest.fixture
def published(hub):
    """A Hub that holds a small encoder."""
    ENCODER.push_to_hub(NAME)
    hub.requests.clear()
    return hub
