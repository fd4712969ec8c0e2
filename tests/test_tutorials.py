"""The quick start and the tutorials: their commands, run in an empty folder, print what the pages show."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import environment, running_hub
from paths import ROOT

PAGES = ("index", "tutorials/protein-engineer", "tutorials/jax-researcher", "tutorials/assay-group")
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?|\d+(?=%)")
INSTALLING = ("python3 -m venv", ". ", "pip ", "make ", "hf ")
"""Commands that the environment of the tests stands for."""


def run_page(page: Path, folder: Path, variables: dict[str, str], rename: tuple[str, str] = ("", "")) -> list[str]:
    """Save the files of a page, run its commands in order, and compare what they print. Returns the commands."""
    commands = []
    for language, title, text in BLOCK.findall(page.read_text()):
        if title:
            (folder / title).write_text(text)
        if language != "console":
            continue
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            if command.startswith(INSTALLING):
                continue
            done = subprocess.run(
                ["bash", "-c", command], cwd=folder, env=variables, text=True, stdout=-1, stderr=subprocess.STDOUT
            )
            printed = done.stdout.replace(*rename) if rename[0] else done.stdout
            assert done.returncode == 0, f"{command}\n{printed}"
            assert match(shown.splitlines(), printed.splitlines()), f"{command}\n{printed}\ninstead of\n{shown}"
            commands.append(command)
    return commands


def match(shown: list[str], printed: list[str]) -> bool:
    """Whether lines are as shown, where `...` stands for any lines, and numbers with a point may differ a little."""
    if not shown or not printed:
        return all(line == "..." for line in shown) and not printed
    if shown[0] == "...":
        return match(shown[1:], printed) or match(shown, printed[1:])
    return match_line(shown[0], printed[0]) and match(shown[1:], printed[1:])


def match_line(shown: str, printed: str) -> bool:
    """As `match`; `...` at the end of a line stands for any rest."""
    if shown.endswith("..."):
        shown, printed = shown[:-3], printed[: len(shown) - 3]
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", printed).split():
        return False
    pairs = zip(map(float, NUMBER.findall(shown)), map(float, NUMBER.findall(printed)), strict=True)
    # What was trained on another processor, which rounds differently, is measured a little differently.
    return all(abs(a - b) <= 0.05 + 0.1 * abs(a) for a, b in pairs)


def test_what_matches():
    assert match(["a  1.00", "...", "c"], ["a 1.01", "b", "b", "c"])
    assert match(["a/..."], ["a/7c"])
    assert not match(["a 1.00"], ["a 1.20"])
    assert not match(["a 1.00"], ["b 1.00"])
    assert not match(["a"], ["a", "b"])
    assert not match(["a", "b"], ["a"])


@pytest.fixture
def variables(tmp_path):
    """Those of a shell in an installed environment, with a Hub on loopback."""
    with running_hub() as hub:
        # Optimised, as for readers: a test's usual setting makes long commands slow.
        own = {name: value for name, value in environment(hub, tmp_path / "hf").items() if name != "XLA_FLAGS"}
        yield {
            **own,
            "HF_TOKEN": "token-owner",
            "PYTHONUNBUFFERED": "1",  # lines come in order, as on a terminal
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "EQXESM_CACHE": str(tmp_path / "cache"),
        }


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_tutorial(name, tmp_path, variables):
    folder = tmp_path / "empty"
    folder.mkdir()
    commands = run_page(
        ROOT / "docs" / f"{name}.md", folder, variables, (variables["HF_ENDPOINT"], "https://huggingface.co")
    )
    assert len(commands) > 1


@pytest.mark.slow
def test_tutorial_of_contributors(tmp_path, variables):
    """In a copy of the packages, which it changes."""
    folder = tmp_path / "clone"
    for name in ("eqxesm", "heads", "conversion", "examples", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert code
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "heads" / "linear.py").write_text(code[1])
    run_page(ROOT / "docs" / "tutorials" / "contributor.md", folder, {**variables, "PYTHONPATH": str(folder)})
