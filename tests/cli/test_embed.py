"""`eqxesm embed`: files that other libraries read, with what the encoder gives by hand."""

import functools
import os

import h5py
import numpy as np
import pytest
from commands import assert_refused
from pyarrow import parquet
from safetensors import safe_open
from safetensors.numpy import load_file

from eqxesm import ESMC, Tokenizer

FASTA = ">a one\nMKVLLAAG\n>b\nMKJ\nWW*\n>c,d\nGSHMWWYYFFPPL\n" + "".join(
    f">n{i}\n{'MKVLAGW' * 2}\n" for i in range(11)
)
CLEAN = {"a": "MKVLLAAG", "b": "MKXWW", "c,d": "GSHMWWYYFFPPL", **{f"n{i}": "MKVLAGW" * 2 for i in range(11)}}


def read_parquet(path) -> dict[str, np.ndarray]:
    return {row["id"]: np.array(row["embedding"]) for row in parquet.read_table(path).to_pylist()}


def read_hdf5(path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        assert all(each.attrs["original_id"] == name for name, each in file.items())
        return {name: each[()] for name, each in file.items()}


READERS = {"h5": read_hdf5, "hdf5": read_hdf5, "parquet": read_parquet, "safetensors": load_file}


@pytest.fixture
def embed(run, encoder_folder):
    return functools.partial(run, "embed", "--model", encoder_folder)


@pytest.fixture(scope="module")
def by_hand(encoder_folder):
    """Hidden states of residues, by id and layer."""
    encoder = ESMC.from_pretrained(encoder_folder)
    return {
        name: np.asarray(encoder(Tokenizer().encode(sequence), hidden_states=range(4)).hidden_states)[:, 1:-1]
        for name, sequence in CLEAN.items()
    }


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("ending", "pool", "layer"),
    [("h5", "mean", None), ("hdf5", "residue", 1), ("parquet", "residue", None), ("safetensors", "max", 2)],
)
def test_files_hold_what_the_encoder_gives(ending, pool, layer, embed, write, by_hand, tmp_path):
    words = ["--pool", pool, *([] if layer is None else ["--layer", layer])]
    status, out, err = embed(write("p.fasta", FASTA), "-o", f"out.{ending}", *words)
    assert (status, out) == (0, "")
    assert err.splitlines()[-1] == f"14 proteins embedded: out.{ending}"
    assert sorted(os.listdir(tmp_path)) == [f"out.{ending}", "p.fasta"]
    found = READERS[ending](tmp_path / f"out.{ending}")
    assert set(found) == set(CLEAN)
    for name, states in by_hand.items():
        states = states[-1 if layer is None else layer]
        expected = {"mean": states.mean(0), "max": states.max(0), "residue": states}[pool]
        assert found[name].shape == expected.shape
        np.testing.assert_allclose(found[name], expected, atol=2e-5)


@pytest.mark.parametrize("ending", ["h5", "parquet", "safetensors"])
def test_half_precision_is_stored_as_such(ending, embed, write, by_hand, tmp_path):
    assert embed(write("p.fasta", FASTA), "-o", f"out.{ending}", "--dtype", "float16")[0] == 0
    found = READERS[ending](tmp_path / f"out.{ending}")
    assert ending == "parquet" or found["a"].dtype == np.float16
    for name, states in by_hand.items():
        np.testing.assert_allclose(found[name], states[-1].mean(0).astype(np.float16), rtol=2e-3, atol=1e-3)


@pytest.mark.slow
def test_the_encoder_computes_in_the_precision_that_is_asked_for(embed, write, by_hand, encoder_folder, tmp_path):
    assert embed(write("p.fasta", FASTA), "-o", "out.h5", "--compute-dtype", "bfloat16", "--device", "cpu")[0] == 0
    found = read_hdf5(tmp_path / "out.h5")
    encoder = ESMC.from_pretrained(encoder_folder, dtype="bfloat16")
    for name, sequence in CLEAN.items():
        states = np.asarray(encoder(Tokenizer().encode(sequence)).embedding, np.float32)[1:-1]
        assert np.linalg.norm(found[name] - states.mean(0)) < 3e-2 * np.linalg.norm(states.mean(0))
        assert np.abs(found[name] - by_hand[name][-1].mean(0)).max() > 1e-4


@pytest.mark.usefixtures("small_blocks")
def test_files_say_what_they_are(embed, write, encoder_folder, tmp_path):
    expected = {"model": str(encoder_folder), "layer": "2", "pool": "mean", "dtype": "float32"}
    for ending in ("h5", "parquet", "safetensors"):
        embed(write("p.fasta", FASTA), "-o", f"out.{ending}", "--layer", "2")
    with h5py.File(tmp_path / "out.h5") as file:
        assert dict(file.attrs) == expected
    metadata = parquet.read_schema(tmp_path / "out.parquet").metadata
    assert {key: metadata[key.encode()].decode() for key in expected} == expected
    with safe_open(tmp_path / "out.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt", **expected}


