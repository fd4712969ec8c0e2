"""Hold the port against a torch original: `python -m conversion.parity esmc_300m`."""

import argparse
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

# Both frameworks share one GPU: JAX must not take all of it before torch has had its part.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch
from jaxtyping import Int

from conversion.compare import (
    BFLOAT16_TOLERANCE,
    FLOAT32_TOLERANCE,
    compare,
    failures,
)
from conversion.export import plan
from conversion.ladder import bridge, run_ours
from conversion.layouts import Layout
from conversion.originals import Original, installed
from conversion.panel import PROTEINS, cases
from conversion.port import read_leaf, understand
from conversion.report import describe_machine, draw_report, format_report, save_report
from conversion.sources import RELEASES, Source, open_source
from eqxesm.alphabet import MASK, Tokenizer
from eqxesm.checkpoint.format import fingerprint
from eqxesm.encoders import ESMC, PRESETS, ESMCConfig, cast
from eqxesm.errors import InputError


def pseudo_perplexities(encoder: ESMC, original: Original) -> dict[str, float]:
    """Compute the masked pseudo-perplexity of one protein on both sides.

    Args:
        encoder: ours.
        original: theirs.

    Returns:
        Ours and theirs, exact and by the one-pass approximation.
    """
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


def check_parity(original: Original, config: ESMCConfig, dtype: str) -> dict[str, Any]:
    """Run every case on both sides.

    Args:
        original: with float32 weights, on the device to run on.
        config: its architecture.
        dtype: precision to compare in, `float32` or `bfloat16`.

    Returns:
        What the report is made of.
    """
    panel = cases()
    with torch.no_grad():
        truths = [original.run(case.tokens, case.sequence_id) for case in panel]
    if dtype == "bfloat16":
        original.module.to(torch.bfloat16)
    encoder, crossed = bridge(original, config)
    results, over = [], []
    for case, truth in zip(panel, truths, strict=True):
        theirs = original.run(case.tokens, case.sequence_id) if dtype == "bfloat16" else truth
        ours = run_ours(encoder, case)
        kept = case.sequence_id >= 0
        rungs = compare(ours, theirs, truth, kept)
        agreement = ours["logits"][kept].argmax(-1) == theirs["logits"][kept].argmax(-1)
        over += [f"{case.name}, {line}" for line in failures(rungs, dtype)]
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
        "bridge": {"tensors": crossed, "shared": crossed},
        "cases": results,
        "pseudo_perplexity": pseudo_perplexities(encoder, original),
        "failures": over,
    }


def state_from(
    source: Source, found: Layout, layout: str, config: ESMCConfig
) -> dict[str, torch.Tensor]:
    """Spell a published checkpoint in the layout of an original.

    Args:
        source: the checkpoint.
        found: its layout.
        layout: the original's.
        config: the architecture.

    Returns:
        float32 tensors by their names in that layout.

    Raises:
        InputError: the source has no LM head.
    """
    if not config.lm_head:
        raise InputError(f"{source.name}: has no LM head, and parity wants one: name a whole ESM-C")
    if found.name == layout:
        # In its own layout the original takes the tensors as they are, past the port's table.
        return {
            name: torch.from_numpy(tensor.read().astype(np.float32))
            for name, tensor in source.tensors.items()
        }
    return {
        name: torch.from_numpy(
            np.concatenate(
                [read_leaf(source, found, piece.row, piece.layer or 0) for piece in pieces]
            ).astype(np.float32)
        )
        for name, pieces in plan(Layout(layout), config).items()
    }


def prove(folder: Path, source: Source) -> tuple[dict[str, Any], bytes]:
    """Hold a port's folder against the original of the source that it was made from, on the CPU.

    Args:
        folder: what the port wrote.
        source: what it read.

    Returns:
        The report in float32, and its plot as PNG.

    Raises:
        InputError: the port is out of tolerance, or its folder holds other parameters than the
            original has after the same rounding; or no original is installed.
    """
    kind = installed()
    found, config = understand(None, source)
    written = ESMC.from_folder(folder)
    with jax.default_device(jax.devices("cpu")[0]), precision("float32"):
        original = kind(config)
        dtypes = {np.dtype(np.float32): torch.float32, np.dtype(ml_dtypes.bfloat16): torch.bfloat16}
        dtype = dtypes[written.embedding.dtype]
        # Parameters are rounded as the port has rounded them; the original's own tables are not.
        state = state_from(source, found, original.layout, config)
        original.fill({name: x.to(dtype).to(torch.float32) for name, x in state.items()})
        encoder, _ = bridge(original, config)
        if fingerprint(encoder) != fingerprint(cast(written, jnp.float32)):
            raise InputError(f"{folder}: holds other parameters than {source.name}: port it again")
        result = check_parity(original, config, "float32")
    if result["failures"]:
        raise InputError(
            f"{folder}: the port is out of tolerance in {len(result['failures'])} places, "
            f"{result['failures'][0]} first: it is not to be used"
        )
    report = {
        "size": config_name(config),
        "weights": source.name,
        "sha256": list(source.hashes()),
        "original": original.name,
        "dtype": "float32",
        "tolerance": FLOAT32_TOLERANCE,
        **describe_machine("cpu"),
        **result,
    }
    return report, draw_report(report)


