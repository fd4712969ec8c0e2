"""The torch originals of ESM-C: how to build, fill and run them."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from eqxesm.alphabet import PAD
from eqxesm.encoders import ESMCConfig
from eqxesm.errors import missing_extra

Rungs = dict[str, Float[np.ndarray, "batch length _"]]
"""Intermediate results from tokens to logits, by name. Block 0 is the embedded sequence."""


class Original:
    """A torch implementation of ESM-C that somebody else wrote, on torch's default device.

    `layout` is how its state dict is named, `final_norm` the norm that follows the last block, and `forward` returns
    the outputs of all blocks (the embedded sequence first), embedding and logits.
    """

    name: str
    layout: str
    module: Any
    final_norm: torch.nn.Module
    forward: Callable[..., tuple[Any, Any, Any]]

    def randomise(self, seed: int) -> None:
        """Draw every tensor so that it matters: gains away from 1, biases away from 0."""
        generator = torch.Generator("cpu").manual_seed(seed)
        with torch.no_grad():
            for parameter in self.module.parameters():
                noise = torch.randn(parameter.shape, generator=generator, device="cpu")
                if parameter.ndim == 1:
                    parameter.add_((0.2 * noise).to(parameter.device))
                else:
                    parameter.copy_(noise / parameter.shape[-1] ** 0.5)

    def fill(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load weights, all of them."""
        self.module.load_state_dict(state, strict=True)

    def run(self, tokens: Int[np.ndarray, "batch length"], sequence_id: Int[np.ndarray, "batch length"]) -> Rungs:
        """Every rung, in float32 on the CPU."""
        before_norm = []
        hook = self.final_norm.register_forward_pre_hook(lambda _, inputs: before_norm.append(inputs[0]))
        device = next(self.module.parameters()).device
        try:
            with torch.no_grad():
                blocks, embedding, logits = self.forward(
                    torch.tensor(tokens, dtype=torch.long, device=device), torch.tensor(sequence_id, device=device)
                )
        finally:
            hook.remove()
        rungs = {f"block {number}": block for number, block in enumerate(blocks)}
        rungs |= {f"block {len(rungs)}": before_norm[0], "embedding": embedding, "logits": logits}
        return {name: tensor.float().cpu().numpy() for name, tensor in rungs.items()}


class Transformers(Original):
    """`EsmcForMaskedLM` of transformers >= 5.17."""

    layout = "split"

    def __init__(self, config: ESMCConfig):
        import transformers

        self.name = f"transformers {transformers.__version__} EsmcForMaskedLM"
        self.module = transformers.EsmcForMaskedLM(
            transformers.EsmcConfig(
                hidden_size=config.d_model,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.d_ffn,
            )
        ).eval()
        self.final_norm = self.module.esmc.norm

    def forward(self, tokens: torch.Tensor, sequence_id: torch.Tensor) -> tuple[Any, Any, Any]:
        """Single chains go through the attention mask, as they do for its users."""
        chains = {"sequence_id": sequence_id} if int(sequence_id.max()) else {"attention_mask": tokens != PAD}
        output = self.module(tokens, output_hidden_states=True, **chains)
        *blocks, embedding = output.hidden_states
        return blocks, embedding, output.logits


class Esm(Original):
    """`ESMC` of PyPI's `esm` up to 3.2, the first release."""

    layout = "legacy"

    def __init__(self, config: ESMCConfig):
        from importlib.metadata import version

        from esm.models.esmc import ESMC  # ty: ignore[import-not-found]
        from esm.tokenization import get_esmc_model_tokenizers  # ty: ignore[import-not-found]

        self.name = f"esm {version('esm')} ESMC"
        self.module = ESMC(config.d_model, config.heads, config.layers, get_esmc_model_tokenizers()).eval()
        self.final_norm = self.module.transformer.norm

    def forward(self, tokens: torch.Tensor, sequence_id: torch.Tensor) -> tuple[Any, Any, Any]:
        """Its list starts after the first block, so the embedded sequence is put first."""
        output = self.module(tokens, sequence_id)
        blocks = [self.module.embed(tokens), *output.hidden_states[:-1]]
        return blocks, output.embeddings, output.sequence_logits


def find_original() -> Callable[[ESMCConfig], Original]:
    """The original that this environment has."""
    if find_spec("transformers") and find_spec("transformers.models.esmc"):
        return Transformers
    if find_spec("esm"):
        return Esm
    raise missing_extra("transformers", "convert")
