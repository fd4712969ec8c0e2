"""Recognising a published checkpoint by its keys, and checking that all of it is there."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conversion.names import LAYOUTS, TABLE, Row
from eqxesm.encoders import D_HEAD, PRESETS, ESMCConfig
from eqxesm.errors import InputError

PREFIX = "esmc."
"""What a checkpoint of the encoder with its LM head puts before the encoder's names."""

_MARKS = {
    "legacy": re.compile(
        r"transformer\.blocks\.(0|[1-9][0-9]{0,3})\.attn\.layernorm_qkv\.1\.weight"
    ),
    "fused": re.compile(
        r"(?:esmc\.)?transformer\.blocks\.(0|[1-9][0-9]{0,3})\.attn\.layernorm_qkv\.weight"
    ),
    "split": re.compile(r"(?:esmc\.)?layers\.(0|[1-9][0-9]{0,3})\.self_attn\.q_proj\.weight"),
}


@dataclass(frozen=True)
class Layout:
    """How a checkpoint names its tensors.

    Attributes:
        name: one of `conversion.names.LAYOUTS`.
        bare: whether it is an encoder without the `esmc.` prefix.
    """

    name: str
    bare: bool = False

    def tensor(self, row: Row, layer: int = 0) -> str:
        """Name the tensor that holds a leaf.

        Args:
            row: the leaf.
            layer: number of the block, for leaves that are stacked.

        Returns:
            The tensor's name in this layout.
        """
        name = row.part(self.name).name.format(n=layer)
        return name.removeprefix(PREFIX) if self.bare else name


def recognise(names: Iterable[str], where: str) -> Layout:
    """Tell the layout of a checkpoint by its keys.

    Args:
        names: names of its tensors.
        where: what to name as the place in an error.

    Returns:
        The layout.

    Raises:
        InputError: the keys are not those of an ESM-C checkpoint.
    """
    names = set(names)
    for layout in LAYOUTS:
        if any(_MARKS[layout].fullmatch(name) for name in names):
            bare = layout != "legacy" and not any(name.startswith(PREFIX) for name in names)
            return Layout(layout, bare)
    some = ", ".join(sorted(names)[:3]) or "no tensors at all"
    raise InputError(f"{where}: not an ESM-C checkpoint in any known layout; it holds {some}")


def infer_config(layout: Layout, shapes: Mapping[str, tuple[int, ...]], where: str) -> ESMCConfig:
    """Read the architecture off a checkpoint.

    Args:
        layout: its layout.
        shapes: shape of every tensor, by name.
        where: what to name as the place in an error.

    Returns:
        The architecture; heads are `d_model / 64`, since no tensor tells.

    Raises:
        InputError: a tensor that tells the architecture is missing or misshaped.
    """
    matches = (_MARKS[layout.name].fullmatch(name) for name in shapes)
    layers = 1 + max(int(match.group(1)) for match in matches if match)
    rows = {row.ours: row for row in TABLE}
    try:
        _, d_model = shapes[layout.tensor(rows["embedding"])]
        _, d_ffn = shapes[layout.tensor(rows["blocks.ffn.down.weight"])]
        head = layout.tensor(rows["lm_head.decoder.weight"]) in shapes
        return ESMCConfig(layers, d_model, d_model // D_HEAD, d_ffn, lm_head=head)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{where}: its {layout.name} layout lacks the tensors that tell the size ({error})"
        ) from error


def check(
    layout: Layout,
    config: ESMCConfig,
    shapes: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    where: str,
) -> None:
    """Refuse a checkpoint of which anything is missing, unknown or misshaped.

    Args:
        layout: its layout.
        config: its architecture.
        shapes: shape of every tensor in it, by name.
        wanted: shape of every leaf of our encoder, by dotted name.
        where: what to name as the place in an error.

    Raises:
        InputError: names every such tensor.
    """
    expected: dict[str, tuple[int, ...]] = {}
    for row in TABLE:
        if row.ours not in wanted:
            continue
        stacked = row.ours.startswith("blocks.")
        part = row.part(layout.name)
        shape = wanted[row.ours][1:] if stacked else wanted[row.ours]
        for layer in range(config.layers if stacked else 1):
            expected[layout.tensor(row, layer)] = (shape[0] * part.of, *shape[1:])
    problems = [f"missing {name}" for name in sorted(set(expected) - set(shapes))]
    problems += [f"unknown {name}" for name in sorted(set(shapes) - set(expected))]
    problems += [
        f"{name} has shape {list(shapes[name])}, not {list(expected[name])}"
        for name in sorted(set(shapes) & set(expected))
        if shapes[name] != expected[name]
    ]
    if problems:
        raise InputError(f"{where}: {len(problems)} tensors are wrong: {'; '.join(problems)}")


def check_size(size: str, config: ESMCConfig, where: str) -> None:
    """Refuse a checkpoint of another size than the one that was named.

    Args:
        size: the size that was asked for.
        config: the architecture that the checkpoint has.
        where: what to name as the place in an error.

    Raises:
        InputError: they differ.
    """
    if dataclasses.replace(config, lm_head=True) == PRESETS[size]:
        return
    found = [
        name
        for name, preset in PRESETS.items()
        if (preset.layers, preset.d_model) == (config.layers, config.d_model)
    ]
    hint = f"name {found[0]} instead" if found else f"that is none of {', '.join(PRESETS)}"
    raise InputError(
        f"{where}: holds {config.layers} layers of width {config.d_model} and feed-forward width "
        f"{config.d_ffn}, which is not {size}: {hint}"
    )
