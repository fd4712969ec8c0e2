"""Recipes inside the package."""

from importlib.resources import files
from pathlib import Path

from eqxesm.errors import InputError

PREFIX = "recipe:"
"""How a command names a recipe inside the package, in the place of a file."""


def recipe_files() -> dict[str, Path]:
    """The recipes by name."""
    folder = Path(str(files("eqxesm") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe."""
    found = recipe_files()
    if name not in found:
        raise InputError(f"{name}: no recipe of the package. It has {', '.join(found)}.")
    return found[name]
