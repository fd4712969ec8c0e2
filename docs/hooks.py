"""What `mkdocs.yml` hooks into the build: pages that lie outside `docs`, and the options of the commands."""

import importlib
import os
import posixpath
import re
from argparse import SUPPRESS, ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(\]\()([^)\s:#]+)(?=[)#])")
"""The target of a link or picture within the repository."""

COMMANDS = "<!-- commands -->"
PORTING = "<!-- commands of conversion -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to outside `docs`, such as a README beside its results, and what that links to."""
    waiting = [DOCS / file.src_uri for file in files.documentation_pages()]
    known = set(waiting)
    while waiting:
        for target in _targets(waiting.pop()):
            if target in known or DOCS in target.parents:
                continue
            known.add(target)
            uri = target.relative_to(ROOT).as_posix()
            files.append(File(uri, str(ROOT), config.site_dir, config.use_directory_urls))
            if target.suffix == ".md":
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links lead to where their targets are in the site, and write the options of the commands."""
    source = Path(str(page.file.abs_src_path))

    def move(link: re.Match) -> str:
        target = _locate(source, link[2])
        if target is None:
            return link[0]
        return link[1] + posixpath.relpath(_uri(target), posixpath.dirname(page.file.src_uri))

    markdown = LINK.sub(move, markdown)
    for mark, parsers in ((COMMANDS, _commands), (PORTING, _porting)):
        if mark in markdown:
            markdown = markdown.replace(mark, "\n\n".join(map(_describe, parsers())))
    return markdown


def _targets(page: Path) -> Iterator[Path]:
    for link in LINK.finditer(page.read_text()):
        if target := _locate(page, link[2]):
            yield target


def _locate(page: Path, link: str) -> Path | None:
    """The file of the repository that a page links to."""
    target = Path(os.path.normpath(page.parent / link))
    return target if target.is_file() and ROOT in target.parents else None


def _uri(target: Path) -> str:
    return target.relative_to(DOCS if DOCS in target.parents else ROOT).as_posix()


def _commands() -> Iterator[ArgumentParser]:
    parser = importlib.import_module("eqxesm.cli.parser").make_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, _SubParsersAction))
    yield from commands.choices.values()


def _porting() -> Iterator[ArgumentParser]:
    for name in ("port", "parity", "export"):
        yield importlib.import_module(f"conversion.{name}")._parser()


def _describe(parser: ArgumentParser) -> str:
    """A section on a command: what it does, and its options in a table."""
    actions = [action for action in parser._actions if action.help != SUPPRESS and action.dest != "help"]
    rows = [f"| {_name(action)} | {_escape((action.help or '') % vars(action))} |" for action in actions]
    parts = [
        f"## {parser.prog}",
        *map(_paragraph, (parser.description or "").split("\n\n")),
        _example(parser.epilog or ""),
    ]
    return "\n\n".join([*parts, "\n".join(["| option | |", "|---|---|", *rows])])


def _paragraph(text: str) -> str:
    """A paragraph of a description; indented lines in it are code."""
    prose, code = [], []
    for line in text.splitlines():
        (code if line.startswith("  ") else prose).append(line)
    block = ["```text", dedent("\n".join(code)), "```"] if code else []
    return "\n".join([_escape("\n".join(prose)), "", *block])


def _example(epilog: str) -> str:
    return "\n".join(["```text", epilog.removeprefix("Example: "), "```"]) if epilog else ""


def _name(action: Any) -> str:
    value = (
        "" if action.nargs == 0 else action.metavar or ("{" + ",".join(action.choices) + "}" if action.choices else "")
    )
    if not action.option_strings:
        return f"`{value or action.dest}`"
    return ", ".join(f"`{option} {value}`" if value else f"`{option}`" for option in action.option_strings)


def _escape(text: str) -> str:
    return re.sub(r"([|*_<\[\]])", r"\\\1", text)
