"""Torch originals with random weights in which every tensor matters."""

import numpy as np
import torch

TINY = {"layers": 3, "d_model": 128, "heads": 2, "d_ffn": 256}


def perturb(model: torch.nn.Module, seed: int = 0) -> None:
    """Move norm gains away from 1 and biases away from 0, and spread the embedding."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.3 if parameter.ndim == 1 else 0.02
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def transformers_original(layers: int, d_model: int, heads: int, d_ffn: int, seed: int = 0):
    """Make transformers' `EsmcForMaskedLM`, in float32 and evaluation mode."""
    from transformers import EsmcConfig, EsmcForMaskedLM

    torch.manual_seed(seed)
    config = EsmcConfig(
        hidden_size=d_model,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=d_ffn,
    )
    model = EsmcForMaskedLM(config).eval()
    perturb(model, seed)
    return model


def relative_l2(ours, theirs) -> float:
    """Distance relative to the original's norm, in float64."""
    ours, theirs = to_numpy(ours), to_numpy(theirs)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def to_numpy(array) -> np.ndarray:
    """Bring an array of either framework to float64 in numpy."""
    if isinstance(array, torch.Tensor):
        array = array.detach().float().numpy()
    return np.asarray(array, np.float32).astype(np.float64)
