"""The package: what it imports, what it names, what is checked, and what the wheel holds."""

import ast
import inspect
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from jaxtyping import TypeCheckError
from paths import ROOT

import conversion.check
import conversion.export
import eqxesm
import eqxesm.alphabet
import heads.pooling

SUPPORTED_VERSIONS = ("3.11", "3.12", "3.13")
PACKAGES = ("eqxesm", "heads", "conversion")
PUBLIC = ("eqxesm", "heads", "eqxesm.encoders", "eqxesm.training", "eqxesm.evaluation")
HEAVY = {
    "torch", "transformers", "datasets", "grain", "mlflow", "matplotlib", "sklearn",
    "huggingface_hub", "pandas", "pyarrow",
}  # fmt: skip

# What is loaded, and when


def modules_after(statement: str, status: int = 0) -> set[str]:
    """Packages that a new process has imported after a statement, which ends with an exit status."""
    code = f"""
import json, sys
status = 0
try:
    {statement}
except SystemExit as exit:
    status = exit.code or 0
print()
print(json.dumps([status, list(sys.modules)]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found, modules = json.loads(done.stdout.splitlines()[-1])
    assert found == status
    assert status != 0 or done.stderr == ""
    return {name.split(".")[0] for name in modules}


def test_the_package_is_imported_without_its_dependencies():
    assert not modules_after("import eqxesm") & ({"jax", "equinox", "numpy", "pydantic", "heads"} | HEAVY)


def test_a_model_is_imported_on_first_use():
    loaded = modules_after("import eqxesm; eqxesm.SolubilityModel")
    assert {"eqxesm", "heads", "jax", "equinox", "safetensors"} <= loaded
    assert not loaded & HEAVY
    assert "conversion" not in loaded


def test_heads_are_a_leaf():
    loaded = modules_after("import heads")
    assert {"heads", "jax", "equinox"} <= loaded
    assert not loaded & ({"eqxesm", "conversion", "optax", "safetensors"} | HEAVY)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["predict", "--help"], 0),
        (["train", "--help"], 0),
        ([], 2),
        (["nonsense"], 2),
        (["predict"], 2),
        (["predict", "a.fasta", "--nonsense"], 2),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_help_and_usage_errors_load_neither_jax_nor_pydantic(words, status):
    loaded = modules_after(f"from eqxesm.cli.main import main; sys.exit(main({words}))", status)
    assert "eqxesm" in loaded
    assert not loaded & ({"jax", "pydantic", "equinox", "numpy", "heads"} | HEAVY)


# What is public


def test_public_names_are_few_and_are_defined_here():
    assert len(eqxesm.__all__) <= 12
    assert len(set(eqxesm.__all__)) == len(eqxesm.__all__)
    assert all(getattr(eqxesm, name).__module__.startswith("eqxesm.") for name in eqxesm.__all__)
    assert dir(eqxesm) == sorted(eqxesm.__all__)


def test_type_checkers_see_the_names_that_are_imported_late():
    imports = [node for node in ast.walk(ast.parse(inspect.getsource(eqxesm))) if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names if node.module.startswith("eqxesm.")}
    assert seen == {name: f"eqxesm.{module}" for name, module in eqxesm._MODULES.items()}
    assert set(seen) == set(eqxesm.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'eqxesm' has no attribute 'Solubility'"):
        eqxesm.Solubility  # noqa: B018
    assert not hasattr(eqxesm, "SolubilityModels")


@pytest.mark.parametrize("package", PUBLIC)
def test_public_classes_and_functions_have_docstrings(package):
    module = import_module(package)
    public = {name: getattr(module, name) for name in module.__all__}
    things = {name: each for name, each in public.items() if inspect.isclass(each) or inspect.isroutine(each)}
    assert things
    # A dataclass or named tuple without a docstring gets its signature as one, and a class its parent's.
    own = {name: vars(thing)["__doc__"] if inspect.isclass(thing) else thing.__doc__ for name, thing in things.items()}
    bare = [name for name, text in own.items() if not text or text.startswith(f"{name}(")]
    assert not bare
    assert module.__doc__


# Annotations are checked in every test, of shapes and of plain types: one call to each package shows it.


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: eqxesm.alphabet.pad([np.zeros((2, 2), np.int32)]), id="eqxesm, a shape"),
        pytest.param(lambda: eqxesm.alphabet.pad([np.zeros(2)]), id="eqxesm, a dtype"),
        pytest.param(lambda: eqxesm.SolubilityModel.predict(3, ["MKV"], progress="yes"), id="eqxesm, a type"),
        pytest.param(
            lambda: heads.pooling.mean_pool(np.zeros((3, 2), np.float32), np.ones(3, bool)), id="heads, numpy for JAX"
        ),
        pytest.param(
            lambda: heads.pooling.mean_pool(jax.numpy.zeros((3, 2)), jax.numpy.ones(4, bool)), id="heads, a shape"
        ),
        pytest.param(
            lambda: heads.pooling.mean_pool(jax.numpy.zeros((3, 2)), jax.numpy.ones(3, int)), id="heads, a dtype"
        ),
        pytest.param(lambda: conversion.check.full_precision(3), id="conversion, a type"),
        pytest.param(
            lambda: conversion.export.published_config({"layers": 30}, "split", "float32"),
            id="conversion, a configuration",
        ),
    ],
)
def test_annotations_are_checked(call):
    with pytest.raises(TypeCheckError):
        call()


def test_right_calls_pass_the_checks():
    pooled = heads.pooling.mean_pool(jax.numpy.ones((3, 2)), jax.numpy.ones(3, bool))
    assert pooled.tolist() == [1, 1]
    assert eqxesm.alphabet.pad([np.zeros(2, np.int32)]).shape == (1, 2)


# The wheel


def is_visible(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts)


def test_the_wheel_holds_every_file_of_the_packages(tmp_path):
    pytest.importorskip("hatchling")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet",
         "--disable-pip-version-check", "--wheel-dir", str(tmp_path), str(ROOT)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        described = archive.read(metadata).decode()
        scripts = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    packaged = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in packaged} == set(PACKAGES)
    on_disk = {
        str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*") if is_visible(path)
    }
    assert {name for name in packaged if "/." not in name} == on_disk
    assert {f"{package}/py.typed" for package in PACKAGES} <= packaged
    assert {f"eqxesm/checkpoint/templates/{kind}.md.j2" for kind in ("encoder", "solubility")} <= packaged
    shipped = {"config.json", "model.safetensors", "README.md", "metrics.json"}
    assert {f"eqxesm/default/{name}" for name in shipped} <= packaged
    assert "eqxesm = eqxesm.cli.main:start" in scripts
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for line in (
        "Name: eqxesm",
        "License-Expression: Apache-2.0",
        "Requires-Python: >=3.11",
        "Description-Content-Type: text/markdown",
        "Classifier: Typing :: Typed",
        *(f"Classifier: Programming Language :: Python :: {version}" for version in SUPPORTED_VERSIONS),
    ):
        assert line in described.splitlines()
    # None exists yet.
    assert "Project-URL" not in described


# What is said about the package

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_version_is_the_same_everywhere():
    newest = re.search(r"^## ([\d.]+), (\d{4}-\d\d-\d\d|not released yet)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest
    assert CITATION["version"] == newest[1] == PROJECT["version"]
    assert ("date-released" in CITATION) == (newest[2] != "not released yet")
    assert CITATION.get("date-released") in (None, newest[2])


def test_citation_names_the_developers_and_what_the_default_model_is_made_of():
    assert CITATION["cff-version"] == "1.2.0"
    assert {"title", "message", "abstract", "keywords"} <= set(CITATION)
    assert CITATION["license"] == PROJECT["license"]
    assert [author["name"] for author in CITATION["authors"]] == [author["name"] for author in PROJECT["authors"]]
    (cited,) = re.findall(
        r"## Citation\n(.*?)Written by", (ROOT / "model_cards/default/README.md").read_text(), re.DOTALL
    )
    expected = [line for line in cited.splitlines() if line.startswith("- ")]
    assert len(CITATION["references"]) == len(expected)
    for reference, line in zip(CITATION["references"], expected, strict=True):
        assert reference["title"] in line
        assert str(reference["year"]) in line
        author = reference["authors"][0]
        assert author.get("family-names", author.get("name")) in line
    # No identifier that the card does not state.
    assert not re.search(r"\bdoi\b", (ROOT / "CITATION.cff").read_text())


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_the_least_permissions_and_pinned_actions(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for name, job in workflow["jobs"].items():
        allowed = {"id-token": "write"} if (path.stem, name) == ("release", "publish") else {"contents": "read"}
        assert job.get("permissions", workflow["permissions"]) == allowed
        assert job["timeout-minutes"] <= 360
        for step in job["steps"]:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+|release/v1)", step.get("uses", "a/b@v1"))
            # A name that somebody chose is never pasted into a script.
            assert "${{" not in step.get("run", "")


def test_workflows_test_three_systems_and_publish_only_tags():
    tests, release = (
        yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text()) for name in ("tests", "release")
    )
    matrix = tests["jobs"]["fast"]["strategy"]["matrix"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == [SUPPORTED_VERSIONS[0], SUPPORTED_VERSIONS[-1]]
    # YAML reads `on` as a truth value.
    assert release[True] == {"push": {"tags": ["v*"]}}
    assert release["jobs"]["publish"]["environment"] == "pypi"
    assert release["jobs"]["publish"]["needs"] == "build"
