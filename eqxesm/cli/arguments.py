"""Arguments that several commands have."""

import re
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eqxesm.errors import missing_extra
from eqxesm.files import expand_user

if TYPE_CHECKING:
    from eqxesm.data.protein import Columns

MODEL_HELP = "folder, Hugging Face Hub repository, or 'default', the model inside the package"
FOLDER = re.compile(r"(?:^|[^\w.:/])(?:~\w*|\.\.|[A-Za-z]:)?[/\\]")
"""A path that leads elsewhere on this machine."""

PROTEINS_HELP = "FASTA, CSV or TSV, plain or .gz; Parquet, GenBank, PDB, mmCIF, UniProt XML"


def read_path(text: str) -> Path:
    """A path on the command line."""
    return Path(expand_user(text))


def add_model(parser: ArgumentParser, *names: str, more: str = "", **options) -> None:
    """Add a model and its revision."""
    parser.add_argument(*names, metavar="MODEL", default="default", help=MODEL_HELP + more, **options)
    add_revision(parser)


def add_revision(parser: ArgumentParser) -> None:
    parser.add_argument("--revision", metavar="R", help="commit, tag or branch of the repository")


def add_recipe(parser: ArgumentParser, example: str, what: str = "TOML file") -> None:
    """Add a recipe, its settings, and the folder of its run."""
    parser.add_argument("recipe", metavar="RECIPE", help=f"{what}: what is trained, on what, and how")
    parser.add_argument("--out", metavar="RUN", required=True, help="folder of the run")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help=f"replace a value of the recipe, such as {example}",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder, if there is one")


def describe_command(name: str, options: Namespace) -> str:
    """The command for the card, which is published: without folders of this machine."""
    from eqxesm.checkpoint.record import without_folders

    words = ["eqxesm", name, without_folders(options.recipe)]
    for option in ("target", "validation", "test", "model", "sequence_column", "id_column"):
        given = getattr(options, option, None) or []
        for value in [given] if isinstance(given, str) else given:
            words += [f"--{option.replace('_', '-')}", without_folders(value)]
    for setting in options.settings:
        key, _, value = setting.partition("=")
        shown = without_folders(value.strip("'\""))
        # Folders may stand anywhere in a list, a table or a text.
        shown = "..." if FOLDER.search(shown) else shown
        words += ["--set", f"{key}={shown}"]
    if getattr(options, "data", None):
        words += ["--data", without_folders(options.data)]
    if getattr(options, "quick", False):
        words.append("--quick")
    return shlex.join([*words, "--out", without_folders(options.out)])


def add_columns(parser: ArgumentParser, *, label: bool) -> None:
    """Add the names of a table's columns."""
    for name in ("sequence", "label") if label else ("sequence",):
        parser.add_argument(
            f"--{name}-column", metavar="NAME", default=name, help=f"of a table (default: {name}, or a name like it)"
        )
    parser.add_argument(
        "--id-column", metavar="NAME", help="of a table (default: id or another usual name; else rows are numbered)"
    )


def read_columns(options: Namespace) -> "Columns":
    """The columns that were named."""
    from eqxesm.data.protein import Columns

    label = getattr(options, "label_column", "label")
    return Columns(sequence=options.sequence_column, label=label, id=options.id_column)


@contextmanager
def needs_extra(extra: str) -> Generator[None, None, None]:
    """Name the extra that installs a package which an import does not find."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("eqxesm", "heads"):
            raise
        raise missing_extra(package, extra) from error
