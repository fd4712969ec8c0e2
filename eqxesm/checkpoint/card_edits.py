"""Renewing a card that people edit: sections between marks are ours, everything else is theirs."""

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import yaml

from eqxesm.errors import InputError, one_line

OURS = ("library_name", "pipeline_tag", "base_model", "base_model_relation", "metrics",
        "model-index")  # fmt: skip
"""Metadata that is always written anew."""

SHARED = ("license", "license_name", "license_link", "tags", "datasets")
"""Metadata that people write too. A comment in the card notes what we wrote of it."""

MAX_METADATA = 100_000
"""Characters of metadata; parsing YAML is slow."""

MAX_ALIASES = 10
"""Aliases in the metadata. Some dozens may stand for a billion values."""

_FRONT = re.compile(r"\A\ufeff?(?:[ \t]*\n)*---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"^[^\s#\-].*?:", re.MULTILINE)
_MARK = re.compile(r"^[ \t]*<!--[ \t]*(/?)eqxesm:([a-z-]+)[ \t]*-->[ \t]*$", re.MULTILINE)
_WRITTEN = re.compile(r"^[ \t]*<!-- written by eqxesm: (\{.*\}) -->", re.MULTILINE)


def note_fields(fields: Mapping[str, Any]) -> str:
    """A comment that notes what we wrote of the `SHARED` metadata."""
    written = {name: fields[name] for name in SHARED if name in fields}
    # No text in it may end the comment.
    text = json.dumps(written).replace(">", "\\u003e")
    return f"<!-- written by eqxesm: {text} -->"


def merge_cards(new: str, earlier: str) -> str:
    """Renew our sections and metadata of `earlier`, and keep every word of a person.

    Sections that `earlier` lacks come at its end, then a person's words in `new` that it lacks. A
    `new` card that includes all words of `earlier` stays as it is.
    """
    front, body = split_card(new)
    earlier_front, earlier_body = split_card(earlier)
    metadata = _merge_metadata(front, earlier_front, earlier_body)
    parts, earlier_parts = split_sections(body), split_sections(earlier_body)
    words, earlier_words = _words(parts), _words(earlier_parts)
    if words and all(any(theirs in own for own in words) for theirs in earlier_words):
        return f"{metadata}\n{body.strip()}\n"
    fresh = {name: text for name, text in parts if name}
    texts = [fresh.pop(name, "") if name else text for name, text in earlier_parts]
    added = [own for own in words if not any(own in theirs for theirs in earlier_words)]
    texts = [text.strip("\n") for text in [*texts, *fresh.values(), *added]]
    return f"{metadata}\n" + "\n\n".join(filter(None, texts)) + "\n"


def replace_name(card: str, old: str, new: str) -> str:
    """Replace a name in our sections, not in a person's words."""
    front, body = split_card(card)
    texts = [text.replace(old, new) if name else text for name, text in split_sections(body)]
    return f"---\n{front}---\n" + "".join(texts) if front else "".join(texts)


def split_card(card: str) -> tuple[str, str]:
    """Split a card into its YAML metadata (empty if it has none) and its Markdown."""
    card = card.replace("\r\n", "\n").replace("\r", "\n")
    match = _FRONT.match(card)
    # Two rules with words between them are not metadata.
    if not match or (match[1].strip() and not isinstance(_parse_yaml(match[1]), dict)):
        return "", card
    return match[1], card[match.end() :]


def split_sections(body: str) -> list[tuple[str | None, str]]:
    """Split Markdown into our sections by name, and a person's words (no name), in order."""
    found: list[tuple[str | None, str]] = []
    name, start = None, 0
    for mark in _MARK.finditer(body):
        closing, marked = mark.groups()
        if name != (marked if closing else None):
            lost = f"/eqxesm:{name}" if name else f"eqxesm:{marked}"
            raise InputError(f"card has lost the mark <!-- {lost} -->. Put it back.")
        stop = mark.end() if closing else mark.start()
        found.append((name, body[start:stop]))
        name, start = None if closing else marked, stop
    if name is not None:
        raise InputError(f"card has lost the mark <!-- /eqxesm:{name} -->. Put it back.")
    return [(name, text) for name, text in [*found, (None, body[start:])] if text]


def _words(parts: list[tuple[str | None, str]]) -> list[str]:
    return [text.strip("\n") for name, text in parts if not name and text.strip()]


def _merge_metadata(front: str, earlier: str, earlier_body: str) -> str:
    """Write our metadata anew, and keep a person's fields as they are spelt."""
    given = (_parse_yaml(front) and yaml.safe_load(front)) or {}
    written = _read_note(earlier_body)
    values = _parse_yaml(earlier) or {}
    theirs = ""
    for name, block in _split_fields(earlier, values).items():
        value = values[name]
        if name in SHARED and isinstance(value, list):
            ours_then, ours_now = _by_text(written.get(name)), _by_text(given.get(name))
            added = {text: each for text, each in _by_text(value).items() if text not in ours_then}
            if joined := list({**ours_now, **added}.values()):
                given[name] = joined
        elif name not in OURS and name not in given and value != written.get(name, ()):
            theirs += block
    ours = yaml.safe_dump(given, sort_keys=False, allow_unicode=True) if given else ""
    # A field that refers to another one that was dropped is found here.
    _parse_yaml(ours + theirs)
    return f"---\n{ours}{theirs}---\n" if ours or theirs else ""


def _read_note(body: str) -> Mapping[str, Any]:
    """What `note_fields` noted, as far as it can still be read."""
    try:
        noted = _WRITTEN.search(body)
        written = json.loads(noted[1]) if noted else {}
    except (ValueError, RecursionError):
        return {}
    return written


def _by_text(values: Any) -> dict[str, Any]:
    """The items of a list, or a single value, by what tells them apart."""
    items = values if isinstance(values, list) else [] if values is None else [values]
    return {json.dumps(each): each for each in items}


class _TextLoader(yaml.BaseLoader):
    """Reads every value as text."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.aliases += self.check_event(yaml.AliasEvent)
        if self.aliases > MAX_ALIASES:
            raise yaml.YAMLError(f"over {MAX_ALIASES} aliases, such as *{self.peek_event().anchor}")
        return super().compose_node(parent, index)


def _parse_yaml(text: str) -> Any:
    """Parse YAML with every value as text, so that dates and numbers stay as they are spelt."""
    if len(text) > MAX_METADATA:
        raise InputError(f"metadata of the card has over {MAX_METADATA:,} characters")
    try:
        return yaml.load(text, Loader=_TextLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"metadata of the card is not YAML ({one_line(error, 120)}). Correct it.") from error


def _split_fields(text: str, values: Mapping[str, Any]) -> dict[str, str]:
    starts = [match.start() for match in _FIELD.finditer(text)]
    blocks = [text[start:stop] for start, stop in pairwise([*starts, len(text)])]
    if len(blocks) != len(values):
        raise InputError("metadata of the card must have one field per line, in block style")
    return {name: f"{block.rstrip()}\n" for name, block in zip(values, blocks, strict=True)}
