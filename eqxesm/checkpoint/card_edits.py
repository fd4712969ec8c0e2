"""A card that a person edits and a machine fills: whose words are whose."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml

from eqxesm.checkpoint.reading import one_line
from eqxesm.errors import InputError

OURS = ("library_name", "pipeline_tag", "base_model", "base_model_relation", "metrics",
        "model-index")  # fmt: skip
"""Fields of the metadata that are a machine's alone."""

SHARED = ("license", "tags", "datasets")
"""Fields that both may write; a card notes what of them the machine wrote."""

_FRONT = re.compile(
    r"\A\ufeff?(?:[ \t]*\n)*---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_MARK = re.compile(r"[ \t]*<!--[ \t]*(/?)eqxesm:([a-z-]+)[ \t]*-->[ \t]*\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_WROTE = re.compile(r"<!-- written by eqxesm: (\{.*\}) -->")


@dataclass(frozen=True)
class Piece:
    """Some lines of a card.

    Attributes:
        section: the name of the section that they are, marks and all; or None, and a person wrote
            them.
        text: the lines.
    """

    section: str | None
    text: str


def note_fields(fields: Mapping[str, Any]) -> str:
    """Note what a machine wrote of the fields that a person may write too.

    Args:
        fields: the metadata.

    Returns:
        A comment that `merge_cards` reads.
    """
    written = {name: fields[name] for name in SHARED if name in fields}
    # No text in it may end the comment.
    text = json.dumps(written).replace(">", "\\u003e")
    return f"<!-- written by eqxesm: {text} -->"


def merge_cards(new: str, earlier: str) -> str:
    """Fill the sections of an earlier card anew, and keep every word of a person.

    Args:
        new: a card as `render_card` writes it; a person may have added to it since.
        earlier: the card in whose place it comes, which a person may have edited.

    Returns:
        The earlier card with new sections in the places of the old ones; sections that it lacks
        come behind those that they follow in the new card, a person's words of the new card at the
        end. Where the new card holds all of a person's words, its own order counts. A person's
        fields of the metadata stay as they are spelt.

    Raises:
        InputError: the earlier card has lost a mark, or its metadata are no YAML.
    """
    front, body = split(new)
    earlier_front, earlier_body = split(earlier)
    fields = _join_fields(front, earlier_front, earlier_body)
    pieces, there = parse(body), parse(earlier_body)
    words, their_words = _words(pieces), _words(there)
    if words and all(any(their in own for own in words) for their in their_words):
        return f"{fields}\n{body.strip()}\n"
    sections = {piece.section: piece.text for piece in pieces if piece.section}
    merged = _renew(there, sections)
    more = [own for own in words if not any(own in their for their in their_words)]
    text = "\n\n".join(filter(None, (piece.text.strip("\n") for piece in merged)))
    return f"{fields}\n" + "\n\n".join([text, *more]).strip("\n") + "\n"


def rename(card: str, old: str, new: str) -> str:
    """Replace a name in what is written by machine.

    Args:
        card: Markdown with metadata.
        old: the name.
        new: what comes in its place.

    Returns:
        The card, a person's words as they were.
    """
    front, body = split(card)
    pieces = [
        piece.text.replace(old, new) if piece.section else piece.text for piece in parse(body)
    ]
    return f"---\n{front}---\n" + "".join(pieces) if front else "".join(pieces)


def split(card: str) -> tuple[str, str]:
    """Part a card into the YAML on top and the rest.

    Args:
        card: Markdown, with or without metadata.

    Returns:
        The YAML, empty if there is none, and the Markdown.

    Raises:
        InputError: what stands on top is no YAML.
    """
    card = card.replace("\r\n", "\n")
    match = _FRONT.match(card)
    # Two rules with words between them are no metadata.
    if not match or (match[1].strip() and _root(match[1]) is None):
        return "", card
    return match[1], card[match.end() :]


def parse(body: str) -> list[Piece]:
    """Tell the sections of a card from a person's words.

    Marks count where they fill a line, outside of a person's code.

    Args:
        body: a card without its metadata.

    Returns:
        Pieces in order, which together are the body.

    Raises:
        InputError: a mark has lost its other half.
    """
    pieces: list[Piece] = []
    lines: list[str] = []
    section, fence = None, ""

    def end_piece(name: str | None) -> None:
        if lines:
            pieces.append(Piece(name, "".join(lines)))
            lines.clear()

    for line in body.splitlines(keepends=True):
        mark = None if fence else _MARK.match(line.rstrip("\n"))
        if section is None and not mark:
            fence = _fence(line, fence)
        if mark and section != (mark[2] if mark[1] else None):
            lost = f"/eqxesm:{section}" if section else f"eqxesm:{mark[2]}"
            raise InputError(
                f"the card there has lost <!-- {lost} -->: put the mark back, or take its other "
                "half out"
            )
        if mark and not mark[1]:
            end_piece(None)
            section = mark[2]
        lines.append(line)
        if mark and mark[1]:
            end_piece(section)
            section = None
    if section is not None:
        raise InputError(f"the card there has lost <!-- /eqxesm:{section} -->: put the mark back")
    if fence:
        raise InputError(f"the card there opens code with {fence} and never closes it: close it")
    end_piece(None)
    return pieces


def _fence(line: str, fence: str) -> str:
    """Follow a person's fenced code: the fence that is open after a line."""
    match = _FENCE.match(line)
    if not match:
        return fence
    if not fence:
        return match[1]
    closes = match[1].startswith(fence) and not line.strip().strip(match[1][0])
    return "" if closes else fence


def _words(pieces: list[Piece]) -> list[str]:
    found = (piece.text.strip("\n") for piece in pieces if piece.section is None)
    return [text for text in found if text.strip()]


def _renew(there: list[Piece], sections: Mapping[str, str]) -> list[Piece]:
    """Put new sections in the places of old ones, and those that are missing where they belong."""
    merged: list[Piece] = []
    for piece in there:
        present = {each.section for each in merged}
        if piece.section is None:
            merged.append(piece)
        elif piece.section in sections and piece.section not in present:
            merged.append(Piece(piece.section, sections[piece.section]))
    before = None
    for name, text in sections.items():
        names = [piece.section for piece in merged]
        if name not in names:
            place = names.index(before) + 1 if before is not None else len(names)
            merged.insert(place, Piece(name, text))
        before = name
    return merged


def _join_fields(front: str, earlier: str, earlier_body: str) -> str:
    """Join the metadata: ours written anew, a person's own as they are spelt."""
    given = yaml.safe_load(front) or {} if front else {}
    # What a machine wrote into the earlier card is no person's.
    noted = _WROTE.search(earlier_body)
    wrote = json.loads(noted[1]) if noted else {}
    theirs = ""
    for name, (block, value) in _fields(earlier).items():
        if name in SHARED and isinstance(value, list):
            more = [each for each in value if each not in wrote.get(name, [])]
            if joined := list(dict.fromkeys([*given.get(name, []), *more])):
                given[name] = joined
        elif name not in OURS and name not in given and value != wrote.get(name, ()):
            theirs += block
    ours = yaml.safe_dump(given, sort_keys=False, allow_unicode=True) if given else ""
    return f"---\n{ours}{theirs}---\n" if ours or theirs else ""


def _root(text: str) -> yaml.MappingNode | None:
    """Read the structure of metadata, and none of its values: dates and numbers stay as spelt."""
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise InputError("the metadata of the card there have aliases: spell them out")
        root = yaml.compose(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(
            f"the metadata of the card there are no YAML ({one_line(error)[:120]}): mend them"
        ) from error
    if not isinstance(root, yaml.MappingNode):
        return None
    if root.flow_style:
        raise InputError("the metadata of the card there are in braces: write a field a line")
    return root


def _fields(text: str) -> dict[str, tuple[str, str | list[str] | None]]:
    """Cut metadata into fields: the text of each, and its value where that is a word or a list."""
    root = _root(text) if text.strip() else None
    if root is None:
        return {}
    starts = [0, *(key.start_mark.index for key, _ in root.value[1:]), len(text)]
    return {
        str(key.value): (f"{text[start:stop].rstrip()}\n", _value(value))
        for (key, value), (start, stop) in zip(root.value, pairwise(starts), strict=True)
    }


def _value(node: yaml.Node) -> str | list[str] | None:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    words = isinstance(node, yaml.SequenceNode) and all(
        isinstance(item, yaml.ScalarNode) for item in node.value
    )
    return [str(item.value) for item in node.value] if words else None
