"""Labelled sets come from the Hub by their commit, through the stock clients."""

import json
import subprocess
import sys

from hub_server import File, Repository
from test_hub import environment

NAME = "proteinea/solubility"
READ = """
import json, sys
from eqxesm.data.sources import Source, read_source
from eqxesm.errors import InputError
from pathlib import Path
try:
    source = Source(
        "proteinea/solubility", file=sys.argv[1], revision=sys.argv[2],
        sequence_column="sequences", label_column="labels",
    )
    read = read_source(source, Path())
    print(json.dumps([[p.sequence, p.label] for p in read.proteins]))
except InputError as error:
    print(error)
"""


def test_a_set_of_the_hub(hub, tmp_path):
    rows = [["MKVLA", 1], ["NA", 0], ["MSHHHHHHG", 1]]
    text = "sequences,labels\n" + "".join(f"{sequence},{label}\n" for sequence, label in rows)
    repository = Repository(private=False)
    commit = repository.commit(
        {f"solubility_{part}.csv": File(text.encode(), False)
         for part in ("training", "validation", "testing")},
        "main",
    )  # fmt: skip
    hub.repositories[f"datasets/{NAME}"] = repository

    def read(file: str, revision: str) -> str:
        result = subprocess.run(
            [sys.executable, "-c", READ, file, revision], cwd=tmp_path, text=True,
            env=environment(hub, tmp_path / "home"), capture_output=True,
            timeout=300, check=True,
        )  # fmt: skip
        return result.stdout

    assert json.loads(read("solubility_training.csv", commit)) == rows
    assert any(commit in path for _, path in hub.requests)
    for file, revision in (("solubility_training.csv", "0" * 40), ("nothing.csv", commit)):
        message = read(file, revision)
        assert message.startswith(f"{NAME}@{revision}: {file}: the Hub did not give it")
        assert len(message.splitlines()) == 1
