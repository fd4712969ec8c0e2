"""From a protein sequence to the probability that it is soluble when expressed in E. coli."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.alphabet import AnyArray, is_residue
from eqxesm.checkpoint.record import About
from eqxesm.data.cleaning import Cleaning
from eqxesm.domain import Domain
from eqxesm.encoders import AbstractEncoder, Inputs, residue_mask
from eqxesm.errors import InputError
from eqxesm.forms import Calibration, Limits, ModelSections
from eqxesm.inference import Mapper, show_progress
from eqxesm.protein_model import ProteinModel
from eqxesm.sequences import as_sequence
from heads import AbstractHead
from heads.pooling import mean_pool


class SolubilityModel(ProteinModel):
    """An encoder and a head as one differentiable function, with the cleaning that comes before it.

    Calibration and limits are arrays, so that models that differ in them share one compiled
    function. They are not for training: filter parameters by `encoder` and `head`.
    """

    temperature: Float[AnyArray, ""]
    threshold: Float[AnyArray, ""]
    margin: Float[AnyArray, ""]
    domain: Domain | None

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
        super().__init__(encoder, head, cleaning, limits, about)
        if head.per_residue:
            raise InputError(f"head {head.config.type} has a logit for every residue, expected one for the protein")
        if head.outputs is not None:
            raise InputError(f"the head has an axis of {head.outputs} outputs, expected one logit. Leave out outputs.")
        if domain is not None and domain.config.d_model != encoder.d_model:
            raise InputError(f"the domain is of width {domain.config.d_model}, the encoder makes {encoder.d_model}")
        self.temperature = np.array(calibration.temperature)
        self.threshold = np.array(calibration.threshold)
        # An array in any case, so that models with and without one share a compiled function.
        self.margin = np.array(np.inf if calibration.margin is None else calibration.margin)
        self.domain = domain

    @property
    def calibration(self) -> Calibration:
        margin = float(self.margin)
        return Calibration(float(self.temperature), float(self.threshold), margin if np.isfinite(margin) else None)

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

    def probability(self, inputs: Inputs) -> Float[Array, ""]:
        """Calibrated probability that one protein is soluble."""
        return self._calibrate(self(inputs))

    def _calibrate(self, logit: Float[Array, ""]) -> Float[Array, ""]:
        temperature = jax.lax.stop_gradient(jnp.asarray(self.temperature, logit.dtype))
        return jax.nn.sigmoid(logit / temperature)

    def probability_and_distance(self, inputs: Inputs) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The probability, and the distance to the training proteins by `domain`; NaN without one."""
        features = self.features(inputs)
        probability = self._calibrate(self.score(features, inputs, None).mean())
        if self.domain is None:
            return probability, jnp.array(jnp.nan)
        pooled = mean_pool(features.astype(jnp.float32), residue_mask(inputs))
        return probability, self.domain.distance(pooled)

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
        return self.predict_tokens(self.tokenize_all(sequences), tokens_per_batch=tokens_per_batch, progress=progress)

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

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any], sections: ModelSections, about: About | None) -> "SolubilityModel":
        calibration = sections.calibration or Calibration()
        return cls(**parts, cleaning=sections.cleaning, calibration=calibration, limits=sections.limits, about=about)

    @classmethod
    def check_sections(cls, sections: ModelSections) -> None:
        if sections.targets is not None:
            names = ", ".join(target.name for target in sections.targets)
            raise InputError(
                f"holds a model of an assay ({names}). Load it with AssayModel; of the commands, predict, embed, "
                "score, export, info and push take it."
            )

    def sections(self) -> dict[str, Any]:
        return {"calibration": self.calibration, "domain": None if self.domain is None else self.domain.config}

    def without_fit(self) -> "SolubilityModel":
        # Its margin and domain will not be those of the trained model.
        calibration = dataclasses.replace(self.calibration, margin=None)
        return SolubilityModel(self.encoder, self.head, self.cleaning, calibration, self.limits, self.about)

    def with_parts(self, encoder: AbstractEncoder, head: AbstractHead, about: About) -> "SolubilityModel":
        return self.replace(encoder=encoder, head=head, calibration=self.calibration, about=about)

    def _parts(self) -> dict[str, Any]:
        parts = super()._parts()
        return parts if self.domain is None else {**parts, "domain": self.domain}
