"""What a stored model says of itself, and the three forms of it: `full`, `head`, and `adapter`.

The two small ones name the published encoder that they stand on by repository, commit and the
fingerprint of its parameters, and hold what was trained on top of it.
"""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from eqxesm.checkpoint.format import fingerprint, named_leaves
from eqxesm.checkpoint.hub import FILES, Access, download
from eqxesm.checkpoint.record import Record, read_record
from eqxesm.checkpoint.schema import (
    CONFIG,
    Base,
    Provenance,
    check_sections,
    class_of,
    parse,
    parse_optional,
    parse_type,
    read_config,
)
from eqxesm.data.cleaning import Cleaning
from eqxesm.declarations import Calibration, Limits
from eqxesm.encoders import ENCODERS, ESMC, AbstractEncoder
from eqxesm.encoders.lora import ADAPTER_LEAVES, LoRAConfig, adapters, add_lora, remove_lora
from eqxesm.errors import InputError
from heads import HEADS, AbstractHead

SECTIONS = (
    "form", "base", "encoder", "adapter", "head", "cleaning", "calibration", "limits", "provenance"
)  # fmt: skip
"""What `config.json` of a model says beside the versions."""

FORMS = ("full", "head", "adapter")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """All of a stored model but its weights.

    Attributes:
        form: `full`, `head` or `adapter`.
        base: the published encoder that it stands on, or was trained from.
        encoder: configuration of the encoder.
        adapter: configuration of its adapters, if it has any.
        head: configuration of the head.
        cleaning: how sequences are cleaned.
        calibration: how a logit becomes a probability.
        limits: what proteins it may be asked about.
        provenance: where it comes from.
        record: how it was made and measured.
    """

    form: str
    base: Base | None
    encoder: Any
    adapter: LoRAConfig | None
    head: Any
    cleaning: Cleaning
    calibration: Calibration
    limits: Limits
    provenance: Provenance | None
    record: Record | None

    def make_parts(self) -> tuple[AbstractEncoder, AbstractHead]:
        """Make encoder and head with random weights, for their shapes."""
        key = jax.random.key(0)
        if type(self.encoder) is ENCODERS["esmc"][0]:
            base = self.base and dataclasses.replace(self.base, sha256=None)
            encoder: AbstractEncoder = ESMC(self.encoder, key=key, base=base)
        else:
            encoder = class_of(ENCODERS, self.encoder)(self.encoder, key=key)
        if self.adapter is not None:
            encoder = add_lora(encoder, self.adapter, key=key)
        return encoder, class_of(HEADS, self.head)(self.head, key=key)


def read_stored(folder: Path) -> Stored:
    """Read what a checkpoint of a model says, strictly.

    Args:
        folder: the checkpoint.

    Returns:
        All but its weights.

    Raises:
        InputError: it is none of a model, or says something that does not go together.
    """
    where = str(folder / CONFIG)
    sections = read_config(folder)
    if not {"head", "cleaning"} & set(sections):
        raise InputError(
            f"{folder}: holds an encoder, not a solubility model: load it with "
            "ESMC.from_pretrained and join it with a head"
        )
    check_sections(folder, sections, SECTIONS)

    def options(name: str, cls: type) -> Any:
        return parse(cls, sections[name], f"{where}: {name}")

    def optional(name: str, cls: type) -> Any:
        return parse_optional(cls, sections[name], f"{where}: {name}")

    stored = Stored(
        form=sections["form"] if sections["form"] in FORMS else "",
        base=optional("base", Base),
        encoder=parse_type(ENCODERS, sections["encoder"], f"{where}: encoder")[0],
        adapter=optional("adapter", LoRAConfig),
        head=parse_type(HEADS, sections["head"], f"{where}: head")[0],
        cleaning=options("cleaning", Cleaning),
        calibration=options("calibration", Calibration),
        limits=options("limits", Limits),
        provenance=optional("provenance", Provenance),
        record=read_record(folder),
    )
    if not stored.form:
        raise InputError(f"{where}: form {sections['form']!r} is not one of {', '.join(FORMS)}")
    if stored.form == "full":
        return stored
    if stored.base is None or stored.base.sha256 is None:
        raise InputError(f"{where}: the form {stored.form} wants a base with its sha256")
    if (stored.adapter is None) != (stored.form == "head"):
        raise InputError(f"{where}: the form {stored.form} and its adapter do not go together")
    return stored


