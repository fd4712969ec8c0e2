"""What `config.json` of a model says, and the three forms it is stored in.

`full` holds everything. `head` and `adapter` refer to a published encoder by repository, commit and
the fingerprint of its parameters, and hold what was trained on top of it.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import equinox as eqx
import jax
from annotated_types import Gt, Lt
from jaxtyping import PyTree
from pydantic import model_serializer

from eqxesm.alphabet import CONTEXT_RESIDUES
from eqxesm.checkpoint.folder import CONFIG, FILES, read_config
from eqxesm.checkpoint.leaves import fingerprint, named_leaves
from eqxesm.checkpoint.record import Base, Provenance
from eqxesm.config import configuration, parse
from eqxesm.data.cleaning import Cleaning
from eqxesm.domain import Domain, DomainConfig
from eqxesm.encoders import ENCODERS, AbstractEncoder, AbstractLanguageModel, EncoderConfig, is_published, load_encoder
from eqxesm.encoders.lora import ADAPTER_LEAVES, LoRAConfig, add_lora, find_adapters, remove_lora
from eqxesm.errors import InputError
from eqxesm.hub.download import Access, download
from eqxesm.targets import Targets
from heads import HEADS, HeadConfig
from heads.fields import Count, NotNegative, Positive, leave_out_unset

COVERED, GROUP = 0.9, 50

Form = Literal["full", "head", "adapter"]

_log = logging.getLogger(__name__)


@configuration
class Calibration:
    """How a logit becomes a probability with an interval, and a probability a decision.

    The logit is divided by the temperature before the sigmoid (Guo et al. 2017, arXiv:1706.04599).
    A protein of at least the threshold is called soluble. The interval reaches `margin` to both sides of
    the divided logit: in `COVERED` of the groups of `GROUP` held-out proteins of one source with similar logits,
    the share of soluble ones was within it.
    """

    temperature: Annotated[Positive, Lt(1e9)] = 1.0
    threshold: Annotated[float, Gt(0), Lt(1)] = 0.5
    margin: Annotated[NotNegative, Lt(100)] | None = None

    _serialiser = model_serializer(mode="wrap")(leave_out_unset)

    def interval(self, probability: float) -> tuple[float, float] | None:
        """The interval around a calibrated probability, if the model has one."""
        if self.margin is None:
            return None
        # A probability that is rounded to 0 or 1 is uncertain, too.
        probability = min(max(probability, 1e-7), 1 - 1e-7)
        odds, factor = probability / (1 - probability), math.exp(self.margin)
        return odds / (odds + factor), odds / (odds + 1 / factor)


@configuration
class Limits:
    """Lengths, in residues after cleaning, that a model accepts and was trained on.

    It accepts up to `max_residues`, and was trained on `min_residues` to `trained_residues` (by default
    the longest that it accepts).
    """

    max_residues: Count = CONTEXT_RESIDUES
    min_residues: Count = 1
    trained_residues: Count | None = None

    _serialiser = model_serializer(mode="wrap")(leave_out_unset)

    def __post_init__(self):
        if self.min_residues > (self.trained_residues or self.max_residues):
            longest = "max_residues" if self.trained_residues is None else "trained_residues"
            raise ValueError(f"min_residues {self.min_residues} is above {longest} {getattr(self, longest)}")
        if self.trained_residues is not None and self.trained_residues > self.max_residues:
            raise ValueError(f"trained_residues {self.trained_residues} is above max_residues {self.max_residues}")

    @classmethod
    def of(cls, longest: int, shortest: int) -> "Limits":
        """Limits of a model that was trained on proteins of these lengths."""
        accepted = max(longest, CONTEXT_RESIDUES)
        return cls(accepted, shortest, longest if longest < accepted else None)


@configuration
class ModelSections:
    """What `config.json` of a model says."""

    form: Form
    base: Base | None
    encoder: EncoderConfig
    adapter: LoRAConfig | None
    head: HeadConfig
    cleaning: Cleaning
    limits: Limits
    provenance: Provenance | None
    calibration: Calibration | None = None
    domain: DomainConfig | None = None
    targets: Targets | None = None

    @model_serializer(mode="wrap")
    def _write(self, serialise: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # So that earlier versions read a model without them.
        own = {name for name in ("calibration", "domain", "targets") if getattr(self, name) is None}
        return {key: value for key, value in serialise(self).items() if key not in own}

    def __post_init__(self):
        if (self.calibration is None) == (self.targets is None):
            given = "calibration and targets" if self.targets else "missing key 'calibration'"
            raise ValueError(f"{given}: a solubility model has calibration, a model of an assay has targets")
        if self.form != "full" and (self.base is None or self.base.sha256 is None):
            raise ValueError(f"form {self.form} needs a base with its sha256")
        if self.form != "full" and (self.adapter is None) != (self.form == "head"):
            raise ValueError(f"form {self.form} and its adapter do not go together")

    def make_skeleton(self) -> dict[str, Any]:
        """The parts of a model with shapes in the place of arrays."""

        def make() -> dict[str, Any]:
            key = jax.random.key(0)
            encoder = ENCODERS[type(self.encoder)](self.encoder, key=key)
            if self.adapter is not None:
                encoder = add_lora(encoder, self.adapter, key=key)
            parts = {"encoder": encoder, "head": HEADS[type(self.head)](self.head, key=key)}
            return parts if self.domain is None else {**parts, "domain": Domain.empty(self.domain)}

        return eqx.filter_eval_shape(make)


def is_model(values: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a model rather than of an encoder."""
    return bool({"head", "cleaning"} & set(values))


