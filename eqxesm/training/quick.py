"""Recipes cut short, to see that they run."""

from dataclasses import replace
from typing import Any

from eqxesm.data.sources import Source
from eqxesm.training.assay_recipe import AssayRecipe

QUICK_PROTEINS, QUICK_RESIDUES, QUICK_TOKENS = 48, 64, 1024
"""Proteins of each source, the longest of them, and tokens in a batch, of a quick run."""

QUICK_ASSAY = 200
"""Proteins of a quick run on an assay: a tenth of them has to be measured on."""


def make_quick(recipe: Any) -> Any:
    """The recipe with one epoch of few and short proteins, to see that it runs. Its figures say nothing."""
    if isinstance(recipe, AssayRecipe):
        return _make_short(recipe, QUICK_ASSAY)
    data = replace(
        recipe.data,
        leakage="remove",
        max_residues=QUICK_RESIDUES,
        length_percentile=None,
        too_long="truncate",
        max_identity=None,
    )
    return _make_short(replace(recipe, data=data), QUICK_PROTEINS)


def _make_short(recipe: Any, proteins: int) -> Any:
    """A recipe of any kind with one epoch of few proteins."""
    return replace(
        recipe,
        name=f"{recipe.name}-quick",
        summary="A quick run, to see that the recipe works. Not for use.",
        data=_few_proteins(recipe.data, proteins),
        training=replace(recipe.training, epochs=1, tokens_per_batch=QUICK_TOKENS),
    )


def _few_proteins(data: Any, proteins: int) -> Any:
    def few(sources: tuple[Source, ...]) -> tuple[Source, ...]:
        return tuple(replace(source, proteins=proteins) for source in sources)

    return replace(data, training=few(data.training), validation=few(data.validation), test=few(data.test))
