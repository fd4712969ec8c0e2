"""A model's checkpoint folder with its record and card, here or on its way to the Hub."""

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from eqxesm.checkpoint.atomic import write_text
from eqxesm.checkpoint.card import render_card
from eqxesm.checkpoint.card_edits import merge_cards
from eqxesm.checkpoint.format import save
from eqxesm.checkpoint.publish import push
from eqxesm.checkpoint.reading import place, read_text
from eqxesm.checkpoint.record import SUBJECT, Record, identify, make_record
from eqxesm.checkpoint.schema import CARD
from eqxesm.checkpoint.tensors import SHARD_BYTES
from eqxesm.errors import InputError

_log = logging.getLogger(__name__)


def save_folder(
    folder: str | os.PathLike,
    tree: PyTree,
    sections: Mapping[str, Any],
    known: Record | None,
    facts: Mapping[str, Any] | None = None,
    pictures: Mapping[str, bytes] | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
    is_stored: Callable[[str], bool] = lambda _: True,
) -> None:
    """Write a checkpoint with its record and card, whole or not at all.

    Args:
        folder: where to; an earlier checkpoint there is replaced, but for what a person wrote into
            its card.
        tree: the model.
        sections: what `config.json` says beside the versions.
        known: the record that the model came with; it is kept if it is about this very model.
        facts: what is recorded about the model; the record that it came with by default.
        pictures: PNG files that go with the facts, by name.
        shard_bytes: largest weights file.
        is_stored: says of a leaf's dotted name whether it is written.

    Raises:
        InputError: the folder holds something other than a checkpoint, or cannot be written.
    """
    if pictures and facts is None:
        raise InputError("pictures go with a record: give both")
    record = None
    if facts is not None:
        record = make_record(identify(tree, sections), facts, pictures or {})
    elif known is not None:
        if known.facts.get(SUBJECT) == identify(tree, sections):
            record = known
        else:
            _log.warning(
                "the model is another one than its record is about, so its card tells of no figures"
            )
    card = with_words_of(Path(folder), render_card(sections, record))
    files = {CARD: card.encode("utf-8"), **(record.files() if record else {})}
    save(folder, tree, sections, files, shard_bytes, is_stored)


def with_words_of(folder: Path, card: str) -> str:
    """Keep what a person wrote into the card of a folder.

    Args:
        folder: a checkpoint, or none yet.
        card: that comes in the place of its own.

    Returns:
        The card, with a person's words if there are any.

    Raises:
        InputError: the card of the folder cannot be read, or has lost a mark.
    """
    if not os.path.isfile(folder / CARD):
        return card
    path = place(folder, CARD)
    earlier = read_text(path)
    try:
        return merge_cards(card, earlier)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def push_saved(
    write: Callable[[Path], None], repository: str, words: Path | None = None, **options: Any
) -> str:
    """Publish what a function writes.

    Args:
        write: writes a checkpoint to the folder that it is given.
        repository: where to, such as `someone/solubility-esmc-300m`.
        words: an earlier checkpoint; what a person wrote into its card goes up too.
        options: of `push`.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        InputError: what `write` and `push` refuse.
    """
    with tempfile.TemporaryDirectory(prefix="eqxesm-") as parent:
        folder = Path(parent) / "checkpoint"
        write(folder)
        if words is not None:
            write_text(folder / CARD, with_words_of(words, read_text(folder / CARD)))
        return push(folder, repository, **options)