@pytest.mark.parametrize("pool", ["mean", "max", "residue"])
def test_long_proteins_in_windows(pool, embed, write, encoder_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("eqxesm.embed.CONTEXT_RESIDUES", 40)
    sequence = "MKVLAWDEGH" * 6
    write("p.fasta", f">long\n{sequence}\n>short\nMKV\n")
    status, _, err = embed("p.fasta", "-o", "out.h5", "--windows", "--pool", pool)
    assert status == 0
    assert "record 1 (long): mean of 2 overlapping windows of 40 residues" in err
    encoder = ESMC.from_pretrained(encoder_folder)
    first, second = (np.asarray(encoder.features(Tokenizer().encode(sequence[i : i + 40])))[1:-1] for i in (0, 20))
    expected = np.concatenate([first[:20], (first[20:] + second[:20]) / 2, second[20:]])
    expected = {"mean": expected.mean(0), "max": expected.max(0), "residue": expected}[pool]
    np.testing.assert_allclose(read_hdf5(tmp_path / "out.h5")["long"], expected, atol=2e-5)
    _, _, err = embed("p.fasta", "-o", "whole.h5")
    assert "record 1 (long): longer than what ESM-C was trained on (40 residues)" in err


def test_what_is_left_out_is_told(embed, write, tmp_path):
    name = write("p.fasta", ">a\nMKV\n>b/1\nMKV\n>c\nMK1\n>a\nWWW\n>d\nMKL\n")
    status, _, err = embed(name, "-o", "out.h5")
    assert status == 0
    for part in (
        "record 2 (b/1): left out: '/' in the id, which HDF5 takes for a folder",
        "record 3 (c): left out: position 3: digit '1'",
        "record 4 (a): left out: duplicate id, first used by record 1\n",
        "2 proteins embedded, 3 left out: out.h5",
    ):
        assert part in err
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file) == {"a", "d"}
    assert_refused(embed(name, "-o", "strict.h5", "--strict"), "p.fasta, record 2 (b/1): '/' in the id")
    assert sorted(os.listdir(tmp_path)) == ["out.h5", "p.fasta"]
    assert embed(name, "-o", "out.parquet")[0] == 0
    assert set(read_parquet(tmp_path / "out.parquet")) == {"a", "b/1", "d"}


def test_more_proteins_than_safetensors_can_name_are_refused(embed, write, tmp_path, monkeypatch):
    monkeypatch.setattr("eqxesm.cli.embed.MOST_IN_SAFETENSORS", 13)
    name = write("p.fasta", FASTA)
    assert_refused(embed(name, "-o", "out.safetensors"), "over 13 proteins do not fit. Write .h5 or .parquet.")
    monkeypatch.setattr("eqxesm.cli.embed.MOST_IN_SAFETENSORS", 14)
    monkeypatch.setattr("eqxesm.checkpoint.tensors.MAX_HEADER", 1000)
    status, _, err = embed(name, "-o", "out.safetensors")
    assert status == 2
    assert err.endswith("error: 14 tensors are more than a safetensors file can name. Use another format.\n")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("ending", ["h5", "parquet", "safetensors"])
@pytest.mark.usefixtures("small_blocks")
def test_shards_make_the_whole(ending, embed, run, write, tmp_path):
    write("p.fasta", FASTA)
    embed("p.fasta", "-o", f"whole.{ending}")
    for number in (1, 2):
        assert embed("p.fasta", "-o", f"out.{ending}", "--shard", f"{number}/2")[0] == 0
    assert run("join", f"out.{ending}")[0] == 0
    whole, joined = (READERS[ending](tmp_path / f"{name}.{ending}") for name in ("whole", "out"))
    assert list(whole) == list(joined)
    for name in whole:
        np.testing.assert_array_equal(whole[name], joined[name])


def test_the_default_model_embeds(run, write, tmp_path):
    assert run("embed", write("p.fasta", ">a\nMKVLLAAG\n"), "-o", "out.h5")[0] == 0
    assert read_hdf5(tmp_path / "out.h5")["a"].ndim == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-o", "out.npz"], "unknown ending. Use one of .h5"),
        (["-o", "no/out.h5"], "its folder does not exist"),
        (["-o", "out.h5", "--layer", "4"], "layer 4 does not exist, expected 0 to 3"),
        (["-o", "p.fasta"], "unknown ending"),
        (["-o", "out.h5", "--device", "gpu:7"], "--device gpu:7: JAX sees no such GPU"),
        (["-o", "out.h5", "--device", "cuda"], "--device cuda: unknown. Use cpu, gpu"),
        (["-o", "out.h5", "--device", "gpu:0", "--ray", "auto"], "Ray chooses the GPU of each worker"),
    ],
)
def test_refuses_what_cannot_be(words, part, embed, write, tmp_path):
    assert_refused(embed(write("p.fasta", FASTA), *words), part)
    assert os.listdir(tmp_path) == ["p.fasta"]
