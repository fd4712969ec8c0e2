"""Give an encoder back to the torch world: `python -m conversion.export FOLDER --layout split`."""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conversion.layouts import Layout
from conversion.names import LAYOUTS, TABLE, Row
from conversion.port import skeleton
from conversion.sources import Tensor
from eqxesm import SolubilityModel, forms
from eqxesm.alphabet import CLS, EOS, MASK, PAD, VOCAB_SIZE
from eqxesm.checkpoint import tensors
from eqxesm.checkpoint.atomic import whole_folder
from eqxesm.checkpoint.format import misfits, named_leaves
from eqxesm.checkpoint.schema import CONFIG, check_sections, parse_type, read_config
from eqxesm.checkpoint.tensors import Spec
from eqxesm.encoders import ENCODERS, PRESETS, ESMCConfig
from eqxesm.encoders.esmc import SECTIONS
from eqxesm.encoders.layers import ROTARY_BASE
from eqxesm.encoders.lora import merge_lora
from eqxesm.errors import InputError

LEGACY_FILE = "data/weights/{name}_2024_12_v0.pth"
"""Where PyPI's `esm` looks below the folder of a release."""


@dataclass(frozen=True)
class Piece:
    """Some rows of a published tensor: one layer of one of our leaves."""

    row: Row
    layer: int | None


@dataclass(frozen=True)
class Held:
    """A tensor that is in memory, as one that is in a file."""

    array: np.ndarray

    @property
    def spec(self) -> Spec:
        """Shape and dtype."""
        return Spec(self.array.shape, self.array.dtype)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Give some of its rows."""
        return self.array[start:stop]


def plan(layout: Layout, config: ESMCConfig) -> dict[str, list[Piece]]:
    """List what every tensor of a layout is put together from.

    Args:
        layout: the layout.
        config: the architecture.

    Returns:
        Pieces in the order of their rows, by the tensor's name.
    """
    rows = [row for row in TABLE if config.lm_head or not row.ours.startswith("lm_head.")]
    pieces: dict[str, list[tuple[int, Piece]]] = defaultdict(list)
    for row in rows:
        stacked = row.ours.startswith("blocks.")
        for layer in range(config.layers if stacked else 1):
            index = row.part(layout.name).index
            piece = Piece(row, layer if stacked else None)
            pieces[layout.tensor(row, layer)].append((index, piece))
    return {
        name: [piece for _, piece in sorted(found, key=lambda item: item[0])]
        for name, found in pieces.items()
    }


def export(folder: Path, layout_name: str, out: Path) -> dict[str, Spec]:
    """Write an encoder of ours as a published checkpoint.

    Args:
        folder: an encoder's checkpoint, or that of a solubility model, whose encoder is taken,
            adapters merged into it.
        layout_name: one of `conversion.names.LAYOUTS`.
        out: where to.

    Returns:
        Shape and dtype of every tensor that was written, by its published name.

    Raises:
        InputError: the folder holds no ESM-C, or the other one cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: exists already: choose another folder")
    config, leaves = open_encoder(folder)
    layout = Layout(layout_name, bare=not config.lm_head and layout_name != "legacy")
    pieces = plan(layout, config)

    def rows(piece: Piece) -> tuple[Tensor, int, int]:
        leaf = leaves[piece.row.ours]
        if piece.layer is None:
            return leaf, 0, leaf.spec.shape[0]
        return leaf, piece.layer, piece.layer + 1

    def parts(name: str) -> Iterator[np.ndarray]:
        for piece in pieces[name]:
            leaf, start, stop = rows(piece)
            array = leaf.read(start, stop)
            yield array if piece.layer is None else array[0]

    specs = {}
    for name, found in pieces.items():
        leaf, _, _ = rows(found[0])
        shape = leaf.spec.shape if found[0].layer is None else leaf.spec.shape[1:]
        specs[name] = Spec((shape[0] * len(found), *shape[1:]), leaf.spec.dtype)
    dtype = next(iter(specs.values())).dtype.name
    with whole_folder(out) as partial:
        if layout_name == "legacy":
            _write_pth(partial / LEGACY_FILE.format(name=_size_name(config)), specs, parts)
        else:
            tensors.write_folder(partial, specs, parts)
        text = json.dumps(published_config(config, layout_name, dtype), indent=2)
        (partial / CONFIG).write_text(text + "\n")
    return specs


