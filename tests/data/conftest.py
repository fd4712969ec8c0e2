"""Files for the readers."""

from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path):
    """Write a file of text or bytes."""

    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write
