"""The sides of a comparison: `eqxesm`, and the torch originals in transformers, with `sdpa`, and in PyPI's `esm`."""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.measure import PEAK_SIZE, timed
from eqxesm.alphabet import PAD

# A framework is imported late: the process of a side shall hold its own one only.

BATCH = 8
"""Proteins in a batch of torch's."""

PRECISION: dict[str, Literal["float32", "bfloat16"]] = {"cpu": "float32", "gpu": "bfloat16"}

Proteins = list[np.ndarray]


def make_probe(d_model: int) -> np.ndarray:
    """A direction: the mean square along it tells embeddings apart, whose own mean square is always 1."""
    return np.linspace(-1, 1, d_model, dtype=np.float32)


def write_models(folder: Path, config: dict[str, Any]) -> None:
    """Write an encoder with random weights as each side loads it."""
    import jax

    from conversion.export import export
    from eqxesm import ESMC, ESMCConfig

    ESMC(ESMCConfig(**config), key=jax.random.key(0)).save_pretrained(folder / "ours")
    for layout, name in (("split", "torch"), ("legacy", "esm")):
        export(folder / "ours", layout, folder / name)


class Ours:
    """Our encoder."""

    def __init__(self, folder: Path, device: str):
        from eqxesm import ESMC

        self.encoder = ESMC.from_pretrained(folder / "ours", dtype=PRECISION[device])

    @cached_property
    def _peak(self) -> Callable[[], Any]:
        """A bare product. Made when it is asked for, so that memory that is measured without it is of the encoder."""
        import jax

        matrix = jax.random.normal(jax.random.key(0), (PEAK_SIZE, PEAK_SIZE), self.encoder.embedding.dtype)
        product = jax.jit(lambda a, b: a @ b.T)

        def run() -> None:
            jax.block_until_ready(product(matrix, matrix))

        run()
        return run

    def peak(self) -> float:
        return timed(self._peak)

    def prepare(self, work: str, tokens: np.ndarray) -> dict[str, float]:
        """Compile a forward pass of a batch, or a forward and backward pass; seconds, and the mean square."""
        from functools import partial

        import equinox as eqx
        import jax

        arrays, structure = eqx.partition(self.encoder, eqx.is_array)

        def loss(arrays: Any) -> Any:
            features = partial(eqx.combine(arrays, structure).features, remat=work.endswith("remat"))
            along = jax.vmap(features)(tokens).astype("float32") @ make_probe(self.encoder.d_model)
            return (along**2).mean()

        function = loss if work == "forward" else jax.value_and_grad(loss)
        start = time.perf_counter()
        compiled = jax.jit(function).lower(arrays).compile()
        seconds = time.perf_counter() - start
        self._run = lambda: jax.block_until_ready(compiled(arrays))
        return {"compile_s": seconds, "value": float(np.ravel(jax.tree.leaves(self._run())[0])[0])}

    def run(self) -> float:
        return timed(self._run)

    def prepare_proteins(self, proteins: Proteins) -> dict[str, float]:
        """Compile what proteins of any lengths need."""
        from eqxesm.data.batching import choose_buckets
        from eqxesm.inference import default_tokens, map_proteins

        pool = make_pooled(self.encoder)
        self._run = lambda: map_proteins(pool, proteins)
        start = time.perf_counter()
        pooled = np.array(self._run(), np.float32)
        value = float(np.square(pooled @ make_probe(pooled.shape[1])).mean())
        first = time.perf_counter() - start
        lengths = np.array([len(tokens) for tokens in proteins])
        padding = choose_buckets(lengths, default_tokens()).padding(lengths, full=False)
        return {"compile_s": first - self.run(), "value": value, "padding": padding}


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


def import_original() -> Any:
    """The class of the torch original, which is to load without a word."""
    from transformers import EsmcModel
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()
    # It would report that it leaves the LM head out.
    set_verbosity_error()
    return EsmcModel


