"""Compare the port with a torch original, layer by layer."""

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

# Both frameworks share one GPU, so JAX must not reserve all of it when it is first used.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# Everything runs once, so looking for the fastest kernels would take minutes and save seconds.
os.environ.setdefault("XLA_FLAGS", "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false")

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch
from jaxtyping import Int

from conversion.compare import TOLERANCES, compare, find_failures
from conversion.ladder import run_ours, share_weights
from conversion.originals import Original, find_original
from conversion.panel import PROTEINS, make_cases
from conversion.report import describe_machine
from conversion.sources import open_source
from eqxesm.alphabet import MASK, Tokenizer
from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.checkpoint.record import without_folders
from eqxesm.encoders import ESMC, PRESETS, ESMCConfig, cast
from eqxesm.encoders.published.layouts import Layout, plan_tensors
from eqxesm.encoders.published.reader import PublishedCheckpoint, understand
from eqxesm.errors import InputError

TORCH_DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(ml_dtypes.bfloat16): torch.bfloat16}


def pseudo_perplexities(encoder: ESMC, original: Original) -> dict[str, float]:
    """Masked pseudo-perplexity of one protein on both sides."""
    tokens = Tokenizer().encode(PROTEINS["BPTI"])
    residues = np.arange(1, len(tokens) - 1)
    masked = np.tile(tokens, (len(residues), 1))
    masked[np.arange(len(residues)), residues] = MASK

    def log_probabilities(batch: Int[np.ndarray, "batch length"]) -> np.ndarray:
        logits = original.run(batch, np.zeros_like(batch))["logits"].astype(np.float64)
        return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)

    theirs = log_probabilities(masked)[np.arange(len(residues)), residues, tokens[residues]]
    one_pass = log_probabilities(tokens[None])[0, residues, tokens[residues]]
    exact = eqx.filter_jit(lambda e, t: e.pseudo_log_likelihood(t, batch_size=64))
    ours = exact(encoder, jnp.asarray(tokens))
    ours_one_pass = encoder.pseudo_log_likelihood(tokens, one_pass=True)
    count = len(residues)
    return {
        "ours": float(np.exp(-float(ours) / count)),
        "theirs": float(np.exp(-theirs.mean())),
        "ours_one_pass": float(np.exp(-float(ours_one_pass) / count)),
        "theirs_one_pass": float(np.exp(-one_pass.mean())),
    }


def check_parity(original: Original, config: ESMCConfig, dtype: str, device: str = "cpu") -> dict[str, Any]:
    """Run every case on both sides. The original has float32 weights, on `device`, and is cast to `dtype`."""
    panel = make_cases()
    with torch.no_grad():
        truths = [original.run(case.tokens, case.sequence_id) for case in panel]
    if dtype == "bfloat16":
        original.module.to(torch.bfloat16)
    encoder, crossed = share_weights(original, config)
    results, failures = [], []
    for case, truth in zip(panel, truths, strict=True):
        theirs = original.run(case.tokens, case.sequence_id) if dtype == "bfloat16" else truth
        ours = run_ours(encoder, case)
        kept = case.sequence_id >= 0
        rungs = compare(ours, theirs, truth, kept)
        agreement = ours["logits"][kept].argmax(-1) == theirs["logits"][kept].argmax(-1)
        failures += [f"{case.name}, {line}" for line in find_failures(rungs, dtype)]
        results.append(
            {
                "name": case.name,
                "proteins": len(case.tokens),
                "tokens": int(kept.sum()),
                "argmax_agreement": float(agreement.mean()),
                "rungs": rungs,
            }
        )
    return {
        "original": original.name,
        "dtype": dtype,
        "tolerance": TOLERANCES[dtype],
        **describe_machine(device),
        "bridge": {"tensors": crossed, "shared": crossed},
        "cases": results,
        "pseudo_perplexity": pseudo_perplexities(encoder, original),
        "failures": failures,
    }


