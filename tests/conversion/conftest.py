"""What tests of the conversion share."""

from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture
def split_file(states, tmp_path) -> Path:
    """The tiny original in the layout of transformers."""
    from originals import write_state

    return write_state(states["split"], tmp_path / "x.safetensors")


@pytest.fixture
def command(capsys):
    """Run a command of this package."""

    def run(main, *arguments):
        status = main([str(argument) for argument in arguments])
        return SimpleNamespace(status=status, **capsys.readouterr()._asdict())

    return run


@pytest.fixture
def refuse(command):
    """Expect status 2 and one line on standard error alone, and return it."""

    def run(main, *arguments) -> str:
        done = command(main, *arguments)
        assert done.status == 2
        assert done.out == ""
        assert done.err.startswith(f"{main.__module__}: error: ")
        assert done.err.endswith("\n")
        assert len(done.err.splitlines()) == 1
        return done.err

    return run
