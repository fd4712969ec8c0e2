"""From a protein sequence to the probability that it is soluble when expressed in E. coli."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.alphabet import Tokenizer
from eqxesm.checkpoint.folder import push_saved, save_folder
from eqxesm.checkpoint.format import load_leaves
from eqxesm.checkpoint.hub import USUAL, Access, fetch
from eqxesm.checkpoint.record import Record
from eqxesm.checkpoint.schema import CONFIG, TRAINED_ON, Provenance, describe
from eqxesm.checkpoint.tensors import SHARD_BYTES
from eqxesm.data.bucketing import TOKENS_PER_BATCH
from eqxesm.data.cleaning import Cleaned, Cleaning
from eqxesm.declarations import Calibration, Limits
from eqxesm.encoders import ENCODERS, AbstractEncoder, Inputs, cast, residue_mask
from eqxesm.encoders.layers import at_least_float32
from eqxesm.encoders.lora import describe_lora
from eqxesm.errors import InputError
from eqxesm.forms import base_leaves, find_base, is_stored, load_base, read_stored
from eqxesm.inference import map_proteins
from heads import HEADS, AbstractHead

DEFAULT = "default"
"""The name of the model that is shipped inside the package."""


class SolubilityModel(eqx.Module):
    """An encoder and a head as one differentiable function, with the cleaning that goes before it.

    Calling the model maps one protein's tokens or residue probabilities to a logit. `jax.vmap` and
    `jax.grad` apply as to any function; compile a function that takes the model as an argument with
    `eqx.filter_jit`, so that its weights are arguments and no constants. `predict` cleans sequences
    and maps them to probabilities.
    """

    encoder: AbstractEncoder
    head: AbstractHead
    cleaning: Cleaning = eqx.field(static=True, default=Cleaning())
    calibration: Calibration = eqx.field(static=True, default=Calibration())
    limits: Limits = eqx.field(static=True, default=Limits())
    provenance: Provenance | None = eqx.field(static=True, default=None)
    record: Record | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.head.config.d_model != self.encoder.d_model:
            raise ValueError(
                f"the head takes features {self.head.config.d_model} wide and the encoder makes "
                f"them {self.encoder.d_model} wide"
            )

    def __call__(
        self, inputs: Inputs, *, key: PRNGKeyArray | None = None, remat: bool = False
    ) -> Float[Array, ""]:
        """Score one protein.

        Args:
            inputs: tokens `[length]`, or probabilities `[length vocab]`.
            key: source of randomness for dropout in training; None drops nothing.
            remat: recompute the encoder's activations in the backward pass.

        Returns:
            The logit of being soluble, a scalar of at least float32.
        """
        features = self.encoder.features(inputs, remat=remat)
        # The head is small and its logit is ranked by, so it runs in at least float32.
        dtype = at_least_float32(jax.tree.leaves(eqx.filter(self.head, eqx.is_inexact_array))[0])
        return cast(self.head, dtype)(features.astype(dtype), residue_mask(inputs), key=key)

    def probability(self, inputs: Inputs) -> Float[Array, ""]:
        """Give the calibrated probability that one protein is soluble.

        Args:
            inputs: tokens `[length]`, or probabilities `[length vocab]`.

        Returns:
            The probability, a scalar.
        """
        return jax.nn.sigmoid(self(inputs) / self.calibration.temperature)

    def clean(self, sequence: str) -> Cleaned:
        """Clean a sequence as the model's training data were cleaned.

        Args:
            sequence: one protein in letters.

        Returns:
            The cleaned sequence, and notes on what was changed.

        Raises:
            InputError: it is empty, holds something that is no residue, or is longer than any
                protein the model was trained on.
        """
        cleaned = self.cleaning.clean(sequence)
        length, limits = len(cleaned.sequence), self.limits
        if length > limits.max_residues:
            raise InputError(
                f"{length} residues are more than the {limits.max_residues} of the longest protein "
                "the model was trained on: predict its domains"
            )
        if length < limits.min_residues:
            note = f"shorter than any protein the model was trained on ({limits.min_residues})"
            return Cleaned(cleaned.sequence, (*cleaned.notes, note))
        return cleaned

    def predict(
        self,
        sequences: Sequence[str],
        *,
        tokens_per_batch: int = TOKENS_PER_BATCH,
        progress: bool = False,
    ) -> Float[np.ndarray, " n"]:
        """Predict the solubility of proteins.

        Args:
            sequences: proteins in letters, cleaned here as the model declares.
            tokens_per_batch: most tokens in a batch; bounds the memory.
            progress: show a bar on standard error, if that is a terminal.

        Returns:
            Probabilities of being soluble, float32 `[n]`, in the order of the sequences.

        Raises:
            InputError: a sequence cannot be predicted; the message says which and why.
        """
        if isinstance(sequences, str):
            raise InputError("one sequence came where a list belongs: write predict([sequence])")
        tokens = []
        for number, sequence in enumerate(sequences, 1):
            if not isinstance(sequence, str):
                raise InputError(f"sequence {number}: {sequence!r} is no text: leave it out")
            try:
                tokens.append(self.tokenize(self.clean(sequence)))
            except InputError as error:
                raise InputError(f"sequence {number}: {error}") from error
        return self.predict_tokens(tokens, tokens_per_batch=tokens_per_batch, progress=progress)

    def predict_tokens(
        self,
        proteins: Sequence[Int[np.ndarray, " _"]],
        *,
        tokens_per_batch: int = TOKENS_PER_BATCH,
        progress: bool = False,
    ) -> Float[np.ndarray, " n"]:
        """Predict proteins that are cleaned and tokenized already; see `predict`.

        Args:
            proteins: tokens of each, as `tokenize` gives them.
            tokens_per_batch: most tokens in a batch; bounds the memory.
            progress: show a bar on standard error, if that is a terminal.

        Returns:
            Probabilities of being soluble, float32 `[n]`.

        Raises:
            InputError: the model gives something that is no number.
        """
        results = map_proteins(
            self.probability, proteins, tokens_per_batch=tokens_per_batch, progress=progress
        )
        probabilities = np.array(results, np.float32)
        if not np.isfinite(probabilities).all():
            raise InputError("the model gives no number: its weights are broken, fetch it anew")
        return probabilities

    def tokenize(self, cleaned: Cleaned) -> Int[np.ndarray, " length"]:
        """Encode a cleaned protein for the encoder.

        Args:
            cleaned: what `clean` gives.

        Returns:
            int32 tokens `[length]`.
        """
        return Tokenizer().encode(cleaned.sequence)

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        record: Mapping[str, Any] | None = None,
        pictures: Mapping[str, bytes] | None = None,
        *,
        form: str = "full",
        base: str | None = None,
        token: str | bool | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """Write the model as a checkpoint folder with its card, whole or not at all.

        Args:
            folder: where to; an earlier checkpoint there is replaced, but for what a person wrote
                into its card.
            record: how the model was trained and evaluated, as the card tells it; by default what
                it was loaded with, if it is still the same model.
            pictures: PNG files that the card shows, by name.
            form: `full`; `head`, which leaves out a frozen encoder that is published and names it;
                or `adapter`, which does so and holds the encoder's adapters.
            base: the published encoder, `REPOSITORY` or `REPOSITORY@REVISION`; by default the one
                that the model was made with.
            token: of a login at the Hub, should the published encoder want one.
            shard_bytes: largest weights file.

        Raises:
            InputError: the folder holds something else or cannot be written, or the form will not
                do for this model.
        """
        found = find_base(form, self.encoder, base, Access(token))
        provenance, adapter = provenance_of(self), describe_lora(self.encoder)
        sections = {
            "form": form,
            "base": found and dataclasses.asdict(found),
            "encoder": describe(ENCODERS, self.encoder.config),
            "adapter": adapter and dataclasses.asdict(adapter),
            "head": describe(HEADS, self.head.config),
            "cleaning": dataclasses.asdict(self.cleaning),
            "calibration": dataclasses.asdict(self.calibration),
            "limits": dataclasses.asdict(self.limits),
            "provenance": provenance and dataclasses.asdict(provenance),
        }
        save_folder(
            folder,
            self,
            sections,
            self.record,
            record,
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
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> str:
        """Publish the model with its card on the Hugging Face Hub, in one commit.

        Args:
            repository: where to, such as `someone/solubility-esmc-300m`; made if it is not there.
            form: `full`, `head` or `adapter`; see `save_pretrained`.
            base: the published encoder of the forms `head` and `adapter`.
            token: of a login that may write there; by default that of the environment (`HF_TOKEN`)
                or of `hf auth login`.
            private: whether a repository that is made is private; by default as its owner has set
                it, mostly public.
            revision: branch to commit to, made if it is not there; the main branch by default.
            create_pr: propose the commit in a pull request.
            commit_message: its first line.
            shard_bytes: largest weights file.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            InputError: the login is missing or lacks the rights, the Hub cannot be reached, or what
                `save_pretrained` refuses.
        """
        return push_saved(
            lambda folder: self.save_pretrained(
                folder, form=form, base=base, token=token, shard_bytes=shard_bytes
            ),
            repository,
            token=token,
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message,
        )

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike = DEFAULT,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
    ) -> "SolubilityModel":
        """Load a model, and the published encoder that it stands on, if it names one.

        Args:
            source: a folder, a repository on the Hugging Face Hub, or `"default"` for the model
                that is shipped inside the package.
            revision: commit, tag or branch of the repository.
            token: of a login at the Hub; by default that of the environment or of `hf auth login`.
            cache_dir: where the Hub's files are kept; by default below `HF_HOME`.
            local_files_only: ask no Hub, and take what is kept.

        Returns:
            The model, in the precision it was saved in.

        Raises:
            InputError: there is no such checkpoint, it is not exactly that of a model, or the
                encoder that it stands on is not to be had or has changed.
        """
        access = Access(token, cache_dir, local_files_only)
        folder = locate(source, revision, access)
        stored = read_stored(folder)
        encoder = load_base(stored, source, access)

        def make() -> SolubilityModel:
            return cls(
                *stored.make_parts(),
                stored.cleaning,
                stored.calibration,
                stored.limits,
                stored.provenance,
                stored.record,
            )

        try:
            skeleton = eqx.filter_eval_shape(make)
        except ValueError as error:
            raise InputError(f"{folder / CONFIG}: {error}") from error
        given = None if encoder is None else base_leaves(skeleton, stored.form, encoder)
        return load_leaves(folder, skeleton, given)


def provenance_of(model: SolubilityModel) -> Provenance | None:
    """Say where a model comes from.

    Args:
        model: the model.

    Returns:
        Its own provenance; or that of the published encoder it was built on, under whose terms it
        then stands; or None.
    """
    base = getattr(model.encoder, "provenance", None)
    if model.provenance is not None or base is None:
        return model.provenance
    return dataclasses.replace(base, source=f"{TRAINED_ON}{base.source}")


def locate(source: str | os.PathLike, revision: str | None = None, access: Access = USUAL) -> Path:
    """Find the folder of a model.

    Args:
        source: a folder, a repository on the Hugging Face Hub, or `"default"`.
        revision: commit, tag or branch of the repository.
        access: how the Hub is reached.

    Returns:
        The folder.

    Raises:
        InputError: there is none.
    """
    if source == DEFAULT and revision is not None:
        raise InputError(f"the default model has no revision {revision}: leave it out")
    if source == DEFAULT:
        return Path(str(files("eqxesm") / "default"))
    return fetch(source, revision, access)