def to_state_dict(
    source: PublishedCheckpoint, found: Layout, layout: str, config: ESMCConfig
) -> dict[str, torch.Tensor]:
    """A published checkpoint as float32 tensors in the layout of an original."""
    if not config.lm_head:
        raise InputError(f"{source.name}: has no LM head, which parity needs")
    if found.name == layout:
        # The original takes the tensors as they are, without the port's table.
        return {name: torch.from_numpy(tensor.read().astype(np.float32)) for name, tensor in source.tensors.items()}
    return {
        name: torch.from_numpy(np.concatenate([source.read_leaf(found, p.row, p.layer) for p in parts])).to(
            torch.float32
        )
        for name, parts in plan_tensors(Layout(layout), config).items()
    }


def check_port(folder: Path, source: PublishedCheckpoint) -> dict[str, Any]:
    """Compare a port's folder with the original of its source, in float32 on the CPU.

    A port that differs in any parameter, or is out of tolerance, is refused.
    """
    found, config = understand(None, source)
    written = ESMC.from_folder(folder)
    with jax.default_device(jax.devices("cpu")[0]), full_precision("float32"):
        original = find_original()(config)
        # Rounded as the port has rounded them.
        dtype = TORCH_DTYPES[written.embedding.dtype]
        state = to_state_dict(source, found, original.layout, config)
        original.fill({name: x.to(dtype).to(torch.float32) for name, x in state.items()})
        encoder, _ = share_weights(original, config)
        if fingerprint(encoder) != fingerprint(cast(written, jnp.float32)):
            raise InputError(f"{folder}: has other parameters than {source.name}. Port it again.")
        result = check_parity(original, config, "float32")
    if result["failures"]:
        first = f"{len(result['failures'])} places, first {result['failures'][0]}"
        raise InputError(f"{folder}: out of tolerance in {first}. Do not use this port.")
    names = (name for name, preset in PRESETS.items() if preset == config)
    size = next(names, f"{config.layers} layers of width {config.d_model}")
    return {"size": size, "weights": without_folders(source.name), "sha256": list(source.hashes()), **result}


def full_precision(dtype: str) -> AbstractContextManager:
    """Full float32 products in both frameworks; bfloat16 as its users run it.

    On recent GPUs JAX multiplies float32 in TF32 by default.
    """
    if dtype == "float32":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return jax.default_matmul_precision("highest" if dtype == "float32" else "default")


def pick_device(name: str) -> tuple[jax.Device, str]:
    """The same device as both frameworks call it."""
    if name == "cpu":
        return jax.devices("cpu")[0], "cpu"
    if not torch.cuda.is_available():
        raise InputError("torch sees no GPU. Use --device cpu.")
    try:
        return jax.devices("gpu")[0], "cuda:0"
    except RuntimeError as error:
        raise InputError("JAX sees no GPU. Install the extra cuda, or use --device cpu.") from error


def check_size(size: str, source: str | None, random_weights: bool, dtype: str, device: str) -> dict[str, Any]:
    """Compare the original of a size with its port, with published or random weights."""
    jax_device, torch_device = pick_device(device)
    config = PRESETS[size]
    with jax.default_device(jax_device), full_precision(dtype):
        print(f"building {size} in torch", file=sys.stderr)
        original = find_original()(config)
        if random_weights:
            original.randomise(seed=0)
            weights, hashes = "random, seed 0, every tensor perturbed", ()
        else:
            published = open_source(size, source)
            found, config = understand(size, published)
            original.fill(to_state_dict(published, found, original.layout, config))
            weights, hashes = without_folders(published.name), published.hashes()
            if found.name != original.layout:
                weights += (
                    f" (converted from {found.name} to {original.layout} by the port's own table, "
                    f"whose {found.name} column is therefore not checked)"
                )
        original.module.to(torch_device)
        print(f"running both in {dtype} on {device}", file=sys.stderr)
        result = check_parity(original, config, dtype, device)
    return {"size": size, "weights": weights, "sha256": list(hashes), **result}