def read_sections(folder: Path) -> ModelSections:
    """Read `config.json` of a model."""
    values = {} if is_published(folder) else read_config(folder)
    if not is_model(values):
        raise InputError(f"{folder}: holds an encoder, not a model with a head. Use ESMC.from_pretrained and a head.")
    return parse(ModelSections, values, folder / CONFIG)


def is_stored(form: str, name: str) -> bool:
    """Whether a form holds a leaf, by its dotted name."""
    is_adapter = form == "adapter" and name.rpartition(".")[2] in ADAPTER_LEAVES
    return form == "full" or name.startswith(("head.", "domain.")) or is_adapter


def find_base(
    form: str, encoder: AbstractEncoder, known: Base | None, named: str | None, access: Access
) -> Base | None:
    """The published encoder that a model is stored on top of, checked to be the same.

    Args:
        known: where the encoder came from, as far as that is known.
        named: `REPOSITORY` or `REPOSITORY@REVISION`, in the place of `known`.

    Returns:
        For the form `full` what is known; otherwise with the fingerprint of its parameters.
    """
    if form not in get_args(Form):
        raise InputError(f"form is {form!r}, expected one of {', '.join(get_args(Form))}")
    if form == "full":
        if named is not None:
            raise InputError("form full stores the whole encoder. Leave out the base.")
        return known and dataclasses.replace(known, sha256=None)
    if form == "head" and find_adapters(encoder):
        raise InputError("the encoder has adapters, which form head leaves out. Use form adapter.")
    if form == "adapter" and not find_adapters(encoder):
        raise InputError("the encoder has no adapters. Use form full or head.")
    if named is not None:
        repository, _, revision = named.partition("@")
    elif known is not None:
        repository, revision = known.repository, known.revision
    else:
        raise InputError(f"form {form} needs a published encoder. Name its repository (--base), or use form full.")
    published = fetch_encoder(repository, revision or None, access)
    sha256 = fingerprint(published)
    same = published.config == encoder.config
    if not same or sha256 != fingerprint(remove_lora(encoder)):
        raise InputError(f"the encoder is not that of {named or repository}: trained, cast or another. Use form full.")
    assert published.about.base is not None, "what comes from the Hub knows its commit"
    return dataclasses.replace(published.about.base, sha256=sha256)


def fetch_encoder(repository: str, revision: str | None, access: Access) -> AbstractLanguageModel:
    """Load an encoder from the Hub, never from a folder of the same name."""
    return load_encoder(download(repository, revision, FILES, access), repository)


def load_base(sections: ModelSections, where: object, access: Access) -> AbstractLanguageModel | None:
    """Fetch the encoder that a stored model refers to, and check that it is the same."""
    base = sections.base
    if sections.form == "full" or base is None:
        return None
    _log.info("%s is based on %s at %s", where, base.repository, base.revision)
    try:
        encoder = fetch_encoder(base.repository, base.revision, access)
    except InputError as error:
        raise InputError(f"{where}: its encoder cannot be fetched: {error}") from error
    if encoder.config != sections.encoder or fingerprint(encoder) != base.sha256:
        commit = f"{base.repository} at {base.revision[:12]}"
        raise InputError(f"{where}: the parameters of its encoder, {commit}, are not those it was trained with")
    return encoder


def base_leaves(skeleton: PyTree, form: str, encoder: AbstractEncoder) -> Mapping[str, jax.Array]:
    """The leaves of a model that come from the checkpoint of its encoder, by dotted name."""
    leaves = named_leaves(encoder)
    return {
        name: leaves[name.removeprefix("encoder.").replace(".base.", ".")]
        for name in named_leaves(skeleton)
        if not is_stored(form, name)
    }
