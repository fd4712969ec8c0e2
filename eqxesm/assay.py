"""From a protein sequence to what an assay measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from eqxesm.alphabet import is_residue
from eqxesm.checkpoint.record import About
from eqxesm.data.cleaning import Cleaning
from eqxesm.encoders import AbstractEncoder, Inputs
from eqxesm.errors import InputError
from eqxesm.forms import Limits, ModelSections
from eqxesm.inference import Mapper, map_proteins
from eqxesm.protein_model import ProteinModel
from eqxesm.targets import Target, check_targets, split_outputs
from heads import AbstractHead

Quantities = dict[str, Float[Array, "..."]]
"""What is predicted of a protein, by the name of the target; see `Target.quantity`."""


class AssayModel(ProteinModel):
    """An encoder and a head that predict one or several targets of any kind, as one differentiable function."""

    targets: tuple[Target, ...] = eqx.field(static=True)

    def __init__(
        self,
        encoder: AbstractEncoder,
        head: AbstractHead,
        targets: Sequence[Target],
        cleaning: Cleaning = Cleaning(),
        limits: Limits = Limits(),
        about: About | None = None,
    ):
        """Join an encoder and a head, whose outputs are those of the targets in their order."""
        super().__init__(encoder, head, cleaning, limits, about)
        try:
            check_targets(targets)
        except ValueError as error:
            raise InputError(str(error)) from error
        wanted = sum(target.outputs for target in targets)
        if head.outputs != wanted:
            raise InputError(f"the head has {head.outputs} outputs, the targets need {wanted}")
        if head.per_residue != (targets[0].kind == "residues"):
            whole = "every residue" if head.per_residue else "whole proteins"
            raise InputError(f"a head for {whole} does not fit a target of kind {targets[0].kind}")
        self.targets = tuple(targets)

    def replace(
        self,
        *,
        targets: Sequence[Target] | None = None,
        cleaning: Cleaning | None = None,
        limits: Limits | None = None,
        about: About | None = None,
    ) -> "AssayModel":
        """The model with other settings."""
        return AssayModel(
            self.encoder,
            self.head,
            targets or self.targets,
            cleaning or self.cleaning,
            limits or self.limits,
            about or self.about,
        )

    def __call__(
        self, inputs: Inputs, *, key: PRNGKeyArray | None = None, remat: bool = False
    ) -> Float[Array, "*outputs"]:
        """Outputs of the head for one protein, tokens or a soft sequence; of residues, for every position.

        Dropout is on where `key` is given. `remat` saves memory in the backward pass.
        """
        return self.member_logits(inputs, key=key, remat=remat).mean(axis=0)

    def quantities(self, inputs: Inputs) -> Quantities:
        """What is predicted of one protein, differentiable: see `Target`. Of residues, those of every position."""
        return {target.name: target.quantity(own) for target, own in split_outputs(self.targets, self(inputs))}

    def predict(
        self, sequences: Iterable[Any], *, tokens_per_batch: int | None = None, progress: bool = False
    ) -> dict[str, Any]:
        """What is predicted of proteins, by the name of the target, in input order.

        Returns:
            For every target of kind `number` and `fraction` float32 `[n]`, in its unit; `binary` the probability of the
            second class, float32 `[n]`; `classes` and `ordinal` probabilities, float32 `[n classes]`; `residues` a list
            of `[length classes]`, without `<cls>` and `<eos>`. `Target.classes` names the classes in order.
        """
        tokens = self.tokenize_all(sequences)
        found = map_proteins(self.quantities, tokens, tokens_per_batch=tokens_per_batch, progress=progress)
        return self._collect(found, tokens)

    def predict_with(self, proteins: Sequence[Int[np.ndarray, " _"]], mapper: Mapper, advance: Any, more: bool) -> Any:
        """As `predict`, of proteins that are tokenized, by a mapper of `quantities`."""
        return self._collect(mapper(proteins, advance, more=more), proteins)

    def _collect(self, found: Sequence[Any], tokens: Sequence[Int[np.ndarray, " _"]]) -> dict[str, Any]:
        for number, each in enumerate(tokens, 1):
            if not is_residue(each).any():
                raise InputError(f"protein {number} has no residue")
        collected: dict[str, Any] = {}
        for target in self.targets:
            own = [each[target.name] for each in found]
            if target.kind == "residues":
                # Padding, <cls> and <eos> are left out.
                own = [rows[: len(each)][np.asarray(is_residue(each))] for rows, each in zip(own, tokens, strict=True)]
            if not all(np.isfinite(each).all() for each in own):
                raise InputError("the model gives NaN: its weights are damaged. Fetch it again.")
            collected[target.name] = own if target.kind == "residues" else np.array(own, np.float32)
        return collected

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any], sections: ModelSections, about: About | None) -> "AssayModel":
        return cls(
            **parts, targets=sections.targets or (), cleaning=sections.cleaning, limits=sections.limits, about=about
        )

    @classmethod
    def check_sections(cls, sections: ModelSections) -> None:
        if sections.targets is None:
            raise InputError("predicts solubility. Use SolubilityModel.from_pretrained.")

    def sections(self) -> dict[str, Any]:
        return {"targets": self.targets}

    def without_fit(self) -> "AssayModel":
        return self.replace(targets=[replace(target, temperature=1.0, margin=None) for target in self.targets])

    def with_parts(self, encoder: AbstractEncoder, head: AbstractHead, about: About) -> "AssayModel":
        return AssayModel(encoder, head, self.targets, self.cleaning, self.limits, about)
