"""What a checkpoint says about itself besides its weights and configuration."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, TypeVar

import jax
from jaxtyping import PyTree
from pydantic import AfterValidator, Strict

from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.config import Commit, Repository, Sha256, configuration
from eqxesm.errors import InputError
from eqxesm.files import checked_path, read_bytes, read_json

Model = TypeVar("Model")

CARD = "README.md"
METRICS = "metrics.json"
PICTURES = ("calibration.png", "parity.png")
"""Pictures that a card may show."""

SUBJECT = "sha256"
"""Key of a record that names the model it is about."""

TRAINED_ON = "trained on top of "
"""How the source of a fine-tuned model begins; the rest is the source of its encoder."""


def without_folders(name: str) -> str:
    """A name that may be published: of a path that leads elsewhere on this machine, the last part."""
    path = PureWindowsPath(name)
    is_local = path.root or path.drive or (path.parts[:1] and path.parts[0].startswith(("~", "..")))
    return path.name if is_local else name


def _hide_folders(source: str) -> str:
    prefix = TRAINED_ON if source.startswith(TRAINED_ON) else ""
    return prefix + without_folders(source.removeprefix(prefix))


@configuration
class Provenance:
    """Where weights come from: a Hub repository or file, its commit, SHA-256 and licence."""

    source: Annotated[str, AfterValidator(_hide_folders)]
    revision: str | None = None
    sha256: Annotated[tuple[str, ...], Strict(False)] = ()
    license: str | None = None


@configuration
class Base:
    """The published encoder that a model started from, and the fingerprint of its parameters."""

    repository: Repository
    revision: Commit
    sha256: Sha256 | None = None


@dataclass(frozen=True, repr=False)
class Record:
    """Facts about one model, measured when it was made, and the pictures that go with them."""

    facts: Mapping[str, Any]
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        text = json.dumps(self.facts, indent=2) + "\n"
        return {METRICS: text.encode("utf-8"), **self.pictures}

    def __repr__(self) -> str:
        return f"Record({self.facts.get('summary', '')!r})"


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class About:
    """What is known of a model: its provenance, the encoder it is based on, its record.

    It is no part of the tree. `jax.tree.map`, a training step or `eqx.tree_at` make another model,
    of which nothing is known yet: their results have an empty `About`. Pass the one you mean to
    `save_pretrained`.
    """

    provenance: Provenance | None = None
    base: Base | None = None
    record: Record | None = None

    def tree_flatten(self) -> tuple[tuple[()], None]:
        return (), None

    @classmethod
    def tree_unflatten(cls, _: None, __: tuple[()]) -> "About":
        return cls()


def is_about(node: object) -> bool:
    """For `is_leaf` of tree functions that keep an `About`."""
    return isinstance(node, About)


def with_about(model: Model, about: About) -> Model:
    """The same model with another `About`."""
    own = (jax.tree_util.GetAttrKey("about"),)
    return jax.tree_util.tree_map_with_path(lambda path, node: about if path == own else node, model, is_leaf=is_about)


def trained_on(encoder: About) -> About:
    """What is known of what is trained on top of an encoder, under whose terms it then is."""
    origin = encoder.provenance
    source = origin and replace(origin, source=f"{TRAINED_ON}{origin.source}")
    return About(source, encoder.base)


def make_record(subject: str, facts: Mapping[str, Any], pictures: Mapping[str, bytes] | None = None) -> Record:
    """Record facts about the model with the hash `subject`; see `hash_model`."""
    pictures = pictures or {}
    if unknown := sorted(set(pictures) - set(PICTURES)):
        raise ValueError(f"unknown picture {unknown[0]}, expected {' or '.join(PICTURES)}")
    named = {SUBJECT: subject, **{key: value for key, value in facts.items() if key != SUBJECT}}
    return Record(named, dict(sorted(pictures.items())))


def read_record(folder: Path) -> Record | None:
    """Read the record of a checkpoint, if there is one."""
    path = checked_path(folder, METRICS)
    paths = {name: checked_path(folder, name) for name in sorted(PICTURES)}
    try:
        facts = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(facts, dict) or not isinstance(facts.get("summary"), str):
        raise InputError(f"{path}: has no summary. Fetch or write it again.")
    return Record(facts, {name: read_bytes(path) for name, path in paths.items() if path.is_file()})


def hash_model(tree: PyTree, sections: Mapping[str, Any]) -> str:
    """SHA-256 of all that decides what a model predicts: its arrays and its configuration."""
    kept = ("encoder", "adapter", "head", "cleaning", "calibration", "limits", "domain", "targets")
    configured = {name: sections[name] for name in kept if sections.get(name) is not None}
    text = json.dumps([fingerprint(tree), configured], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
