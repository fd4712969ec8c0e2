"""Torch originals with random weights in which every tensor matters."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from eqxesm import ESMCConfig

# The first release rounds its feed-forward width, 8/3 of d_model, up to a multiple of 256.
TINY = ESMCConfig(layers=3, d_model=128, heads=2, d_ffn=512)

# One block of each layout: names of the first release, of `biohub/ESMC-*` as first published, and
# the tensors of transformers that these are concatenated from.
BLOCK = (
    ("attn.layernorm_qkv.0.weight", "attn.layernorm_qkv.layer_norm_weight", ["input_layernorm.weight"]),
    ("attn.layernorm_qkv.0.bias", "attn.layernorm_qkv.layer_norm_bias", ["input_layernorm.bias"]),
    ("attn.layernorm_qkv.1.weight", "attn.layernorm_qkv.weight", [f"self_attn.{x}_proj.weight" for x in "qkv"]),
    ("attn.q_ln.weight", "attn.q_ln.weight", ["self_attn.q_norm.weight"]),
    ("attn.k_ln.weight", "attn.k_ln.weight", ["self_attn.k_norm.weight"]),
    ("attn.out_proj.weight", "attn.out_proj.weight", ["self_attn.o_proj.weight"]),
    ("ffn.0.weight", "ffn.layer_norm_weight", ["post_attention_layernorm.weight"]),
    ("ffn.0.bias", "ffn.layer_norm_bias", ["post_attention_layernorm.bias"]),
    ("ffn.1.weight", "ffn.fc1_weight", ["mlp.gate_proj.weight", "mlp.up_proj.weight"]),
    ("ffn.3.weight", "ffn.fc2_weight", ["mlp.down_proj.weight"]),
)
HEAD = {"0": "dense", "2": "layer_norm", "3": "decoder"}
EXTRA_STATE = ("attn.layernorm_qkv", "attn.out_proj", "ffn")


def perturb(model: torch.nn.Module, seed: int = 0) -> None:
    """Move norm gains away from 1 and biases away from 0, and spread the embedding."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.3 if parameter.ndim == 1 else 0.02
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def build_transformers(config: ESMCConfig) -> torch.nn.Module:
    """Make transformers' `EsmcForMaskedLM` with its own initial weights."""
    from transformers import EsmcConfig, EsmcForMaskedLM

    return EsmcForMaskedLM(
        EsmcConfig(
            hidden_size=config.d_model,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.d_ffn,
        )
    )


def transformers_original(config: ESMCConfig = TINY, seed: int = 0) -> torch.nn.Module:
    """Make transformers' original, in float32 and evaluation mode."""
    torch.manual_seed(seed)
    model = build_transformers(config).eval()
    perturb(model, seed)
    return model


def three_layouts(original) -> dict[str, dict[str, np.ndarray]]:
    """One original in the three layouts.

    The split one is transformers' own. The others are written down here once more, without the
    port's table; `test_esm_original.py` checks the legacy one against the package that wrote it.
    """
    split = {name: tensor.numpy() for name, tensor in original.state_dict().items()}
    legacy, fused = {}, {}

    def add(old: str, new: str, *parts: str) -> None:
        legacy[old] = fused[new] = np.concatenate([split[part] for part in parts])

    add("embed.weight", "esmc.embed.weight", "esmc.embed_tokens.weight")
    for layer in range(len(original.esmc.layers)):
        block = f"transformer.blocks.{layer}."
        for old, new, parts in BLOCK:
            add(block + old, f"esmc.{block}{new}", *(f"esmc.layers.{layer}.{part}" for part in parts))
        for module in EXTRA_STATE:
            fused[f"esmc.{block}{module}._extra_state"] = np.empty(0, np.uint8)
    add("transformer.norm.weight", "esmc.transformer.norm.weight", "esmc.norm.weight")
    for number, module in HEAD.items():
        for kind in ("weight", "bias"):
            add(f"sequence_head.{number}.{kind}", f"lm_head.{number}.{kind}", f"lm_head.{module}.{kind}")
    return {"legacy": legacy, "fused": fused, "split": split}


def write_state(state: dict[str, np.ndarray], file: Path) -> Path:
    """Write tensors as a safetensors file."""
    save_file({name: np.ascontiguousarray(value) for name, value in state.items()}, file)
    return file


def write_shards(state: dict[str, np.ndarray], folder: Path) -> Path:
    """Write tensors as two safetensors files with an index."""
    folder.mkdir(exist_ok=True)
    names = sorted(state)
    weight_map = {}
    for number, chosen in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        write_state({name: state[name] for name in chosen}, folder / shard)
        weight_map |= dict.fromkeys(chosen, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def relative_l2(ours, theirs, where=...) -> float:
    """Distance relative to the original's norm, in float64, at the positions `where`."""
    ours, theirs = to_numpy(ours)[where], to_numpy(theirs)[where]
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def to_numpy(array) -> np.ndarray:
    """Bring an array of either framework to float64 in numpy."""
    if isinstance(array, torch.Tensor):
        array = array.detach().float().numpy()
    return np.asarray(array, np.float32).astype(np.float64)


def as_long(tokens: np.ndarray) -> torch.Tensor:
    """Tokens in the integers that torch takes for them."""
    return torch.tensor(tokens, dtype=torch.long)
