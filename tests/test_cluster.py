"""On a cluster of two nodes, of which one is killed midway, every protein is worked on once."""

import contextlib
import json
import os
import threading
import time

import jax
import numpy as np
import pytest

from eqxesm import OneHot, SolubilityModel
from eqxesm.cli.main import main
from heads import CompositionMLP, CompositionMLPConfig

pytestmark = [
    pytest.mark.slow,
    # Ray starts nodes from this process, which has JAX's threads; nothing but their start happens in the fork.
    pytest.mark.filterwarnings("ignore:os.fork", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

COUNT = 600


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def proteins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eqxesm.records.MOST", 600)
    monkeypatch.setattr("eqxesm.records.FEWEST", 600)
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 90, COUNT)
    head = CompositionMLP(CompositionMLPConfig(OneHot().d_model, (4,)), key=jax.random.key(0))
    SolubilityModel(OneHot(), head).save_pretrained(tmp_path / "model")
    text = "".join(f">p{i}\n{''.join(rng.choice(list('MKVLAGWDE'), n))}\n" for i, n in enumerate(lengths))
    (tmp_path / "p.fasta").write_text(text + ">bad\nMK1\n>p0\nMKV\n")
    return tmp_path


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_node_that_dies_loses_nothing(cluster, proteins, capsys):
    second = cluster.add_node(num_cpus=2)
    assert main(["predict", "p.fasta", "--model", "model", "-o", "plain.jsonl"]) == 0
    parts = proteins / ".out.jsonl.parts"
    killed = []

    def kill():
        while not parts.is_dir() or len(os.listdir(parts)) < 8:
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)
        killed.append(len(os.listdir(parts)))

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    capsys.readouterr()
    assert main(["predict", "p.fasta", "--model", "model", "-o", "out.jsonl", "--ray", cluster.address]) == 0
    killer.join(10)
    assert killed
    assert killed[0] < 50
    assert "601 proteins predicted, 1 not predicted: see the notes: out.jsonl" in capsys.readouterr().err
    plain, found = read(proteins / "plain.jsonl"), read(proteins / "out.jsonl")
    assert [row["id"] for row in found] == [row["id"] for row in plain]
    for ours, theirs in zip(found, plain, strict=True):
        assert ours["note"] == theirs["note"]
        if theirs["probability"] is not None:
            assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-6)
    assert not parts.exists()


def test_a_refused_record_is_one_line(cluster, proteins, capsys):
    assert (
        main(["predict", "p.fasta", "--model", "model", "-o", "out.jsonl", "--strict", "--ray", cluster.address]) == 2
    )
    assert capsys.readouterr().err.startswith("eqxesm: error: p.fasta, record 601 (bad): position 3: digit '1'")
    with contextlib.suppress(FileNotFoundError):
        assert not (proteins / "out.jsonl").exists()