def _size_name(config: ESMCConfig) -> str:
    return next((name for name, preset in PRESETS.items() if preset == config), "esmc")


def open_encoder(folder: Path) -> tuple[ESMCConfig, Mapping[str, Tensor]]:
    """Find the ESM-C in a checkpoint of ours.

    Args:
        folder: that of an encoder, or of a solubility model around one.

    Returns:
        Its architecture, and its tensors by dotted name.

    Raises:
        InputError: there is none.
    """
    sections = read_config(folder)
    model = "head" in sections
    check_sections(folder, sections, forms.SECTIONS if model else SECTIONS)
    config, _ = parse_type(ENCODERS, sections["encoder"], f"{folder / CONFIG}: encoder")
    if not isinstance(config, ESMCConfig):
        raise InputError(f"{folder}: its encoder is no ESM-C, so there is nothing to export")
    if model and (sections["form"] != "full" or sections["adapter"] is not None):
        encoder = merge_lora(SolubilityModel.from_pretrained(folder).encoder)
        return config, {name: Held(np.asarray(x)) for name, x in named_leaves(encoder).items()}
    prefix = "encoder." if model else ""
    stored = tensors.open_folder(folder)
    found = {
        name.removeprefix(prefix): tensor
        for name, tensor in stored.items()
        if name.startswith(prefix)
    }
    if problems := misfits(found, skeleton(config)):
        raise InputError(f"{folder}: {'; '.join(problems)}: fetch or write it again")
    return config, found


def published_config(config: ESMCConfig, layout: str, dtype: str) -> dict[str, Any]:
    """Write `config.json` as those who publish a layout do.

    Args:
        config: the architecture.
        layout: one of `conversion.names.LAYOUTS`.
        dtype: precision of the weights.

    Returns:
        An object for `config.json`: for `split` that of transformers' `EsmcConfig`; for `fused`
        that of `biohub/ESMC-*` as first published; for `legacy` the arguments of PyPI's
        `esm.models.esmc.ESMC`.
    """
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


def _write_pth(
    file: Path, specs: Mapping[str, Spec], parts: Callable[[str], Iterable[np.ndarray]]
) -> None:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "the legacy layout is a .pth file, which takes torch to write: "
            "install eqxesm with its extra 'convert'"
        ) from error

    def tensor(name: str) -> "torch.Tensor":
        array = np.concatenate(list(parts(name)))
        if specs[name].dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    file.parent.mkdir(parents=True)
    torch.save({name: tensor(name) for name in specs}, file)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the program's name; those of the process by default.

    Returns:
        The exit status: 0, or 2 after an error.
    """
    parser = argparse.ArgumentParser(
        prog="python -m conversion.export",
        description="Write an ESM-C encoder of eqxesm, ported or fine-tuned, as torch programs load"
        " it: split for transformers >= 5.17 and esm >= 3.4, fused for biohub/ESMC-* as first"
        " published and esm >= 3.4, legacy for PyPI's esm up to 3.2.",
        epilog="Example: python -m conversion.export my-model --layout split --out torch-model",
    )
    parser.add_argument("folder", type=Path, help="a checkpoint of an encoder or of a model")
    parser.add_argument("--layout", choices=LAYOUTS, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        specs = export(options.folder, options.layout, options.out)
    except InputError as error:
        print(f"conversion.export: error: {error}", file=sys.stderr)
        return 2
    size = sum(spec.nbytes for spec in specs.values())
    print(f"wrote {options.out}: {options.layout} layout, {len(specs)} tensors, {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
