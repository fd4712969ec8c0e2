"""Layouts: recognising one by its keys, and checking that a checkpoint has exactly its tensors."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from eqxesm.alphabet import VOCAB_SIZE
from eqxesm.checkpoint.leaves import compare_shapes
from eqxesm.encoders.config import D_HEAD, PRESETS, ESMCConfig
from eqxesm.encoders.published.table import LAYOUTS, TABLE, Row
from eqxesm.errors import InputError, pluralise

Shapes = Mapping[str, tuple[int, ...]]

PREFIX = "esmc."
"""Prefix of the encoder's names in a checkpoint that has the LM head too."""

_MARKS = {
    "legacy": re.compile(r"transformer\.blocks\.(0|[1-9][0-9]{0,3})\.attn\.layernorm_qkv\.1\.weight"),
    "fused": re.compile(r"(?:esmc\.)?transformer\.blocks\.(0|[1-9][0-9]{0,3})\.attn\.layernorm_qkv\.weight"),
    "split": re.compile(r"(?:esmc\.)?layers\.(0|[1-9][0-9]{0,3})\.self_attn\.q_proj\.weight"),
}
"""A name that only this layout has."""


@dataclass(frozen=True)
class Layout:
    """How a checkpoint names its tensors. A bare one is an encoder without the LM head's prefix."""

    name: str
    bare: bool = False

    def tensor(self, row: Row, layer: int = 0) -> str:
        """Name of the tensor that holds a leaf."""
        name = row.part(self.name).name.format(n=layer)
        return name.removeprefix(PREFIX) if self.bare else name


@dataclass(frozen=True)
class LeafSlice:
    """One layer of one of our leaves, or the whole of an unstacked one (no layer)."""

    row: Row
    layer: int | None


def leaf_shapes(config: ESMCConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the leaves of an encoder."""
    sizes = {"v": VOCAB_SIZE, "d": config.d_model, "f": config.d_ffn}
    shapes = {}
    for row in rows_of(config):
        shape = tuple(sizes[axis] for axis in row.shape.split())
        shapes[row.ours] = (config.layers, *shape) if row.is_stacked else shape
    return shapes


def rows_of(config: ESMCConfig) -> list[Row]:
    """The rows of the table that an encoder has."""
    return [row for row in TABLE if config.lm_head or not row.ours.startswith("lm_head.")]


def plan_tensors(layout: Layout, config: ESMCConfig) -> dict[str, list[LeafSlice]]:
    """What every tensor of a layout is concatenated from, along its rows."""
    slices: dict[str, list[tuple[int, LeafSlice]]] = defaultdict(list)
    for row in rows_of(config):
        for layer in range(config.layers) if row.is_stacked else (None,):
            index = row.part(layout.name).index
            slices[layout.tensor(row, layer or 0)].append((index, LeafSlice(row, layer)))
    return {name: [each for _, each in sorted(found, key=lambda item: item[0])] for name, found in slices.items()}


def planned_shape(slices: Sequence[LeafSlice], leaf: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a planned tensor, from that of a leaf it is made of."""
    rows, *rest = leaf if slices[0].layer is None else leaf[1:]
    return rows * len(slices), *rest


def find_layout(names: Collection[str]) -> Layout | None:
    """The layout of a checkpoint, if it is in one."""
    for layout in LAYOUTS:
        if any(_MARKS[layout].fullmatch(name) for name in names):
            bare = layout != "legacy" and not any(name.startswith(PREFIX) for name in names)
            return Layout(layout, bare)
    return None


def recognise(names: Iterable[str], where: str) -> Layout:
    """Tell the layout of a checkpoint by its keys."""
    names = set(names)
    if layout := find_layout(names):
        return layout
    some = ", ".join(sorted(names)[:3]) or "no tensors"
    raise InputError(f"{where}: not an ESM-C checkpoint in a known layout. It holds {some}.")


def infer_config(layout: Layout, shapes: Shapes, where: str) -> ESMCConfig:
    """Read the architecture off the shapes of a checkpoint."""
    matches = (_MARKS[layout.name].fullmatch(name) for name in shapes)
    layers = 1 + max(int(match.group(1)) for match in matches if match)
    rows = {row.ours: row for row in TABLE}
    try:
        _, d_model = shapes[layout.tensor(rows["embedding"])]
        _, d_ffn = shapes[layout.tensor(rows["blocks.ffn.down.weight"])]
        head = layout.tensor(rows["lm_head.decoder.weight"]) in shapes
        return ESMCConfig(layers, d_model, d_model // D_HEAD, d_ffn, lm_head=head)
    except (KeyError, ValueError) as error:
        raise InputError(f"{where}: {layout.name} layout, but its size cannot be inferred ({error})") from error


def check_tensors(layout: Layout, config: ESMCConfig, shapes: Shapes, where: str) -> None:
    """Refuse a checkpoint with missing, unknown or misshaped tensors, all named at once."""
    wanted = leaf_shapes(config)
    plan = plan_tensors(layout, config)
    expected = {name: planned_shape(slices, wanted[slices[0].row.ours]) for name, slices in plan.items()}
    if problems := compare_shapes(shapes, expected):
        raise InputError(f"{where}: {pluralise(len(problems), 'wrong tensor')}: {'; '.join(problems)}")


def check_size(size: str, config: ESMCConfig, where: str) -> None:
    """Refuse a checkpoint that is not of the size that was named."""
    sizes = {preset: name for name, preset in PRESETS.items()}
    found = sizes.get(dataclasses.replace(config, lm_head=True), "none of the published sizes")
    if found != size:
        sizes = f"{config.layers} layers of width {config.d_model}, feed-forward width {config.d_ffn}"
        raise InputError(f"{where}: not {size} but {found}: {sizes}")
