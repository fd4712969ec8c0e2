"""The two sides of a comparison: `eqxesm`, and the torch original in transformers with `sdpa`."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import PEAK_SIZE, timed

# A framework is imported late: the process of a side shall hold its own one only.

BATCH = 8
"""Proteins in a batch of torch's."""

Proteins = list[np.ndarray]


def write_models(folder: Path, config: dict[str, Any]) -> None:
    """Write an encoder with random weights as each side loads it."""
    import jax

    from conversion.export import export
    from eqxesm import ESMC, ESMCConfig

    ESMC(ESMCConfig(**config, lm_head=False), key=jax.random.key(0)).save_pretrained(folder / "ours")
    export(folder / "ours", "split", folder / "torch")


class Ours:
    """Our encoder."""

    def __init__(self, folder: Path):
        import jax

        from eqxesm import ESMC

        self.encoder = ESMC.from_pretrained(folder / "ours")
        matrix = jax.numpy.asarray(np.random.default_rng(0).standard_normal((PEAK_SIZE, PEAK_SIZE), np.float32))
        product = jax.jit(lambda a, b: a @ b.T)
        self._peak = lambda: jax.block_until_ready(product(matrix, matrix))
        self._peak()

    def peak(self) -> float:
        return timed(self._peak)

    def prepare(self, work: str, tokens: np.ndarray) -> dict[str, float]:
        """Compile a forward pass of a batch, or a forward and backward pass; seconds, and the mean square."""
        import equinox as eqx
        import jax

        arrays, structure = eqx.partition(self.encoder, eqx.is_array)

        def loss(arrays: Any) -> Any:
            return (jax.vmap(eqx.combine(arrays, structure).features)(tokens) ** 2).mean()

        function = {"forward": loss, "gradient": jax.value_and_grad(loss)}[work]
        start = time.perf_counter()
        compiled = jax.jit(function).lower(arrays).compile()
        seconds = time.perf_counter() - start
        self._run = lambda: jax.block_until_ready(compiled(arrays))
        return {"compile_s": seconds, "value": float(np.ravel(jax.tree.leaves(self._run())[0])[0])}

    def run(self) -> float:
        return timed(self._run)

    def prepare_proteins(self, proteins: Proteins) -> dict[str, float]:
        """Compile what proteins of any lengths need."""
        from eqxesm.inference import map_proteins

        pooled = make_pooled(self.encoder)
        self._run = lambda: map_proteins(pooled, proteins)
        start = time.perf_counter()
        value = float(np.square(self._run()).mean())
        first = time.perf_counter() - start
        return {"compile_s": first - self.run(), "value": value}


def make_pooled(encoder: Any) -> Any:
    """The mean of the embedding over residues, as a function of tokens."""
    import equinox as eqx

    from eqxesm.encoders import residue_mask
    from heads.pooling import mean_pool

    class Pooled(eqx.Module):
        encoder: Any

        def __call__(self, tokens: Any) -> Any:
            return mean_pool(self.encoder.features(tokens), residue_mask(tokens))

    return Pooled(encoder)


class Torch:
    """The torch original."""

    def __init__(self, folder: Path, device: str = "cpu", *, compiled: bool = False):
        import os

        import torch
        from transformers import EsmcModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.device = "cuda" if device == "gpu" else "cpu"
        self.model = EsmcModel.from_pretrained(folder / "torch", attn_implementation="sdpa", dtype=torch.float32)
        self.model.to(self.device)
        self.forward = torch.compile(self.model, dynamic=False) if compiled else self.model
        matrix = torch.randn(PEAK_SIZE, PEAK_SIZE, device=self.device)
        self._peak = lambda: matrix @ matrix.T
        self.peak()

    def _timed(self, function: Any) -> float:
        import torch

        def run() -> None:
            function()
            if self.device == "cuda":
                torch.cuda.synchronize()

        return timed(run)

    def peak(self) -> float:
        return self._timed(self._peak)

    def prepare(self, work: str, tokens: np.ndarray) -> dict[str, float]:
        """Run a forward pass of a batch, or a forward and backward pass, for the first time."""
        import torch

        backward = work == "gradient"
        batch = torch.tensor(tokens, dtype=torch.long, device=self.device)
        self.model.train(backward).requires_grad_(backward)

        def run() -> Any:
            with torch.set_grad_enabled(backward):
                value = (self.forward(batch).last_hidden_state ** 2).mean()
            if backward:
                self.model.zero_grad()
                value.backward()
            return value

        self._run = run
        start = time.perf_counter()
        value = float(run().detach())
        first = time.perf_counter() - start
        return {"compile_s": first - self.run(), "value": value}

    def run(self) -> float:
        return self._timed(self._run)

    def prepare_proteins(self, proteins: Proteins, order: str) -> dict[str, float]:
        """Run proteins in padded batches in file order or by length, or one by one."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        self.model.eval().requires_grad_(False)
        tokens = [torch.tensor(each, dtype=torch.long, device=self.device) for each in proteins]
        if order == "length-sorted":
            tokens.sort(key=len)
        size = 1 if order == "one by one" else BATCH
        pad: Any = self.model.config.pad_token_id

        def run() -> Any:
            pooled = []
            with torch.no_grad():
                for start in range(0, len(tokens), size):
                    batch = pad_sequence(tokens[start : start + size], batch_first=True, padding_value=pad)
                    features = self.forward(batch, attention_mask=batch != pad).last_hidden_state
                    residues = (batch > 3).unsqueeze(-1).float()
                    pooled.append((features * residues).sum(1) / residues.sum(1))
            return torch.cat(pooled)

        self._run = run
        return {"value": float((run() ** 2).mean())}
