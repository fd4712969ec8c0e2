import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from jaxtyping import TypeCheckError

import conversion.layouts
import eqxesm
import eqxesm.alphabet
import heads.pooling

ROOT = Path(__file__).parents[1]
PACKAGES = ("eqxesm", "heads", "conversion")
HEAVY = {
    "torch", "transformers", "datasets", "grain", "mlflow", "matplotlib", "sklearn",
    "huggingface_hub", "pandas", "pyarrow",
}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    code = f"{statement}; import json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_import_is_light():
    loaded = modules_after("import eqxesm")
    assert {"eqxesm", "heads", "jax", "equinox", "safetensors"} <= loaded
    assert not loaded & HEAVY
    assert "conversion" not in loaded


def test_heads_are_a_leaf():
    loaded = modules_after("import heads")
    assert {"heads", "jax", "equinox"} <= loaded
    assert not loaded & ({"eqxesm", "conversion", "optax", "safetensors"} | HEAVY)


def test_public_names():
    assert len(eqxesm.__all__) <= 10
    assert len(set(eqxesm.__all__)) == len(eqxesm.__all__)
    assert all(getattr(eqxesm, name).__module__.startswith("eqxesm.") for name in eqxesm.__all__)


# One canary a package: annotations are checked in every test, of shapes and of plain types.


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(
            lambda: eqxesm.alphabet.pad([np.zeros((2, 2), np.int32)]), id="eqxesm, a shape"
        ),
        pytest.param(lambda: eqxesm.alphabet.pad([np.zeros(2)]), id="eqxesm, a dtype"),
        pytest.param(
            lambda: eqxesm.SolubilityModel.predict(3, ["MKV"], progress="yes"), id="eqxesm, a type"
        ),
        pytest.param(
            lambda: heads.pooling.mean_pool(np.zeros((3, 2), np.float32), np.ones(3, bool)),
            id="heads, numpy for JAX",
        ),
        pytest.param(
            lambda: heads.pooling.mean_pool(jax.numpy.zeros((3, 2)), jax.numpy.ones(4, bool)),
            id="heads, a shape",
        ),
        pytest.param(
            lambda: heads.pooling.mean_pool(jax.numpy.zeros((3, 2)), jax.numpy.ones(3, int)),
            id="heads, a dtype",
        ),
        pytest.param(lambda: conversion.layouts.recognise(3, "x"), id="conversion, a type"),
        pytest.param(
            lambda: conversion.layouts.check_size("esmc_300m", {"layers": 30}, "x"),
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


def visible(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return path.is_file() and not any(p.startswith(".") or p == "__pycache__" for p in parts)


def test_wheel(tmp_path):
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
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if visible(path)
    }
    assert {name for name in packaged if "/." not in name} == on_disk
    assert {f"{package}/py.typed" for package in PACKAGES} <= packaged
    assert {f"eqxesm/checkpoint/templates/{kind}.md.j2" for kind in ("encoder", "solubility")} <= (
        packaged
    )
    if (ROOT / "eqxesm" / "default").exists():
        shipped = {"config.json", "model.safetensors", "README.md", "metrics.json"}
        assert {f"eqxesm/default/{name}" for name in shipped} <= packaged
    assert "eqxesm = eqxesm.cli:main" in scripts
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "Name: eqxesm" in described
