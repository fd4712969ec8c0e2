"""Give an encoder back to the torch world: `python -m conversion.export FOLDER --layout split`."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqxesm.alphabet import CLS, EOS, MASK, PAD, VOCAB_SIZE
from eqxesm.checkpoint.folder import CONFIG, read_config
from eqxesm.checkpoint.leaves import find_misfits, named_leaves
from eqxesm.checkpoint.tensors import Parts, TensorSpec, open_folder, write_tensors
from eqxesm.cli.arguments import read_path
from eqxesm.cli.main import run_command
from eqxesm.config import parse
from eqxesm.encoders import PRESETS, ESMCConfig
from eqxesm.encoders.attention import ROTARY_BASE
from eqxesm.encoders.language_model import EncoderSections
from eqxesm.encoders.lora import merge_lora
from eqxesm.encoders.published.layouts import Layout, LeafSlice, leaf_shapes, plan_tensors, planned_shape
from eqxesm.encoders.published.reader import ReadableTensor
from eqxesm.encoders.published.table import LAYOUTS
from eqxesm.errors import InputError, missing_extra
from eqxesm.files import replace_folder
from eqxesm.forms import read_sections
from eqxesm.model import SolubilityModel

LEGACY_FILE = "data/weights/{name}_2024_12_v0.pth"
"""Where PyPI's `esm` looks below the folder of a release."""


@dataclass(frozen=True)
class MemoryTensor:
    """A tensor in memory, read like one in a file."""

    array: np.ndarray

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.array.shape, self.array.dtype)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self.array[start:stop]


def export(folder: Path, layout_name: str, out: Path) -> dict[str, TensorSpec]:
    """Write the encoder of a checkpoint in a published layout, adapters merged into it."""
    if out.exists():
        raise InputError(f"{out}: exists already. Choose another folder.")
    config, leaves = open_encoder(folder)
    layout = Layout(layout_name, bare=not config.lm_head and layout_name != "legacy")
    plan = plan_tensors(layout, config)

    def read(part: LeafSlice) -> np.ndarray:
        leaf = leaves[part.row.ours]
        return leaf.read() if part.layer is None else leaf.read(part.layer, part.layer + 1)[0]

    def parts(name: str) -> Iterator[np.ndarray]:
        return map(read, plan[name])

    specs = {}
    for name, found in plan.items():
        spec = leaves[found[0].row.ours].spec
        specs[name] = TensorSpec(planned_shape(found, spec.shape), spec.dtype)
    dtype = next(iter(specs.values())).dtype.name
    with replace_folder(out) as partial:
        if layout_name == "legacy":
            size = next((name for name, preset in PRESETS.items() if preset == config), "esmc")
            _write_pth(partial / LEGACY_FILE.format(name=size), specs, parts)
        else:
            write_tensors(partial, specs, parts)
        text = json.dumps(published_config(config, layout_name, dtype), indent=2)
        (partial / CONFIG).write_text(text + "\n")
    return specs


def open_encoder(folder: Path) -> tuple[ESMCConfig, Mapping[str, ReadableTensor]]:
    """Configuration and leaves of the ESM-C in a checkpoint of ours."""
    values = read_config(folder)
    is_model = "head" in values
    sections = read_sections(folder) if is_model else parse(EncoderSections, values, folder / CONFIG)
    config = sections.encoder
    if not isinstance(config, ESMCConfig):
        raise InputError(f"{folder}: its encoder is not an ESM-C")
    if is_model and (sections.form != "full" or sections.adapter is not None):
        encoder = merge_lora(SolubilityModel.from_pretrained(folder).encoder)
        return config, {n: MemoryTensor(np.asarray(x)) for n, x in named_leaves(encoder).items()}
    prefix = "encoder." if is_model else ""
    found = {
        name.removeprefix(prefix): tensor for name, tensor in open_folder(folder).items() if name.startswith(prefix)
    }
    if problems := find_misfits(found, leaf_shapes(config)):
        raise InputError(f"{folder}: {'; '.join(problems)}. Fetch or write it again.")
    return config, found


def published_config(config: ESMCConfig, layout: str, dtype: str) -> dict[str, Any]:
    """`config.json` as the publishers of a layout write it."""
    sizes = {"d_model": config.d_model, "n_heads": config.heads, "n_layers": config.layers}
    if layout == "legacy":
        return sizes
    common = {
        "model_type": "esmc",
        "vocab_size": VOCAB_SIZE,
        "pad_token_id": PAD,
        "mask_token_id": MASK,
        "tie_word_embeddings": False,
        "dtype": dtype,
    }
    if layout == "fused":
        name = "ESMCForMaskedLM" if config.lm_head else "ESMCModel"
        return {"architectures": [name], **common, **sizes}
    return {
        "architectures": ["EsmcForMaskedLM" if config.lm_head else "EsmcModel"],
        **common,
        "bos_token_id": CLS,
        "eos_token_id": EOS,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "head_dim": config.d_head,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROTARY_BASE},
    }


def _write_pth(file: Path, specs: Mapping[str, TensorSpec], parts: Parts) -> None:
    try:
        import torch
    except ImportError as error:
        raise missing_extra("torch", "convert") from error

    def tensor(name: str) -> "torch.Tensor":
        array = np.concatenate(list(parts(name)))
        if specs[name].dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    file.parent.mkdir(parents=True)
    torch.save({name: tensor(name) for name in specs}, file)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return run_command("conversion.export", lambda: _run(_parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    specs = export(options.folder, options.layout, options.out)
    size = sum(spec.nbytes for spec in specs.values())
    print(f"wrote {options.out}: {options.layout} layout, {len(specs)} tensors, {size:,} bytes")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conversion.export",
        description="Write an ESM-C encoder of eqxesm, ported or fine-tuned, as torch programs load"
        " it: split for transformers >= 5.17 and esm >= 3.4, fused for biohub/ESMC-* as first"
        " published and esm >= 3.4, legacy for PyPI's esm up to 3.2.",
        epilog="Example: python -m conversion.export my-model --layout split --out torch-model",
    )
    parser.add_argument("folder", type=read_path, help="checkpoint of an encoder or of a model")
    parser.add_argument("--layout", choices=LAYOUTS, required=True)
    parser.add_argument("--out", type=read_path, required=True, metavar="FOLDER")
    return parser


if __name__ == "__main__":
    sys.exit(main())
