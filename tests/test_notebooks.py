"""The notebooks are in a clean state. `make docs` runs them."""

import json
import sys

import pytest
from paths import ROOT

from eqxesm.errors import InputError

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_four():
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_is_clean(file):
    notebook = json.loads(file.read_text())
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert [cell["id"] for cell in notebook["cells"]] == [f"cell-{n + 1}" for n in range(len(notebook["cells"]))]
    # The first cell installs, and only on Colab.
    lines = "".join(code[0]["source"]).splitlines()
    assert "if 'google.colab' in sys.modules:" in "".join(lines).replace('"', "'")
    assert all(line.startswith((" ", "#", "import ", "if ")) for line in lines if line)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_missing_extra_is_one_line(file, monkeypatch):
    """The cell of imports, with the packages of extras out of reach."""
    for name in ("matplotlib", "matplotlib.pyplot", "optax", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    code = ["".join(cell["source"]) for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]
    with pytest.raises(InputError, match=r'is not installed. Run: .* -m pip install "eqxesm\[\w+\]"') as error:
        exec(code[1], {})
    # IPython shows an error by this method, where it has one.
    assert error.value._render_traceback_() == [f"InputError: {error.value}"]
