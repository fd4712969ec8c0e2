"""Recipes of pretraining: which encoder learns from which proteins, and how."""

import jax

from eqxesm.checkpoint.record import About, Provenance, trained_on, with_about
from eqxesm.config import configuration
from eqxesm.data.corpus import CorpusConfig
from eqxesm.encoders import AbstractLanguageModel
from eqxesm.errors import InputError
from eqxesm.training.config import PretrainConfig
from eqxesm.training.recipe import BaseRecipe, LanguageModel, Pretrained, build_encoder


@configuration
class PretrainRecipe(BaseRecipe):
    """Which encoder learns from which proteins, and how.

    `license` is that of the new weights; a pretrained encoder brings its own terms.
    """

    data: CorpusConfig
    encoder: LanguageModel
    training: PretrainConfig = PretrainConfig()
    name: str = ""
    summary: str = ""
    license: str | None = None

    def check(self) -> None:
        if not isinstance(self.encoder, Pretrained) and not self.encoder.lm_head:
            raise InputError("encoder.lm_head is false, but pretraining needs the head")


def build_language_model(recipe: PretrainRecipe) -> AbstractLanguageModel:
    """Make the encoder that a recipe starts from."""
    encoder = build_encoder(recipe.encoder, jax.random.key(recipe.training.seed))
    if not isinstance(recipe.encoder, Pretrained):
        return with_about(encoder, About(Provenance(f"eqxesm pretrain, recipe {recipe.name}", license=recipe.license)))
    if encoder.lm_head is None:
        raise InputError("encoder.pretrained has no language-model head, which pretraining needs")
    origin = encoder.about.provenance
    if origin is not None and recipe.license is not None:
        terms = origin.license or "not recorded"
        raise InputError(f"license is given, but the encoder brings its own terms ({terms}). Leave it out.")
    return with_about(encoder, trained_on(encoder.about))
