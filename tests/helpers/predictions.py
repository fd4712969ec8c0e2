"""Predictions without files."""

from collections.abc import Iterable

from eqxesm import SolubilityModel
from eqxesm.data.protein import Protein
from eqxesm.predict import Prediction, Predictor
from eqxesm.records import Block, place_records


def predict_proteins(model: SolubilityModel, proteins: Iterable[Protein], where: str, **options) -> list[Prediction]:
    """Predict proteins as those of a file, all in one block."""
    block = Block(0, list(place_records([(where, proteins)])), more=False)
    return Predictor(model, **options)(block, lambda _: None)