def config_name(config: ESMCConfig) -> str:
    """Name a published size.

    Args:
        config: an architecture.

    Returns:
        Its name, or its layers and width.
    """
    names = (name for name, preset in PRESETS.items() if preset == config)
    return next(names, f"{config.layers} layers of width {config.d_model}")


def precision(dtype: str) -> AbstractContextManager:
    """Set both frameworks to full float32, or leave bfloat16 as its users run it.

    Args:
        dtype: precision of the run.

    Returns:
        A context for the run.
    """
    if dtype == "float32":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return jax.default_matmul_precision("highest" if dtype == "float32" else "default")


def pick_device(name: str) -> tuple[jax.Device, str]:
    """Find a device that both frameworks see.

    Args:
        name: `cpu` or `gpu`.

    Returns:
        JAX's device, and torch's name for it.

    Raises:
        InputError: one of them sees no GPU.
    """
    if name == "cpu":
        return jax.devices("cpu")[0], "cpu"
    if not torch.cuda.is_available():
        raise InputError("no GPU that torch sees: run with --device cpu")
    try:
        return jax.devices("gpu")[0], "cuda:0"
    except RuntimeError as error:
        raise InputError(
            "no GPU that JAX sees: pip install 'jax[cuda13]', or --device cpu"
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the program's name; those of the process by default.

    Returns:
        The exit status: 0, 1 if the port is out of tolerance, 2 after an error.
    """
    options = _parser().parse_args(arguments)
    try:
        report = _run(options)
        if options.out:
            save_report(report, options.out)
    except InputError as error:
        print(f"conversion.parity: error: {error}", file=sys.stderr)
        return 2
    print(format_report(report))
    return 1 if report["failures"] else 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    device, torch_device = pick_device(options.device)
    kind = installed()
    config = PRESETS[options.size]
    with jax.default_device(device), precision(options.dtype):
        _say(f"building {options.size} in torch")
        original = kind(config)
        if options.random_weights:
            original.randomise(seed=0)
            weights = "random, seed 0, every tensor perturbed"
            hashes: tuple[str, ...] = ()
        else:
            source = open_source(options.size, options.source)
            found, config = understand(options.size, source)
            original.fill(state_from(source, found, original.layout, config))
            weights, hashes = source.name, source.hashes()
            if found.name != original.layout:
                weights += (
                    f" (respelled from {found.name} to {original.layout} by the port's own table, "
                    f"whose {found.name} column this run therefore does not check)"
                )
        original.module.to(torch_device)
        _say(f"running both in {options.dtype} on {options.device}")
        result = check_parity(original, config, options.dtype)
    return {
        "size": options.size,
        "weights": weights,
        "sha256": list(hashes),
        "original": original.name,
        "dtype": options.dtype,
        "tolerance": FLOAT32_TOLERANCE if options.dtype == "float32" else BFLOAT16_TOLERANCE,
        **describe_machine(options.device),
        **result,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conversion.parity",
        description="Port an ESM-C through dlpack and compare it layer by layer with the torch"
        " original it came from. Exit status 0: within tolerance; 1: over it; 2: an error.",
        epilog="Example: python -m conversion.parity esmc_300m --random-weights --out report",
    )
    parser.add_argument("size", choices=list(PRESETS))
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--source",
        metavar="PATH|REPO[@REVISION]",
        help=f"as for conversion.port (default: {RELEASES['esmc_300m'].repository} and its like)",
    )
    weights.add_argument(
        "--random-weights",
        action="store_true",
        help="download nothing: the original at full size with random weights",
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write the report as JSON and a plot"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
