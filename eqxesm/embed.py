"""Embeddings of proteins: hidden states of an encoder, one by one or pooled, in memory or in a file."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from safetensors import safe_open

from eqxesm.alphabet import BREAK, CONTEXT_RESIDUES, Tokenizer, is_residue
from eqxesm.checkpoint import tensors
from eqxesm.data.cleaning import Cleaned, Cleaning
from eqxesm.data.windows import cut_windows
from eqxesm.encoders import AbstractEncoder, AbstractLanguageModel, chain_ids, residue_mask
from eqxesm.errors import InputError, at, missing_extra
from eqxesm.files import replace_file
from eqxesm.inference import Mapper, map_proteins
from eqxesm.records import Advance, Looked, Record, Worker
from eqxesm.sequences import as_sequence, as_text
from eqxesm.tables import import_parquet, join_tables
from heads.pooling import max_pool, mean_pool

POOLS: dict[str, Callable] = {"mean": mean_pool, "max": max_pool, "residue": lambda states, _: states}


class Represent(eqx.Module):
    """From tokens to a hidden state: of every token, or pooled over residues."""

    encoder: AbstractEncoder
    layer: int | None = eqx.field(static=True)
    pool: str = eqx.field(static=True)

    def __init__(self, encoder: AbstractEncoder, layer: int | None = None, pool: str = "mean"):
        """Refuse a layer that does not exist, and an unknown pool."""
        if pool not in POOLS:
            raise InputError(f"pool is {pool!r}, expected one of {', '.join(POOLS)}")
        if layer is not None:
            if not isinstance(encoder, AbstractLanguageModel):
                raise InputError(f"layer is {layer}, but an encoder of type {encoder.config.type} has no layers")
            last = encoder.config.layers
            if not -last - 1 <= layer <= last:
                raise InputError(f"layer {layer} does not exist, expected 0 to {last}")
        self.encoder = encoder
        self.layer = layer
        self.pool = pool

    def __call__(self, tokens: Int[Array, " length"]) -> Float[Array, "..."]:
        if self.layer is None or not isinstance(self.encoder, AbstractLanguageModel):
            states = self.encoder.features(tokens, chain_ids(tokens))
        else:
            states = self.encoder(tokens, chain_ids(tokens), hidden_states=(self.layer,)).hidden_states[0]
        return POOLS[self.pool](states.astype(jnp.float32), residue_mask(tokens))


def embed(
    encoder: AbstractEncoder,
    sequences: Iterable[Any],
    *,
    layer: int | None = None,
    pool: str = "mean",
    tokens_per_batch: int | None = None,
    progress: bool = False,
) -> list[Float[np.ndarray, "..."]]:
    """Embeddings of proteins, float32, in input order.

    Args:
        sequences: as for `SolubilityModel.predict`; nothing is stripped from them.
        layer: as transformers numbers them: 0 is the embedded sequence, the last, also -1, comes after the final norm.
            By default the encoder's features, which are the last layer.
        pool: `mean` or `max` over residues, `[d_model]`, or `residue`: a row for each, `[residues d_model]`.
    """
    tokens = []
    for number, sequence in enumerate(as_sequence(sequences, "sequences"), 1):
        with at(f"sequence {number}"):
            cleaned = Cleaning().clean_chains(as_text(sequence, "sequence"))
            tokens.append(Tokenizer().encode_apart(cleaned.sequence))
    function = Represent(encoder, layer, pool)
    found = map_proteins(function, tokens, tokens_per_batch=tokens_per_batch, progress=progress)
    return [_cut(states, each, pool) for states, each in zip(found, tokens, strict=True)]


def _cut(states: np.ndarray, tokens: np.ndarray, pool: str) -> np.ndarray:
    """The rows of residues, without <cls>, <eos> and padding."""
    return states[: len(tokens)][is_residue(tokens)] if pool == "residue" else states


class Embedder(Worker):
    """Embeds block after block of records: arrays by id. What is left out is logged."""

    refusal = "left out"

    def __init__(
        self,
        encoder: AbstractEncoder,
        cleaning: Cleaning,
        *,
        layer: int | None,
        pool: str,
        dtype: str,
        separator: str = "",
        windows: bool = False,
        strict: bool = False,
    ):
        """Make one. Ids must not have the letter `separator`. `windows` is for proteins that are too long for ESM-C."""
        super().__init__(strict=strict)
        self.weights = encoder
        self._mapper = Mapper(Represent(encoder, layer, pool))
        self.parameters = self._mapper.parameters
        self._cleaning = cleaning
        self._pool = pool
        self._dtype = np.dtype(dtype)
        self._separator = separator
        self._by_residue = Mapper(Represent(encoder, layer, "residue")) if windows else None

    def clean(self, sequence: str) -> Cleaned:
        cleaned = self._cleaning.clean_chains(sequence)
        if _longest_chain(cleaned.sequence) <= CONTEXT_RESIDUES:
            return cleaned
        note = f"longer than what ESM-C was trained on ({CONTEXT_RESIDUES:,} residues)"
        if self._by_residue is not None:
            windows = sum(len(cut_windows(len(chain), CONTEXT_RESIDUES)) for chain in cleaned.chains)
            note = f"mean of {windows} overlapping windows of {CONTEXT_RESIDUES:,} residues"
        return cleaned.add(note)

    def find_fault(self, record: Record, cleaned: Cleaned) -> str | None:  # noqa: ARG002
        if self._separator and self._separator in record.protein.id:
            return f"{self._separator!r} in the id, which HDF5 takes for a folder: write .parquet or .safetensors"
        return record.repeat

    def work(
        self, records: list[Record], looked: list[Looked], advance: Advance, more: bool
    ) -> dict[str, Float[np.ndarray, "..."]]:
        usable = self.pick_usable(records, looked)
        sequences = {record.protein.id: cleaned.sequence for record, cleaned in usable}
        longest = math.inf if self._by_residue is None else CONTEXT_RESIDUES
        whole = {
            name: Tokenizer().encode_apart(each) for name, each in sequences.items() if _longest_chain(each) <= longest
        }
        found = self._mapper(list(whole.values()), advance, more=more)
        states = {
            name: _cut(each, tokens, self._pool) for (name, tokens), each in zip(whole.items(), found, strict=True)
        }
        made = {}
        for name, sequence in sequences.items():
            values = states[name] if name in states else self._embed_windows(sequence, self._by_residue)
            made[name] = values.astype(self._dtype)
            if not np.isfinite(made[name]).all():
                advice = "Write float32, or fetch the model again."
                raise InputError(f"{name}: not all values are finite in {self._dtype}. {advice}")
        return made

    def _embed_windows(self, sequence: str, by_residue: Any) -> Float[np.ndarray, "..."]:
        """States of every residue, a mean over the windows that it is in, and then pooled."""
        states = np.concatenate([_average_windows(chain, by_residue) for chain in sequence.split(BREAK)])
        return {"mean": states.mean(0), "max": states.max(0), "residue": states}[self._pool]


def _longest_chain(sequence: str) -> int:
    return max(map(len, sequence.split(BREAK)))


def _average_windows(chain: str, by_residue: Any) -> Float[np.ndarray, "residues d_model"]:
    windows = cut_windows(len(chain), CONTEXT_RESIDUES)
    tokens = [Tokenizer().encode(chain[window]) for window in windows]
    found = by_residue(tokens, lambda _: None)
    total = np.zeros((len(chain), found[0].shape[1]), np.float32)
    seen = np.zeros((len(chain), 1), np.float32)
    for window, each, own in zip(windows, tokens, found, strict=True):
        total[window] += _cut(own, each, "residue")
        seen[window] += 1
    return total / seen


def import_h5py() -> Any:
    """Import h5py late: it is an extra."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise missing_extra("h5py", "hdf5") from error
    return h5py


