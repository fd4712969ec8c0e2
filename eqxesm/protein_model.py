"""What every model of proteins has: an encoder and a head as one function, cleaning, limits, loading and saving."""

import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Int, PRNGKeyArray

from eqxesm.alphabet import AnyArray, Tokenizer
from eqxesm.checkpoint.folder import CONFIG, save_checkpoint
from eqxesm.checkpoint.leaves import load_leaves, named_leaves
from eqxesm.checkpoint.record import About, read_record, trained_on
from eqxesm.checkpoint.tensors import SHARD_BYTES
from eqxesm.config import describe
from eqxesm.data.cleaning import Cleaned, Cleaning
from eqxesm.encoders import AbstractEncoder, Inputs, cast, chain_ids, residue_mask
from eqxesm.encoders.base import in_vocabulary
from eqxesm.encoders.lora import describe_lora
from eqxesm.encoders.rows import Features
from eqxesm.errors import InputError, at
from eqxesm.forms import Limits, ModelSections, base_leaves, find_base, is_stored, load_base, read_sections
from eqxesm.hub.download import Access, find_checkpoint
from eqxesm.hub.upload import push_saved
from eqxesm.sequences import as_sequence, as_text, is_missing
from heads import AbstractHead
from heads.base import Logits
from heads.pooling import at_least_float32

DEFAULT = "default"
"""Name of the model that is shipped inside the package."""

Self = TypeVar("Self", bound="ProteinModel")


