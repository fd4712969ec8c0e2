"""A card that people edit: our sections are renewed, and every word of a person stays."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eqxesm.checkpoint.card import HERE
from eqxesm.checkpoint.card_edits import (
    MAX_METADATA,
    merge_cards,
    note_fields,
    replace_name,
    split_card,
    split_sections,
)
from eqxesm.errors import InputError


def sections(*pairs: tuple[str, str]) -> str:
    return "\n".join(f"<!-- eqxesm:{name} -->\n{text}\n<!-- /eqxesm:{name} -->\n" for name, text in pairs)


NEW = "---\nlicense: mit\n---\n\n" + sections(("a", "A2"), ("b", "B2"), ("c", "C2"))


def front(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def body(card: str) -> str:
    return card.split("---\n", 2)[2].strip()


def words(card: str) -> list[str]:
    parts = split_sections(card.split("---\n", 2)[2] if card.startswith("---") else card)
    return [text.strip("\n") for name, text in parts if not name and text.strip()]


def assert_renewed(merged: str, order: str = "abc") -> None:
    names = [name for name, _ in split_sections(body(merged)) if name]
    assert names == list(order)
    for name in "abc":
        assert f"<!-- eqxesm:{name} -->\n{name.upper()}2\n<!-- /eqxesm:{name} -->" in merged
    assert merge_cards(NEW, merged) == merged


def test_words_stay_where_they_are_and_new_sections_come_last():
    old = "before\n\n" + sections(("a", "A1")) + "\nbetween\n\n" + sections(("b", "B1")) + "\nafter\n"
    merged = merge_cards(NEW, old)
    parts = [merged.index(part) for part in ("before", "A2", "between", "B2", "after", "C2")]
    assert parts == sorted(parts)
    assert_renewed(merged)


def test_sections_stay_in_the_order_that_a_person_gave_them():
    assert_renewed(merge_cards(NEW, sections(("b", "B1"), ("a", "A1")) + "\nwords\n"), "bac")


FENCED = "```python\ndef f(x):\n\n    return x\n```"


@pytest.mark.parametrize(
    ("old", "kept"),
    [
        ("", []),
        ("---\nlicense: mit\n---\n", []),
        ("# A page of my own\n\nwith words", ["# A page of my own\n\nwith words"]),
        ("---\nOur words between rules\n---\nmore", ["---\nOur words between rules\n---\nmore"]),
        ("words\r\n\r\nof Windows\r\n", ["words\n\nof Windows"]),
        (sections(("a", "A1"), ("a", "twice")) + "words", ["words"]),
        (sections(("gone", "of an earlier version")) + "words", ["words"]),
        ("  <!--  eqxesm:a  -->  \nA1\n<!-- /eqxesm:a -->\t\nwords", ["words"]),
        (f"{FENCED}\n" + sections(("a", "A1")), [FENCED]),
        ("Do not touch `<!-- eqxesm:use -->` please", ["Do not touch `<!-- eqxesm:use -->` please"]),
        ("\n\ufeffwords", ["\ufeffwords"]),
    ],
)
def test_any_earlier_card_keeps_its_words_and_gets_the_sections(old, kept):
    merged = merge_cards(NEW, old)
    assert words(merged) == kept
    assert "of an earlier version" not in merged
    assert front(merged)["license"] == "mit"
    assert_renewed(merged)


@given(
    pieces=st.lists(
        st.sampled_from(["", "words", "# title\n\ntext", FENCED, "over\n\n---\n\nunder", "\ufeff", "a: b"]), max_size=3
    ),
    order=st.permutations("abc"),
)
def test_any_words_between_sections_are_kept(pieces, order):
    used = order[: len(pieces)]
    old = "\n\n".join(f"{piece}\n\n{sections((name, 'old'))}" for piece, name in zip(pieces, used, strict=True))
    merged = merge_cards(NEW, old)
    for piece in pieces:
        assert piece in merged
    assert "old" not in merged
    assert_renewed(merged, "".join([*used, *(name for name in "abc" if name not in used)]))


@pytest.mark.parametrize(
    ("old", "part"),
    [
        ("<!-- eqxesm:a -->\nan end that is missing", "has lost the mark <!-- /eqxesm:a -->"),
        ("<!-- /eqxesm:a -->\na start that is missing", "has lost the mark <!-- eqxesm:a -->"),
        ("<!-- eqxesm:a -->\nA1\n" + sections(("b", "B1")), "has lost the mark <!-- /eqxesm:a -->"),
        ("a fence\n```\n<!-- eqxesm:b -->\n", "has lost the mark <!-- /eqxesm:b -->"),
        ("---\ntitle: our assay: second round\n---\nwords", "is not YAML"),
        ("---\nx: " + "[" * 5000 + "\n---\nwords", "is not YAML"),
        ("---\n{license: mit, language: de}\n---\nwords", "must have one field per line, in block style"),
        ("---\n{language: de}\n---\nwords", "is not YAML"),
        ("---\nlicense: mit\nlicense: apache-2.0\n---\nwords", "must have one field per line, in block style"),
        (f"---\nx: {'y' * MAX_METADATA}\n---\nwords", "has over 100,000 characters"),
    ],
)
def test_refuses_a_card_that_cannot_be_told_apart(old, part):
    """Better than a section that appears twice, or words that are lost."""
    with pytest.raises(InputError) as caught:
        merge_cards(NEW, old)
    assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_words_from_both_sides_are_kept():
    here = NEW + "\nfrom here\n"
    there = sections(("a", "A1")) + "\nfrom there\n"
    assert words(merge_cards(here, there)) == ["from there", "from here"]
    more = NEW.replace("<!-- eqxesm:b", "from there\n\nand here\n\n<!-- eqxesm:b", 1)
    assert body(merge_cards(more, there)) == body(more)
    code = merge_cards(NEW + f"\n{FENCED}\n", there)
    assert FENCED in code


def test_a_name_is_replaced_in_our_sections_only():
    card = NEW.replace("A2", HERE) + f"\nAsk before you edit {HERE}.\n"
    named = replace_name(card, HERE, "me/x")
    assert "<!-- eqxesm:a -->\nme/x\n" in named
    assert f"Ask before you edit {HERE}." in named
    assert replace_name(card, "not in it", "me/x") == card


def test_metadata_of_a_person_is_kept_as_it_is_spelt():
    old = (
        "---\nlicense: apache-2.0\nlanguage: no # Norwegian\ndate: 2024-13-45\nversion: 1.10\n"
        "time: 12:30:00\nwidget:\n- text: MKV\ntags:\n- mine\n- jax\n---\n\nwords\n"
    )
    new = "---\nlicense: mit\ntags:\n- jax\n- protein\n---\n\n" + sections(("a", "A"))
    merged = merge_cards(new, old)
    for own in (
        "language: no # Norwegian\n",
        "date: 2024-13-45\n",
        "version: 1.10\n",
        "time: 12:30:00\n",
        "widget:\n- text: MKV\n",
    ):
        assert own in merged
    assert "license: mit\ntags:\n- jax\n- protein\n- mine\n" in merged
    assert "apache" not in merged
    assert merge_cards(new, merged) == merged


def test_aliases_are_kept_where_the_metadata_still_parses():
    kept = merge_cards(NEW, "---\nx: &a [1]\ny: *a\n---\nwords")
    assert "x: &a [1]\ny: *a\n" in kept
    assert front(kept)["y"] == [1]
    # The field that the alias refers to is ours, and is written anew.
    with pytest.raises(InputError, match="is not YAML"):
        merge_cards(NEW, "---\nlibrary_name: &a x\ny: *a\n---\nwords")


def test_refuses_aliases_that_stand_for_a_billion_values():
    levels = [f"- &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)]
    bomb = "\n".join(["---", "tags:", f"- &a0 [{', '.join('x' * 10)}]", *levels, "---", "words"])
    with pytest.raises(InputError, match=r"is not YAML \(over 10 aliases"):
        merge_cards(NEW, bomb)
    with pytest.raises(InputError, match=r"is not YAML \(over 10 aliases"):
        merge_cards(bomb, NEW)


def test_a_comment_notes_what_we_wrote_and_cannot_be_ended_by_it():
    note = note_fields({"license": "--> mit", "library_name": "eqxesm", "tags": ["a"]})
    assert note.startswith("<!-- written by eqxesm: {")
    assert note.count("-->") == 1
    assert 'eqxesm"' not in note
    # What we wrote earlier and do not write now is dropped, and what a person added is not.
    written = sections(("a", note_fields({"license": "mit", "tags": ["a"]})))
    old = f"---\nlicense: mit\ntags:\n- a\n- mine\n---\n\n{written}"
    merged = merge_cards("---\nlibrary_name: eqxesm\n---\n\n" + sections(("a", "A2")), old)
    assert front(merged) == {"library_name": "eqxesm", "tags": ["mine"]}


def test_a_list_of_licences_is_kept():
    new = "---\nlicense: mit\n---\n\n" + sections(("a", "A"))
    merged = merge_cards(new, "---\nlicense:\n- apache-2.0\n- mit\n---\nwords")
    assert front(merged)["license"] == ["mit", "apache-2.0"]
    assert merge_cards(new, merged) == merged


@pytest.mark.parametrize("note", ['{"tags": [ }', "{}", '{"tags": 3}', '{"tags": {"a": 1}, "license": [[1]]}', "{" * 9])
def test_a_note_that_was_changed_loses_nothing(note):
    written = sections(("a", f"<!-- written by eqxesm: {note} -->"))
    old = f"---\nlicense: mit\ntags:\n- mine\n- [nested, {{a: 1}}]\n---\n\n{written}"
    merged = merge_cards("---\ntags:\n- ours\n---\n\n" + sections(("a", "A2")), old)
    assert front(merged)["tags"] == ["ours", "mine", ["nested", {"a": "1"}]]
    assert body(merged) == sections(("a", "A2")).strip()


@pytest.mark.parametrize("card", ["", "words", "---\nlicense: mit\n---\n", NEW, "---\n---\nwords", "---\nwords"])
def test_a_card_is_split_without_loss(card):
    metadata, rest = split_card(card)
    assert "".join(text for _, text in split_sections(rest)) == rest
    assert card.endswith(rest)
    assert metadata in card
