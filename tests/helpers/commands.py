"""What tests of the command line ask of a command."""

import os
import subprocess


def assert_refused(result: tuple[int, str, str], *parts: str) -> None:
    """A command printed one line on standard error, and nothing else."""
    status, out, err = result
    assert status == 2
    assert out == ""
    assert err.startswith("eqxesm: error: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    for part in parts:
        assert part in err


def start(command: list, **options) -> subprocess.Popen:
    """Start a process with pipes."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment, **options,
    )  # fmt: skip