def check_format(path: Path) -> None:
    """Refuse a format whose package is missing, before the work is done."""
    if path.suffix.lower() == ".parquet":
        import_parquet()
    elif path.suffix.lower() != ".safetensors":
        import_h5py()


def write_embeddings(path: Path, found: Mapping[str, Float[np.ndarray, "..."]], about: Mapping[str, str]) -> None:
    """Write arrays by id, whole or not at all, in the format that the file's ending names.

    `about` says what they are: attributes of HDF5, metadata of the others.
    """
    with replace_file(path) as partial:
        _WRITERS[path.suffix.lower()](partial, found, about)


def join_embeddings(paths: Sequence[Path], out: Path) -> None:
    """Join files of `write_embeddings` into one."""
    _JOINERS[paths[0].suffix.lower()](paths, out)


def _write_hdf5(path: Path, found: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    with import_h5py().File(path, "w") as file:
        file.attrs.update(about)
        for protein_id, values in found.items():
            file.create_dataset(protein_id, data=values).attrs["original_id"] = protein_id


def _join_hdf5(paths: Sequence[Path], out: Path) -> None:
    h5py = import_h5py()
    with h5py.File(out, "w") as joined:
        for path in paths:
            with h5py.File(path) as part:
                joined.attrs.update(part.attrs)
                for protein_id in part:
                    part.copy(protein_id, joined)


def _write_parquet(path: Path, found: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    import pyarrow

    ids, values = list(found), list(found.values())
    element = pyarrow.from_numpy_dtype(values[0].dtype) if values else pyarrow.float32()
    kind = pyarrow.list_(element) if not values or values[0].ndim == 1 else pyarrow.list_(pyarrow.list_(element))
    column = pyarrow.array([each if each.ndim == 1 else list(each) for each in values], kind)
    table = pyarrow.table({"id": pyarrow.array(ids, pyarrow.string()), "embedding": column})
    import_parquet().write_table(table.replace_schema_metadata(dict(about)), path)


def _write_safetensors(path: Path, found: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    specs = {name: tensors.TensorSpec(values.shape, values.dtype) for name, values in found.items()}
    tensors.write_file(path, specs, lambda name: [found[name]], about)


def _join_safetensors(paths: Sequence[Path], out: Path) -> None:
    stored = {name: tensor for path in paths for name, tensor in tensors.open_file(path).items()}
    with safe_open(paths[0], "np") as first:
        about = first.metadata()
    tensors.write_file(
        out, {name: each.spec for name, each in stored.items()}, lambda name: [stored[name].read()], about
    )


_WRITERS = {".h5": _write_hdf5, ".hdf5": _write_hdf5, ".parquet": _write_parquet, ".safetensors": _write_safetensors}
_JOINERS = {".h5": _join_hdf5, ".hdf5": _join_hdf5, ".parquet": join_tables, ".safetensors": _join_safetensors}
