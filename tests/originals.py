"""Torch originals with random weights in which every tensor matters."""

import numpy as np
import torch

# The first release rounds its feed-forward width, 8/3 of d_model, up to a multiple of 256.
TINY = {"layers": 3, "d_model": 128, "heads": 2, "d_ffn": 512}


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


def three_layouts(original) -> dict[str, dict[str, np.ndarray]]:
    """One original in the three layouts.

    The split one is transformers' own. The others are made from its modules, as the torch code of
    the first release and of `biohub/ESMC-*` names and fuses them; `test_esm_original.py` checks
    the legacy one against the package that wrote it.
    """
    split = {name: tensor.numpy() for name, tensor in original.state_dict().items()}

    def n(x):
        return x.detach().numpy()

    legacy = {"embed.weight": n(original.esmc.embed_tokens.weight)}
    fused = {"esmc.embed.weight": n(original.esmc.embed_tokens.weight)}
    for i, layer in enumerate(original.esmc.layers):
        a, m = layer.self_attn, layer.mlp
        qkv = np.concatenate([n(a.q_proj.weight), n(a.k_proj.weight), n(a.v_proj.weight)])
        gate_up = np.concatenate([n(m.gate_proj.weight), n(m.up_proj.weight)])
        before, after = layer.input_layernorm, layer.post_attention_layernorm
        for prefix, names, state in (
            (
                f"transformer.blocks.{i}.",
                ("attn.layernorm_qkv.0.weight", "attn.layernorm_qkv.0.bias",
                 "attn.layernorm_qkv.1.weight", "ffn.0.weight", "ffn.0.bias", "ffn.1.weight",
                 "ffn.3.weight"),
                legacy,
            ),
            (
                f"esmc.transformer.blocks.{i}.",
                ("attn.layernorm_qkv.layer_norm_weight", "attn.layernorm_qkv.layer_norm_bias",
                 "attn.layernorm_qkv.weight", "ffn.layer_norm_weight", "ffn.layer_norm_bias",
                 "ffn.fc1_weight", "ffn.fc2_weight"),
                fused,
            ),
        ):  # fmt: skip
            values = (n(before.weight), n(before.bias), qkv, n(after.weight), n(after.bias),
                      gate_up, n(m.down_proj.weight))  # fmt: skip
            state |= {prefix + name: value for name, value in zip(names, values, strict=True)}
            state[prefix + "attn.q_ln.weight"] = n(a.q_norm.weight)
            state[prefix + "attn.k_ln.weight"] = n(a.k_norm.weight)
            state[prefix + "attn.out_proj.weight"] = n(a.o_proj.weight)
        for extra in ("attn.layernorm_qkv", "attn.out_proj", "ffn"):
            fused[f"esmc.transformer.blocks.{i}.{extra}._extra_state"] = np.empty(0, np.uint8)
    legacy["transformer.norm.weight"] = n(original.esmc.norm.weight)
    fused["esmc.transformer.norm.weight"] = n(original.esmc.norm.weight)
    head = original.lm_head
    for number, module in ((0, head.dense), (2, head.layer_norm), (3, head.decoder)):
        for part in ("weight", "bias"):
            legacy[f"sequence_head.{number}.{part}"] = n(getattr(module, part))
            fused[f"lm_head.{number}.{part}"] = n(getattr(module, part))
    return {"legacy": legacy, "fused": fused, "split": split}
