"""`eqxesm web` itself: what it refuses, and the Space that it writes."""

import os
import socket
import subprocess
import sys

import pytest
import yaml
from commands import assert_refused

from eqxesm.cli.main import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["web", *words])
        return (status, *capsys.readouterr())

    return run


def test_a_port_in_use_is_refused(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_refused(run("--port", port), f"port {port} of 127.0.0.1", "in use", "--port")


def test_other_addresses_are_refused(run):
    assert_refused(run("--port", "70000"), "--port is 70000")
    assert_refused(run("--host", "300.0.0.1"), "--host 300.0.0.1")
    assert_refused(run("--root-path", "/a b"), "--root-path /a b")
    assert_refused(run("--root-path", "/../a"), "--root-path /../a")


def test_without_the_extra():
    code = "import sys; sys.modules['gradio'] = None; from eqxesm.cli.main import main; sys.exit(main(['web']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert_refused((result.returncode, result.stdout, result.stderr), "gradio is not installed", "eqxesm[web]")


def test_a_space_of_a_folder(run, solubility, tmp_path):
    solubility.save_pretrained("mine")
    assert run("--space", "space", "--model", "mine") == (0, "", "Space written: space\n")
    folder = tmp_path / "space"
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert (told["sdk"], told["app_file"], told["license"]) == ("gradio", "app.py", "apache-2.0")
    assert "models" not in told
    assert "`mine`" in text
    needed = (folder / "requirements.txt").read_text().splitlines()
    assert any(each.startswith("gradio") for each in needed)
    assert any(each.startswith("jax") for each in needed)
    assert not any(each.startswith(("eqxesm", "torch")) for each in needed)
    assert sorted(path.name for path in (folder / "model").iterdir()) == sorted(os.listdir("mine"))
    assert_refused(run("--space", "space", "--model", "mine"), "space: exists already")
    # It imports its own copy, and takes the options of the command.
    code = "import runpy, sys; sys.argv = ['app.py', '--port', '70000']; runpy.run_path('app.py', run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path[1:]])}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("eqxesm: error: --port is 70000")


def test_a_space_of_the_default_model(run, tmp_path):
    assert run("--space", "space")[0] == 0
    assert not (tmp_path / "space" / "model").exists()
    assert (tmp_path / "space" / "eqxesm" / "default" / "model.safetensors").exists()
    assert "'default'" in (tmp_path / "space" / "app.py").read_text()


def test_a_space_is_whole_or_absent(run, tmp_path):
    assert_refused(run("--space", "space", "--model", "nowhere"), "nowhere: folder not found")
    assert os.listdir(tmp_path) == []
