"""`eqxesm recipes`."""

import tomllib
from argparse import ArgumentParser, Namespace
from pathlib import Path

from eqxesm.packaged import PREFIX, find_recipe, recipe_files

SUMMARY = "recipes inside the package"

DESCRIPTION = """List the recipes inside the package: name, what is trained, on which data. With a name, print
that recipe.

  eqxesm recipes
  eqxesm recipes tutorial-frozen       its TOML
  eqxesm train recipe:tutorial-frozen --out run"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="print this recipe as TOML")


def run(options: Namespace) -> None:
    if options.name:
        print(find_recipe(options.name.removeprefix(PREFIX)).read_text(encoding="utf-8"), end="")
        return
    found = recipe_files()
    width = max(map(len, found))
    for name, path in found.items():
        print(f"{name:{width}}  {_describe(path)}")


def _describe(path: Path) -> str:
    recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    return f"{recipe['summary'].rstrip('.')}; on {', '.join(source['name'] for source in recipe['data']['training'])}"
