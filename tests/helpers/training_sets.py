"""Made-up proteins to train on, whose composition decides their label, and small models."""

import jax
import numpy as np

from eqxesm import ESMC, ESMCConfig, OneHot, SolubilityModel, Tokenizer
from eqxesm.training import Examples
from heads import CompositionMLP, CompositionMLPConfig, Convolution, ConvolutionConfig, MeanPoolMLP, MeanPoolMLPConfig

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")


def examples(count: int, seed: int, longest: int = 46) -> Examples:
    """Proteins rich in lysine (label 1) or in leucine (label 0)."""
    rng = np.random.default_rng(seed)
    proteins, labels = [], []
    for _ in range(count):
        label = int(rng.integers(2))
        weights = np.where(np.isin(LETTERS, ["K" if label else "L"]), 4.0, 1.0)
        letters = rng.choice(LETTERS, rng.integers(30, longest), p=weights / weights.sum())
        proteins.append(Tokenizer().encode("".join(letters)))
        labels.append(label)
    return Examples(proteins, np.array(labels))


def baseline(head: str = "composition") -> SolubilityModel:
    """One of the two baselines on one-hot features."""
    key = jax.random.key(0)
    heads = {
        "composition": lambda: CompositionMLP(CompositionMLPConfig(25), key=key),
        "convolution": lambda: Convolution(ConvolutionConfig(25, channels=16, kernel=3), key=key),
    }
    return SolubilityModel(OneHot(), heads[head]())


def tiny(*, lm_head: bool = False, layers: int = 2, dropout: float = 0.0) -> SolubilityModel:
    """A language model small enough to train in a test, with its usual head."""
    encoder = ESMC(ESMCConfig(layers, 32, 2, 48, lm_head=lm_head), key=jax.random.key(1))
    head = MeanPoolMLP(MeanPoolMLPConfig(32, (16,), dropout), key=jax.random.key(2))
    return SolubilityModel(encoder, head)
