"""No protein that a model is tested on is among those that it learned from, nor is one like it."""

import csv
import shutil
import sys

import numpy as np
import pytest
from paths import ROOT

from eqxesm.data.cleaning import Cleaning
from eqxesm.data.similarity import PROGRAM, nearest_identity_to_few

needs_mmseqs = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="MMseqs2 is not installed")
LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
MAX_IDENTITY = 0.3


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts that made the default model, as modules."""
    monkeypatch.syspath_prepend(ROOT / "model_cards" / "default")
    yield
    for name in ("corpus", "pool"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def tests(shared) -> dict[str, list[str]]:
    """The sequences of the three solubility tests, read with nothing of ours."""
    with (shared / "proteinea_solubility" / "solubility_testing.csv").open() as file:
        deepsol = [row["sequences"] for row in csv.DictReader(file)]
    with (shared / "esol" / "test.csv").open() as file:
        esol = [row["sequence"] for row in csv.DictReader(file)]
    entries = (shared / "plm_sol" / "test_dataset.fasta").read_text().split(">")[1:]
    return {"DeepSol": deepsol, "PLM_Sol": ["".join(each.split("\n")[1:]) for each in entries], "eSOL": esol}


@pytest.mark.slow
def test_no_labelled_protein_is_in_a_test(shared, tests):
    from pool import read_pool

    cleaning = Cleaning(strip_tags=True, strip_initial_met=True)
    pool = read_pool(shared, cleaning)
    for name, sequences in tests.items():
        assert len(sequences) > 700, name
        assert not set(pool.sequences) & set(sequences), name
        assert not set(pool.cleaned) & {cleaning.clean(each).sequence for each in sequences}, name


@pytest.mark.slow
@needs_mmseqs
def test_no_labelled_protein_is_like_one_of_a_test(shared, tests):
    from pool import read_pool

    cleaning = Cleaning(strip_tags=True)
    pool = read_pool(shared, cleaning)
    for name, sequences in tests.items():
        asked = [cleaning.clean(each).sequence for each in sequences[::8]]
        assert nearest_identity_to_few(pool.cleaned, asked).max() < MAX_IDENTITY, name


def made_up(seed: int, length: int = 120) -> str:
    return "".join(np.random.default_rng(seed).choice(LETTERS, length))


def mutant(sequence: str, share: float) -> str:
    rng = np.random.default_rng(1)
    changed = rng.random(len(sequence)) < share
    return "".join(rng.choice(LETTERS) if change else old for old, change in zip(sequence, changed, strict=True))


@pytest.mark.slow
@needs_mmseqs
def test_a_corpus_leaves_out_what_is_like_a_test():
    from corpus import make_corpus

    asked = [made_up(1), made_up(2)]
    others = [made_up(seed) for seed in range(100, 400)]
    near = [mutant(asked[1], 0.4), made_up(50, 40) + asked[0][20:100]]
    training, validation, left_out = make_corpus([*others, asked[0], *near, others[0], "MKV"], {"one": asked})
    assert sorted(training + validation) == sorted(others)
    assert len(validation) == 3
    assert left_out == {
        "not 30 to 2,046 residues, or there already": 2,
        "like a protein of a test split": 3,
        "the same as in the one test": 1,
        "like a validation protein": 0,
    }