def is_stored(form: str, name: str) -> bool:
    """Say whether a leaf of a model is written in a form.

    Args:
        form: `full`, `head` or `adapter`.
        name: dotted name of the leaf.

    Returns:
        True for all in `full`, for the head in `head`, and for head and adapters in `adapter`.
    """
    own = name.startswith("head.")
    adapter = form == "adapter" and name.rpartition(".")[2] in ADAPTER_LEAVES
    return form == "full" or own or adapter


def find_base(
    form: str, encoder: AbstractEncoder, named: str | None, access: Access
) -> Base | None:
    """Name the published encoder that a model stands on, and prove that it is the same.

    Args:
        form: that the model is stored in.
        encoder: the model's own.
        named: `REPOSITORY` or `REPOSITORY@REVISION`; by default where the encoder came from.
        access: how the Hub is reached.

    Returns:
        For `full` what is known of where the encoder came from; else its repository, commit and
        fingerprint.

    Raises:
        InputError: there is no such form, the encoder is published nowhere, or it is another one
            than the one that is published.
    """
    if form not in FORMS:
        raise InputError(f"form {form!r} is not one of {', '.join(FORMS)}")
    known = getattr(encoder, "base", None)
    if form == "full" and named is not None:
        raise InputError("the form full stands on no other encoder: leave the base out")
    if form == "full":
        return known
    if form == "head" and adapters(encoder):
        raise InputError("the encoder has adapters, which the form head leaves out: take adapter")
    if form == "adapter" and not adapters(encoder):
        raise InputError("the encoder has no adapters: store the model as full or head")
    if named is not None:
        repository, _, revision = named.partition("@")
    elif known is not None:
        repository, revision = known.repository, known.revision
    else:
        raise InputError(
            f"the form {form} names the published encoder that it stands on, and this one came "
            "from no repository: name it (--base), or store the model as full"
        )
    published = fetch_encoder(repository, revision or None, access)
    sha256 = fingerprint(published)
    same = published.config == encoder.config
    if not same or sha256 != fingerprint(remove_lora(encoder)):
        raise InputError(
            f"the encoder is not that of {named or repository}: it was trained, cast or is another "
            "one: store the model as full"
        )
    assert published.base is not None, "what comes from the Hub knows its commit"
    return dataclasses.replace(published.base, sha256=sha256)


def fetch_encoder(repository: str, revision: str | None, access: Access) -> ESMC:
    """Load an encoder from the Hub, never from a folder of that name.

    Args:
        repository: the encoder's.
        revision: commit, tag or branch.
        access: how the Hub is reached.

    Returns:
        The encoder; it knows its commit.

    Raises:
        InputError: there is no such encoder.
    """
    folder = download(repository, revision, FILES, access)
    return ESMC.from_folder(folder, repository)


def load_base(stored: Stored, where: object, access: Access) -> ESMC | None:
    """Fetch the encoder that a stored model stands on, and check that it is the one.

    Args:
        stored: what the checkpoint says.
        where: the checkpoint, as an error names it.
        access: how the Hub is reached.

    Returns:
        The encoder, or None for a model that is stored in full.

    Raises:
        InputError: it cannot be had, or is another one.
    """
    base = stored.base
    if stored.form == "full" or base is None:
        return None
    _log.info("%s stands on %s at %s", where, base.repository, base.revision)
    try:
        encoder = fetch_encoder(base.repository, base.revision, access)
    except InputError as error:
        raise InputError(f"{where}: stands on an encoder that is not to be had: {error}") from error
    if encoder.config != stored.encoder or fingerprint(encoder) != base.sha256:
        raise InputError(
            f"{where}: stands on {base.repository} at {base.revision[:12]}, and what is there has "
            "other parameters than it was trained with: ask its author"
        )
    return encoder


def base_leaves(skeleton: PyTree, form: str, encoder: AbstractEncoder) -> Mapping[str, jax.Array]:
    """Give the leaves of a stored model that come from its encoder's own checkpoint.

    Args:
        skeleton: of the whole model.
        form: `head` or `adapter`.
        encoder: what the model stands on.

    Returns:
        Arrays by dotted name in the model.
    """
    leaves = named_leaves(encoder)
    return {
        name: leaves[name.removeprefix("encoder.").replace(".base.", ".")]
        for name in named_leaves(skeleton)
        if not is_stored(form, name)
    }