class ProteinModel(eqx.Module):
    """An encoder and a head as one differentiable function, with the cleaning that comes before it.

    Limits are arrays, so that models that differ in them share one compiled function. They are not for training: filter
    parameters by `encoder` and `head`.
    """

    encoder: AbstractEncoder
    head: AbstractHead
    max_residues: Int[AnyArray, ""]
    min_residues: Int[AnyArray, ""]
    trained_residues: Int[AnyArray, ""]
    cleaning: Cleaning = eqx.field(static=True)
    about: About

    def __init__(
        self, encoder: AbstractEncoder, head: AbstractHead, cleaning: Cleaning, limits: Limits, about: About | None
    ):
        if head.config.d_model != encoder.d_model:
            widths = f"{head.config.d_model}, the encoder makes {encoder.d_model}"
            raise InputError(f"the head takes features of width {widths}")
        self.encoder = encoder
        self.head = head
        self.max_residues = np.array(limits.max_residues)
        self.min_residues = np.array(limits.min_residues)
        self.trained_residues = np.array(limits.trained_residues or limits.max_residues)
        self.cleaning = cleaning
        self.about = about or trained_on(getattr(encoder, "about", About()))

    @classmethod
    @abstractmethod
    def from_parts(cls: type[Self], parts: Mapping[str, Any], sections: ModelSections, about: About | None) -> Self:
        """Make a model of what is stored as arrays and what `config.json` says."""

    @abstractmethod
    def sections(self) -> dict[str, Any]:
        """What `config.json` says of this kind of model alone."""

    @abstractmethod
    def without_fit(self: Self) -> Self:
        """The model without what is fitted to held-out proteins after training."""

    @abstractmethod
    def with_parts(self: Self, encoder: AbstractEncoder, head: AbstractHead, about: About) -> Self:
        """The model with a trained encoder and head, and what is known of them."""

    @property
    def limits(self) -> Limits:
        longest, trained = int(self.max_residues), int(self.trained_residues)
        return Limits(longest, int(self.min_residues), trained if trained < longest else None)

    def member_logits(self, inputs: Inputs, *, key: PRNGKeyArray | None = None, remat: bool = False) -> Logits:
        """Logits of one protein by every member of the head; one, if the head is no ensemble.

        Dropout is on where `key` is given. `remat` saves memory in the backward pass.
        """
        return self.score(self.features(inputs, remat=remat), inputs, key)

    def features(self, inputs: Inputs, *, remat: bool = False) -> Features:
        """Features by the encoder. Chains, each from its `<cls>`, do not see each other."""
        return self.encoder.features(inputs, chain_ids(inputs), remat=remat)

    def score(self, features: Features, inputs: Inputs, key: PRNGKeyArray | None) -> Logits:
        """Logits of members, of the features of a protein and what they were made of."""
        # The head is small and proteins are ranked by its logit, so it runs in at least float32.
        dtype = at_least_float32(jax.tree.leaves(eqx.filter(self.head, eqx.is_inexact_array))[0])
        logits = cast(self.head, dtype).logits(features.astype(dtype), residue_mask(inputs), key=key)
        # A compiled function cannot refuse bad inputs: they make NaN of the logit and of its gradient.
        doubt = jnp.where(in_vocabulary(inputs).all(), 0, jnp.nan).astype(logits.dtype)
        return logits + doubt * inputs.sum().astype(logits.dtype)

    def clean(self, sequence: str) -> Cleaned:
        """Clean a sequence as the training data were. Proteins over the length limit are refused.

        Chains of a complex are joined with `|`. Each is read by itself, and their residues are pooled together.
        """
        return self.judge(self.cleaning.clean_chains(as_text(sequence, "sequence")))

    def judge(self, cleaned: Cleaned) -> Cleaned:
        """Refuse a protein over the length limit, and note what is unlike those of training: length, several chains."""
        # Not `limits`, which checks them: this is called for every protein.
        length, most, least = len(cleaned.sequence), int(self.max_residues), int(self.min_residues)
        trained = int(self.trained_residues)
        if len(cleaned.chains) > 1:
            cleaned = cleaned.add("the model was trained on single chains")
        if length > most:
            raise InputError(
                f"{length:,} residues; this model accepts at most {most:,}. Split it into domains; predict also reads "
                "it in windows (--windows)."
            )
        if length < least:
            note = f"shorter than any protein the model was trained on ({least:,} residues)"
        elif length > trained:
            note = f"longer than any protein the model was trained on ({trained:,} residues)"
        else:
            return cleaned
        return cleaned.add(note)

    def tokenize(self, cleaned: Cleaned) -> Int[np.ndarray, " length"]:
        """Tokens of a protein that `clean` has cleaned."""
        if not isinstance(cleaned, Cleaned):
            raise InputError(f"expected what clean returns, got {type(cleaned).__name__}")
        return Tokenizer().encode_apart(cleaned.sequence)

    def tokenize_all(self, sequences: Iterable[Any]) -> list[Int[np.ndarray, " _"]]:
        """Clean and tokenize sequences, given as strings or Biopython's `Seq`. One that cannot be used refuses all."""
        tokens = []
        for number, sequence in enumerate(as_sequence(sequences, "sequences"), 1):
            text = as_text(sequence, f"sequence {number}")
            with at(f"sequence {number}"):
                if is_missing(text):
                    raise InputError(f"{text!r} is a missing value. Leave it out.")
                tokens.append(self.tokenize(self.clean(text)))
        return tokens

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        facts: Mapping[str, Any] | None = None,
        pictures: Mapping[str, bytes] | None = None,
        *,
        form: str = "full",
        base: str | None = None,
        about: About | None = None,
        token: str | bool | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """Write the model as a checkpoint folder with its card, whole or not at all.

        Args:
            facts: a new record for the card, with its pictures. By default the record that the
                model was loaded with, if the model is still the same.
            form: `full`; or `head` or `adapter`, which refer to the published encoder.
            base: that encoder, `REPOSITORY[@REVISION]`; by default the one it was loaded from.
            about: provenance and record; by default those of the model (see `About`).
            token: Hub token, to fetch the base.
            shard_bytes: largest weights file.
        """
        about = about or self.about
        found = find_base(form, self.encoder, about.base, base, Access(token))
        sections = ModelSections(
            form=form,  # ty: ignore[invalid-argument-type]
            base=found,
            encoder=self.encoder.config,
            adapter=describe_lora(self.encoder),
            head=self.head.config,
            cleaning=self.cleaning,
            limits=self.limits,
            provenance=about.provenance,
            **self.sections(),
        )
        save_checkpoint(
            folder,
            self._parts(),
            describe(sections),
            about.record,
            facts,
            pictures,
            shard_bytes=shard_bytes,
            is_stored=lambda name: is_stored(form, name),
        )

    def push_to_hub(
        self,
        repository: str,
        *,
        form: str = "full",
        base: str | None = None,
        token: str | bool | None = None,
        shard_bytes: int = SHARD_BYTES,
        **options: Any,
    ) -> str:
        """Publish the model with its card on the Hugging Face Hub, in one commit.

        Args:
            repository: `owner/name`. It is made if it does not exist.
            form, base, shard_bytes: see `save_pretrained`.
            token: Hub token; by default that of the environment or of `hf auth login`.
            private: make the repository private. A public one is refused.
            revision: branch to commit to, made if it does not exist.
            create_pr: open a pull request.
            commit_message: message of the commit.

        Returns:
            URL of the commit or the pull request. A person's words in the card that is there stay.
        """

        def save(folder: Path) -> None:
            self.save_pretrained(folder, form=form, base=base, token=token, shard_bytes=shard_bytes)

        return push_saved(save, repository, token=token, **options)

    @classmethod
    def from_pretrained(
        cls: type[Self],
        source: str | os.PathLike = DEFAULT,
        *,
        revision: str | None = None,
        dtype: DTypeLike | None = None,
        **access: Any,
    ) -> Self:
        """Load a model, and the published encoder that it refers to, if it does.

        Args:
            source: a folder, a repository of the Hugging Face Hub, or `"default"`, the model inside
                the package.
            dtype: precision to cast the encoder to, such as `"bfloat16"`; the head stays as it is.
            revision, token, cache_dir, local_files_only: see `ESMC.from_pretrained`.
        """
        hub = Access(**access)
        folder = locate_model(source, revision, hub)
        sections = read_sections(folder)
        with at(folder):
            cls.check_sections(sections)
        encoder = load_base(sections, source, hub)
        with at(folder / CONFIG):
            skeleton = sections.make_skeleton()
            cls.from_parts(skeleton, sections, None)
        given = None if encoder is None else base_leaves(skeleton, sections.form, encoder)
        parts = load_leaves(folder, skeleton, given, dtype=dtype, part="encoder.")
        return cls.from_parts(parts, sections, About(sections.provenance, sections.base, read_record(folder)))

    @classmethod
    @abstractmethod
    def check_sections(cls, sections: ModelSections) -> None:
        """Refuse a checkpoint that holds another kind of model."""

    def _parts(self) -> dict[str, Any]:
        """What is stored as arrays of its own."""
        return {"encoder": self.encoder, "head": self.head}

    def __repr__(self) -> str:
        count = sum(leaf.size for leaf in named_leaves([self.encoder, self.head]).values())
        names = f"{self.encoder.config.type} encoder, {self.head.config.type} head"
        return f"{type(self).__name__}({names}, {count:,} parameters)"


def locate_model(source: str | os.PathLike, revision: str | None = None, access: Access = Access()) -> Path:
    """Folder of a model: see `ProteinModel.from_pretrained`."""
    if source == DEFAULT and revision is not None:
        raise InputError(f"the default model has no revision. Leave out {revision}.")
    if source == DEFAULT:
        return Path(str(files("eqxesm") / "default"))
    return find_checkpoint(source, revision, access)