class Torch:
    """The torch original, as it is or under `torch.compile`."""

    def __init__(self, folder: Path, device: str, compiled: bool = False):
        self.device = "cuda" if device == "gpu" else "cpu"
        self.module = self.load(folder, PRECISION[device]).to(self.device)
        self.d_model = json.loads((folder / "ours" / "config.json").read_text())["encoder"]["d_model"]

        # Imported after the model, which for PyPI's esm brings a torch of its own.
        import torch

        self._forward = torch.compile(self.forward) if compiled else self.forward
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        matrix = torch.randn(PEAK_SIZE, PEAK_SIZE, device=self.device, dtype=getattr(torch, PRECISION[device]))
        self._peak = lambda: matrix @ matrix.T
        self.peak()

    def load(self, folder: Path, precision: str) -> Any:
        """The model, from a file."""
        return import_original().from_pretrained(folder / "torch", attn_implementation="sdpa", dtype=precision)

    def forward(self, tokens: Any, mask: Any, /) -> Any:
        """The embedding of a batch; `mask` is None if nothing is padded."""
        return self.module(tokens, attention_mask=mask).last_hidden_state

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
        probe = self.make_probe()
        self.module.train(backward).requires_grad_(backward)

        def run() -> Any:
            with torch.set_grad_enabled(backward):
                value = ((self._forward(batch, None).float() @ probe) ** 2).mean()
            if backward:
                self.module.zero_grad()
                value.backward()
            return value

        self._run = run
        return {"value": float(run().detach())}

    def run(self) -> float:
        return self._timed(self._run)

    def prepare_proteins(self, proteins: Proteins, order: str) -> dict[str, float]:
        """Run proteins in padded batches in file order or by length, or one by one."""
        import torch

        self.module.eval().requires_grad_(False)
        batches = make_batches(proteins, order)

        def run() -> Any:
            pooled = []
            with torch.no_grad():
                for indices in batches:
                    pooled.append(self.pool([proteins[i] for i in indices]))
            return torch.cat(pooled)

        self._run = run
        return {"value": float(((run() @ self.make_probe()) ** 2).mean())}

    def make_probe(self) -> Any:
        """The probe, on the device."""
        import torch

        return torch.from_numpy(make_probe(self.d_model)).to(self.device)

    def pool(self, proteins: Proteins) -> Any:
        """The mean of the embedding over residues, of a padded batch."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        tokens = [torch.tensor(each, dtype=torch.long, device=self.device) for each in proteins]
        batch = pad_sequence(tokens, batch_first=True, padding_value=PAD)
        whole = len({len(each) for each in proteins}) == 1
        residues = (batch > 3).unsqueeze(-1).float()
        features = self._forward(batch, None if whole else batch != PAD).float()
        return (features * residues).sum(1) / residues.sum(1)


class Esm(Torch):
    """The first release, PyPI's `esm`, in an environment of its own."""

    def load(self, folder: Path, precision: str) -> Any:
        """The model, from a file."""
        sys.path.insert(0, str(find_esm()))

        import torch
        from esm.models.esmc import ESMC  # ty: ignore[import-not-found]
        from esm.tokenization import get_esmc_model_tokenizers  # ty: ignore[import-not-found]

        config = json.loads((folder / "ours" / "config.json").read_text())["encoder"]
        module = ESMC(config["d_model"], config["heads"], config["layers"], get_esmc_model_tokenizers())
        (weights,) = (folder / "esm").rglob("*.pth")
        module.load_state_dict(torch.load(weights, weights_only=True), strict=False)
        return module.to(getattr(torch, precision))

    def forward(self, tokens: Any, _: Any, /) -> Any:
        """The embedding of a batch; it finds padding itself."""
        return self.module(tokens).embeddings


def find_esm() -> Path | None:
    """Where the environment of `make test-esm` has its packages, if there is one."""
    packages = Path(__file__).parents[1].glob(".venv-esm/lib/python3*/site-packages/esm")
    return next((package.parent for package in packages), None)


def make_batches(proteins: Proteins, order: str) -> list[np.ndarray]:
    """Which proteins each batch of torch's holds."""
    numbers = np.arange(len(proteins))
    if order == "length-sorted":
        numbers = numbers[np.argsort([len(each) for each in proteins], kind="stable")]
    size = 1 if order == "one by one" else BATCH
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
