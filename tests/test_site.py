"""The site: it builds without a warning, works offline, and lists every public name and command."""

import importlib
import os
import re
import subprocess
import sys
from html import unescape

import pytest
from paths import ROOT

from eqxesm.cli.parser import COMMANDS

pytest.importorskip("mkdocs")

PACKAGES = ("eqxesm", "eqxesm.encoders", "eqxesm.design", "eqxesm.training", "eqxesm.evaluation", "heads")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=-1, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return folder


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page.read_text()):
            assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag), f"{page}: {tag}"


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site):
    for package in PACKAGES:
        page = (site / "reference" / f"{package.rpartition('.')[2]}.html").read_text()
        for name in importlib.import_module(package).__all__:
            assert re.search(rf"\bid=\"(?:[\w.]+\.)?{name}\"", page), f"{package}.{name}"


@pytest.mark.slow
def test_every_command_is_in_the_reference(site):
    page = unescape((site / "reference" / "commands.html").read_text())
    for name in COMMANDS:
        assert f">eqxesm {name}<" in page
    assert "--target COLUMN" in page


@pytest.mark.slow
def test_targets_outside_docs_are_in_the_site(site):
    for name in ("CONTRIBUTING.html", "examples/designs/index.html", "model_cards/default/calibration.png"):
        assert (site / name).exists()
    assert 'href="../CONTRIBUTING.html#add-a-head"' in (site / "tutorials" / "contributor.html").read_text()
