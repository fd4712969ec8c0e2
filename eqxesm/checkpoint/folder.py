"""A model's checkpoint folder with its record and card, here or on its way to the Hub."""

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from eqxesm.checkpoint.card import render_card
from eqxesm.checkpoint.card_edits import merge_cards
from eqxesm.checkpoint.format import save
from eqxesm.checkpoint.publish import push
from eqxesm.checkpoint.reading import read_bytes
from eqxesm.checkpoint.record import SUBJECT, Record, identify, make_record
from eqxesm.checkpoint.schema import CARD
from eqxesm.checkpoint.tensors import SHARD_BYTES

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
    card = render_card(sections, record)
    earlier = Path(folder) / CARD
    if os.path.isfile(earlier):
        card = merge_cards(card, read_bytes(earlier).decode("utf-8", "replace"))
    files = {CARD: card.encode("utf-8"), **(record.files() if record else {})}
    save(folder, tree, sections, files, shard_bytes, is_stored)


def push_saved(write: Callable[[Path], None], repository: str, **options: Any) -> str:
    """Publish what a function writes.

    Args:
        write: writes a checkpoint to the folder that it is given.
        repository: where to, such as `someone/solubility-esmc-300m`.
        options: of `push`.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        InputError: what `write` and `push` refuse.
    """
    with tempfile.TemporaryDirectory(prefix="eqxesm-") as place:
        folder = Path(place) / "checkpoint"
        write(folder)
        return push(folder, repository, **options)
