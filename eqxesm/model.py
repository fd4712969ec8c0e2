"""From a protein sequence to the probability that it is soluble when expressed in E. coli."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.alphabet import AnyArray, Tokenizer, is_residue
from eqxesm.checkpoint.folder import CONFIG, read_config, save_checkpoint
from eqxesm.checkpoint.leaves import load_leaves, named_leaves
from eqxesm.checkpoint.record import About, read_record, trained_on
from eqxesm.checkpoint.tensors import SHARD_BYTES
from eqxesm.config import describe
from eqxesm.data.cleaning import Cleaned, Cleaning
from eqxesm.domain import Domain
from eqxesm.encoders import AbstractEncoder, Inputs, cast, chain_ids, is_published, load_encoder, residue_mask
from eqxesm.encoders.base import in_vocabulary
from eqxesm.encoders.lora import describe_lora
from eqxesm.encoders.rows import Features
from eqxesm.errors import InputError, at
from eqxesm.forms import (
    Calibration,
    Limits,
    ModelSections,
    base_leaves,
    find_base,
    is_model,
    is_stored,
    load_base,
    read_sections,
)
from eqxesm.hub.download import Access, find_checkpoint, repository_of
from eqxesm.hub.upload import push_saved
from eqxesm.inference import Mapper, show_progress
from eqxesm.sequences import as_sequence, as_text, is_missing
from heads import AbstractHead
from heads.pooling import at_least_float32, mean_pool

DEFAULT = "default"
"""Name of the model that is shipped inside the package."""


class SolubilityModel(eqx.Module):
    """An encoder and a head as one differentiable function, with the cleaning that comes before it.

    Calibration and limits are arrays, so that models that differ in them share one compiled
    function. They are not for training: filter parameters by `encoder` and `head`.
    """

    encoder: AbstractEncoder
    head: AbstractHead
    temperature: Float[AnyArray, ""]
    threshold: Float[AnyArray, ""]
    margin: Float[AnyArray, ""]
    max_residues: Int[AnyArray, ""]
    min_residues: Int[AnyArray, ""]
    trained_residues: Int[AnyArray, ""]
    cleaning: Cleaning = eqx.field(static=True)
    domain: Domain | None
    about: About

    def __init__(
        self,
        encoder: AbstractEncoder,
        head: AbstractHead,
        cleaning: Cleaning = Cleaning(),
        calibration: Calibration = Calibration(),
        limits: Limits = Limits(),
        about: About | None = None,
        domain: Domain | None = None,
    ):
        """Join an encoder and a head. By default provenance is that of the encoder."""
        if head.config.d_model != encoder.d_model:
            widths = f"{head.config.d_model}, the encoder makes {encoder.d_model}"
            raise InputError(f"the head takes features of width {widths}")
        if domain is not None and domain.config.d_model != encoder.d_model:
            raise InputError(f"the domain is of width {domain.config.d_model}, the encoder makes {encoder.d_model}")
        self.encoder = encoder
        self.head = head
        self.temperature = np.array(calibration.temperature)
        self.threshold = np.array(calibration.threshold)
        # An array in any case, so that models with and without one share a compiled function.
        self.margin = np.array(np.inf if calibration.margin is None else calibration.margin)
        self.max_residues = np.array(limits.max_residues)
        self.min_residues = np.array(limits.min_residues)
        self.trained_residues = np.array(limits.trained_residues or limits.max_residues)
        self.cleaning = cleaning
        self.domain = domain
        self.about = about or trained_on(getattr(encoder, "about", About()))

    @property
    def calibration(self) -> Calibration:
        margin = float(self.margin)
        return Calibration(float(self.temperature), float(self.threshold), margin if np.isfinite(margin) else None)

    @property
    def limits(self) -> Limits:
        longest, trained = int(self.max_residues), int(self.trained_residues)
        return Limits(longest, int(self.min_residues), trained if trained < longest else None)

    def replace(
        self,
        *,
        encoder: AbstractEncoder | None = None,
        head: AbstractHead | None = None,
        cleaning: Cleaning | None = None,
        calibration: Calibration | None = None,
        limits: Limits | None = None,
        about: About | None = None,
        domain: Domain | None = None,
    ) -> "SolubilityModel":
        """The model with other parts or settings.

        A new part makes a margin void, and a new encoder the domain: both are dropped unless they are given.
        """
        same = encoder is None and head is None
        known = self.calibration if same else dataclasses.replace(self.calibration, margin=None)
        return SolubilityModel(
            encoder or self.encoder,
            head or self.head,
            cleaning or self.cleaning,
            calibration or known,
            limits or self.limits,
            about or self.about,
            domain or (self.domain if encoder is None else None),
        )

    def __call__(self, inputs: Inputs, *, key: PRNGKeyArray | None = None, remat: bool = False) -> Float[Array, ""]:
        """Logit of one protein, given as tokens or as a soft sequence. Use `jax.vmap` for batches.

        Dropout is on where `key` is given. `remat` saves memory in the backward pass.
        """
        return self.member_logits(inputs, key=key, remat=remat).mean()

    def member_logits(
        self, inputs: Inputs, *, key: PRNGKeyArray | None = None, remat: bool = False
    ) -> Float[Array, " members"]:
        """Logits of one protein by every member of the head; one, if the head is no ensemble."""
        return self._score(self.features(inputs, remat=remat), inputs, key)

    def features(self, inputs: Inputs, *, remat: bool = False) -> Features:
        """Features by the encoder. Chains, each from its `<cls>`, do not see each other."""
        return self.encoder.features(inputs, chain_ids(inputs), remat=remat)

    def _score(self, features: Features, inputs: Inputs, key: PRNGKeyArray | None) -> Float[Array, " members"]:
        # The head is small and proteins are ranked by its logit, so it runs in at least float32.
        dtype = at_least_float32(jax.tree.leaves(eqx.filter(self.head, eqx.is_inexact_array))[0])
        logits = cast(self.head, dtype).logits(features.astype(dtype), residue_mask(inputs), key=key)
        # A compiled function cannot refuse bad inputs: they make NaN of the logit and of its gradient.
        doubt = jnp.where(in_vocabulary(inputs).all(), 0, jnp.nan).astype(logits.dtype)
        return logits + (doubt * inputs.sum().astype(logits.dtype))[None]

    def probability(self, inputs: Inputs) -> Float[Array, ""]:
        """Calibrated probability that one protein is soluble."""
        return self._calibrate(self(inputs))

    def _calibrate(self, logit: Float[Array, ""]) -> Float[Array, ""]:
        temperature = jax.lax.stop_gradient(jnp.asarray(self.temperature, logit.dtype))
        return jax.nn.sigmoid(logit / temperature)

    def probability_and_distance(self, inputs: Inputs) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The probability, and the distance to the training proteins by `domain`; NaN without one."""
        features = self.features(inputs)
        probability = self._calibrate(self._score(features, inputs, None).mean())
        if self.domain is None:
            return probability, jnp.array(jnp.nan)
        pooled = mean_pool(features.astype(jnp.float32), residue_mask(inputs))
        return probability, self.domain.distance(pooled)

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

    def predict(
        self, sequences: Iterable[Any], *, tokens_per_batch: int | None = None, progress: bool = False
    ) -> Float[np.ndarray, " n"]:
        """Calibrated probabilities of proteins, float32, in input order.

        Args:
            sequences: one-letter sequences as strings or Biopython's `Seq`, in a list, array, Series
                or the like. They are cleaned here. One that cannot be used refuses all.
            tokens_per_batch: bounds the memory; see `map_proteins`.
            progress: show a bar on standard error, if that is a terminal.
        """
        tokens = []
        for number, sequence in enumerate(as_sequence(sequences, "sequences"), 1):
            text = as_text(sequence, f"sequence {number}")
            with at(f"sequence {number}"):
                if is_missing(text):
                    raise InputError(f"{text!r} is a missing value. Leave it out.")
                tokens.append(self.tokenize(self.clean(text)))
        return self.predict_tokens(tokens, tokens_per_batch=tokens_per_batch, progress=progress)

    def predict_tokens(
        self, proteins: Sequence[Int[np.ndarray, " _"]], *, tokens_per_batch: int | None = None, progress: bool = False
    ) -> Float[np.ndarray, " n"]:
        """Probabilities of proteins that are cleaned and tokenized already; see `predict`."""
        proteins = as_sequence(proteins, "token arrays")
        with show_progress(lambda: len(proteins), " proteins", progress) as bar:
            mapper = Mapper(self.probability_and_distance, tokens_per_batch)
            return self.predict_with_distance(proteins, mapper, bar.update)[0]

    def predict_with_distance(
        self,
        proteins: Sequence[Int[np.ndarray, " _"]],
        mapper: Mapper,
        advance: Callable[[int], Any],
        *,
        more: bool = False,
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Probabilities, and distances to the training proteins, by a mapper of `probability_and_distance`."""
        results = mapper(proteins, advance, more=more)
        for number, tokens in enumerate(proteins, 1):
            if not is_residue(tokens).any():
                raise InputError(f"protein {number} has no residue")
        probabilities, distances = np.array(results, np.float32).reshape(-1, 2).T
        damaged = not np.isfinite(probabilities).all() or (self.domain is not None and np.isnan(distances).any())
        if damaged:
            raise InputError("the model gives NaN: its weights are damaged. Fetch it again.")
        return probabilities, distances

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
            form,  # ty: ignore[invalid-argument-type]
            found,
            self.encoder.config,
            describe_lora(self.encoder),
            self.head.config,
            self.cleaning,
            self.calibration,
            self.limits,
            about.provenance,
            None if self.domain is None else self.domain.config,
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
        cls,
        source: str | os.PathLike = DEFAULT,
        *,
        revision: str | None = None,
        dtype: DTypeLike | None = None,
        **access: Any,
    ) -> "SolubilityModel":
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
        encoder = load_base(sections, source, hub)
        with at(folder / CONFIG):
            skeleton = sections.make_skeleton()
            cls(**skeleton)
        given = None if encoder is None else base_leaves(skeleton, sections.form, encoder)
        parts = load_leaves(folder, skeleton, given, dtype=dtype, part="encoder.")
        about = About(sections.provenance, sections.base, read_record(folder))
        return cls(
            **parts, cleaning=sections.cleaning, calibration=sections.calibration, limits=sections.limits, about=about
        )

    def _parts(self) -> dict[str, Any]:
        """What is stored as arrays of its own."""
        parts = {"encoder": self.encoder, "head": self.head}
        return parts if self.domain is None else {**parts, "domain": self.domain}

    def __repr__(self) -> str:
        count = sum(leaf.size for leaf in named_leaves([self.encoder, self.head]).values())
        names = f"{self.encoder.config.type} encoder, {self.head.config.type} head"
        return f"SolubilityModel({names}, {count:,} parameters)"


def locate_model(source: str | os.PathLike, revision: str | None = None, access: Access = Access()) -> Path:
    """Folder of a model: see `SolubilityModel.from_pretrained`."""
    if source == DEFAULT and revision is not None:
        raise InputError(f"the default model has no revision. Leave out {revision}.")
    if source == DEFAULT:
        return Path(str(files("eqxesm") / "default"))
    return find_checkpoint(source, revision, access)


def load_any(
    source: str | os.PathLike, revision: str | None = None, dtype: DTypeLike | None = None
) -> SolubilityModel | AbstractEncoder:
    """Load a checkpoint of either kind, its encoder cast to `dtype`."""
    folder = locate_model(source, revision)
    if not is_published(folder) and is_model(read_config(folder)):
        return SolubilityModel.from_pretrained(source, revision=revision, dtype=dtype)
    return load_encoder(folder, repository_of(source, folder), dtype)
