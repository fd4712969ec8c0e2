"""A folder that is a Hugging Face Space of the page."""

import shutil
from importlib.metadata import distribution, version
from importlib.resources import files
from pathlib import Path
from string import Template

from packaging.requirements import Requirement

from eqxesm.errors import InputError
from eqxesm.files import expand_user, replace_folder
from eqxesm.loading import load_model
from eqxesm.protein_model import DEFAULT

PACKAGES = ("eqxesm", "heads")
"""They are copied: what a Space runs does not depend on where eqxesm is published."""

APP = Template('''"""Serves the page where a Space expects it. Options of eqxesm web may follow."""

import sys
from pathlib import Path

from eqxesm.cli.main import main

model = $model
sys.exit(main(["web", "--host", "0.0.0.0", "--port", "7860", "--model", model$revision, *sys.argv[1:]]))
''')

README = Template("""---
title: Protein solubility
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: $sdk
python_version: "3.11"
app_file: app.py
license: apache-2.0
short_description: Is a protein soluble when it is expressed in E. coli?
$models---

# Protein solubility

The page of eqxesm: predictions, explanations and designs by the model `$name`. A prediction is no experiment.

`app.py` serves it. `eqxesm` and `heads` are copies of version $version of the library, under Apache-2.0; $terms.
""")


def write_space(folder: str, model: str, revision: str | None = None) -> None:
    """Write a Space of a model, whole or not at all. A model in a folder is copied into it."""
    target, source = Path(expand_user(folder)), Path(expand_user(model))
    if target.exists():
        raise InputError(f"{folder}: exists already. Name a new folder.")
    provenance = load_model(model, revision).about.provenance
    local = model != DEFAULT and source.is_dir()
    on_hub = model != DEFAULT and not local
    licence = (provenance and provenance.license) or "not recorded"
    name = source.resolve().name if local else model
    readme = README.substitute(
        sdk=version("gradio"),
        models=f"models:\n  - {model}\n" if on_hub else "",
        name=name,
        version=version("eqxesm"),
        terms=f"the model's licence is {licence}",
    )
    with replace_folder(target) as partial:
        for package in PACKAGES:
            shutil.copytree(str(files(package)), partial / package, ignore=shutil.ignore_patterns("__pycache__"))
        if local:
            shutil.copytree(source, partial / "model")
        place = 'str(Path(__file__).parent / "model")' if local else repr(model)
        given = f', "--revision", {revision!r}' if revision else ""
        (partial / "app.py").write_text(APP.substitute(model=place, revision=given), encoding="utf-8")
        (partial / "README.md").write_text(readme, encoding="utf-8")
        (partial / "requirements.txt").write_text("\n".join(_requirements({"web"})) + "\n", encoding="utf-8")
        _write_metadata(partial)


def _requirements(extras: set[str]) -> list[str]:
    """What eqxesm needs with some extras, without itself."""
    found: dict[str, None] = {}
    for text in distribution("eqxesm").requires or ():
        requirement = Requirement(text)
        wanted = any(_applies(requirement, extra) for extra in ("", *extras))
        if wanted and requirement.name == "eqxesm":
            found |= dict.fromkeys(_requirements(requirement.extras))
        elif wanted:
            found[f"{requirement.name}{requirement.specifier}"] = None
    return list(found)


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _write_metadata(folder: Path) -> None:
    """What tells the version of a package that is not installed."""
    own = folder / f"eqxesm-{version('eqxesm')}.dist-info"
    own.mkdir()
    (own / "METADATA").write_text(distribution("eqxesm").read_text("METADATA") or "", encoding="utf-8")
