"""Data for the recipes of the package: the real files where they are at hand, and made-up ones otherwise."""

import csv
import hashlib
import os
from pathlib import Path

import numpy as np
from paths import SHARED
from training_sets import LETTERS

from eqxesm.training.recipe import Recipe

PART = {"proteinea_solubility/solubility_training.csv": "proteinea_solubility/solubility_training_short_nc.csv"}
"""Files of which only a part is at hand."""


def make_proteins(path: str, count: int = 60) -> list[tuple[str, int]]:
    """Proteins whose composition decides their label, other ones for every path."""
    rng = np.random.default_rng(list(path.encode()))
    made = []
    for number in range(count):
        label = number % 2
        weights = np.where(np.isin(LETTERS, ["K" if label else "L"]), 4.0, 1.0)
        letters = rng.choice(LETTERS, int(rng.integers(31, 60)), p=weights / weights.sum())
        made.append(("M" + "".join(letters), label))
    return made


def write_proteins(path: Path, made: list[tuple[str, int]]) -> None:
    if path.suffix == ".fasta":
        path.write_text("".join(f">p{n} A-{label}\n{protein}\n" for n, (protein, label) in enumerate(made)))
        return
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("sequences", "labels"), *made])


def make_data(recipe: Recipe, folder: Path, real: bool) -> list[str]:
    """Put the files of a recipe into a folder. Returns settings for those whose hash is another."""
    settings = []
    for split in ("training", "validation", "test"):
        for number, source in enumerate(getattr(recipe.data, split)):
            path, found = folder / source.path, SHARED / PART.get(source.path, source.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            if real and found.exists():
                path.exists() or os.symlink(found, path)
                continue
            write_proteins(path, make_proteins(source.path))
            if source.sha256 is not None:
                settings.append(f"data.{split}.{number}.sha256={hashlib.sha256(path.read_bytes()).hexdigest()}")
    return settings
