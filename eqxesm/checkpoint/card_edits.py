"""A card that a person edits and a machine fills: whose words are whose."""

import re
from itertools import chain
from typing import Any

import yaml

SECTION = re.compile(
    r"<!-- eqxesm:([a-z-]+) -->\n(?:(?!<!-- /?eqxesm:).)*<!-- /eqxesm:\1 -->\n?", re.DOTALL
)
"""What is written by machine, between its marks."""

_MARK = re.compile(r"<!-- /?eqxesm:[a-z-]+ -->\n?")

_FRONT = re.compile(r"\A---\n(.*?)^---\n+", re.DOTALL | re.MULTILINE)
_LISTS = ("tags", "datasets", "metrics")


def merge_cards(new: str, earlier: str) -> str:
    """Fill the sections of an earlier card anew, and keep every word of a person.

    Args:
        new: a card as `render_card` writes it; a person may have added to it since.
        earlier: the card in whose place it comes, which a person may have edited.

    Returns:
        The earlier card with new sections in the places of the old ones; sections that it lacks
        come behind those that they follow in the new card, a person's paragraphs of the new card at
        the end. Where the new card has all of a person's paragraphs, its own order counts. Of the
        metadata, what the new card says counts, lists are joined, and a person's own fields stay.
    """
    new_fields, new_body = _split(new.replace("\r\n", "\n"))
    fields, body = _split(earlier.replace("\r\n", "\n"))
    sections = {match[1]: match[0] for match in SECTION.finditer(new_body)}
    present: set[str] = set()
    here, there = free_text(new), free_text(earlier)
    if here and set(there) <= set(here):
        return _join(_merge_fields(new_fields, fields), new_body)

    def renew(match: re.Match[str]) -> str:
        if match[1] in present or match[1] not in sections:
            return ""
        present.add(match[1])
        return sections[match[1]]

    body = SECTION.sub(renew, _without_strays(body))
    before = ""
    for name, text in sections.items():
        if name not in present:
            body = _insert(body, text, before)
        before = name
    body = "\n\n".join([body.rstrip(), *(each for each in here if each not in there)])
    return _join(_merge_fields(new_fields, fields), body)


def free_text(card: str) -> list[str]:
    """Give what a person wrote into a card.

    Args:
        card: Markdown with metadata.

    Returns:
        Paragraphs outside of the sections that are written by machine.
    """
    _, body = _split(card.replace("\r\n", "\n"))
    paragraphs = re.split(r"\n\s*\n", _MARK.sub("", SECTION.sub("\n\n", body)))
    return [paragraph.strip() for paragraph in paragraphs if paragraph.strip()]


def _without_strays(body: str) -> str:
    """Take out marks that have lost their other half: what follows is a person's now."""
    kept, end = [], 0
    for match in SECTION.finditer(body):
        kept += [_MARK.sub("", body[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*kept, _MARK.sub("", body[end:])])


def _insert(body: str, text: str, before: str) -> str:
    """Put a section behind the one that it follows, or else at the end."""
    for match in SECTION.finditer(body):
        if match[1] == before:
            return f"{body[: match.end()].rstrip()}\n\n{text}{body[match.end() :]}"
    return f"{body.rstrip()}\n\n{text}" if body.strip() else text


def _split(card: str) -> tuple[dict[str, Any], str]:
    match = _FRONT.match(card)
    if not match:
        return {}, card
    try:
        fields = yaml.safe_load(match[1])
    except yaml.YAMLError:
        fields = None
    return fields if isinstance(fields, dict) else {}, card[match.end() :]


def _join(fields: dict[str, Any], body: str) -> str:
    front = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{body.strip()}\n"


def _merge_fields(new: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    fields = {**new, **{key: value for key, value in earlier.items() if key not in new}}
    for key in _LISTS:
        values = [fields_.get(key) for fields_ in (new, earlier)]
        lists = [value for value in values if isinstance(value, list)]
        if lists:
            fields[key] = list(dict.fromkeys(str(each) for each in chain.from_iterable(lists)))
    return fields
