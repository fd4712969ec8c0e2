"""Labelled sets of the Hub, by their commit, and folders of the same files."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from hub_server import File, Repository, environment

from eqxesm.data.hub_sets import read_hub_rows
from eqxesm.data.protein import Columns, Protein
from eqxesm.data.proteins import to_proteins, wanted_columns
from eqxesm.data.sources import Source, open_source
from eqxesm.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "proteinea/solubility"
COLUMNS = {"sequence_column": "sequences", "label_column": "labels"}
HUB_SET = Source(NAME, file="solubility_training.csv", revision=COMMIT, **COLUMNS)
TEXT = (
    'n,sequences,labels,x\n1,NA,1,\n2,NAN,0,\n3.5,nan,,"a, ""b"""\nNA,null,1,c\n'
    "5,TRUE,1, d \n6,INF,0,\n\n7, MK ,1,\n8,,0,\n"
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """An empty cache of `datasets`."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder)
    return folder


def by_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_folder(folder: Path, columns: Columns) -> list[Protein]:
    """Read a.csv of a folder, proteins without a label included."""
    rows = read_hub_rows(str(folder), "a.csv", None, wanted_columns(columns, True, ()))
    return list(to_proteins(rows, columns, labelled=True))


def refusal(source: Source, root: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_source(source, root)
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- folders ------------------------------------------------------------------------------------


def test_every_field_is_text(tmp_path, cache, capfd):
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    rows = list(read_hub_rows(str(tmp_path), "a.csv", None, ["n", "sequences", "labels", "x"]))
    assert rows == [(f"{path}, row {number}", row) for number, row in enumerate(by_csv(path), 1)]
    proteins = read_folder(tmp_path, Columns("sequences", "labels", "n", fold="x"))
    assert [(p.id, p.sequence, "" if p.label is None else str(p.label)) for p in proteins] == [
        (row["n"], "" if row["sequences"] in ("NA", "NAN", "nan", "null") else row["sequences"], row["labels"])
        for row in by_csv(path)
    ]
    assert [protein.fold for protein in proteins] == [None, None, 'a, "b"', "c", "d", None, None, None]
    numbered = read_folder(tmp_path, Columns("sequences", "labels"))
    assert [protein.id for protein in numbered] == [str(i) for i in range(1, 9)]
    assert os.listdir(tmp_path) == ["a.csv"]
    assert os.listdir(cache)
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


def test_a_column_of_nothing_but_words_for_numbers_is_text(tmp_path):
    (tmp_path / "a.csv").write_text("sequences,labels\nINF,1\nMI,0\nINF,1\n")
    proteins = open_source(Source(str(tmp_path), file="a.csv", **COLUMNS), Path())
    assert [protein.sequence for protein in proteins] == ["INF", "MI", "INF"]


def test_a_file_that_changed_is_read_again(tmp_path):
    path = tmp_path / "a.csv"
    for sequence in ("MKV", "MKVL"):
        path.write_text(f"sequences,labels\n{sequence},1\n")
        assert open_source(Source(str(tmp_path), file="a.csv", **COLUMNS), Path())[0].sequence == sequence


def test_rows_of_a_folder_are_chosen(tmp_path):
    (tmp_path / "a.csv").write_text(TEXT)
    source = Source(str(tmp_path), file="a.csv", **COLUMNS, where=("x=",))
    assert [protein.id for protein in open_source(source, Path())] == ["a:1", "a:2", "a:6", "a:7", "a:8"]
    assert "no labelled protein matches where" in refusal(replace(source, where=("x=e",)), Path())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"sequence,labels\nM,1\n", r": no column \['sequences'\]"),
        (b"", ": not readable as CSV"),
        (b"sequences,labels\n", ": not readable as CSV"),
        (b"sequences,labels\nM\xff,1\n", ": not readable as CSV .*utf-8"),
        (b'sequences,labels\n"M,1\n', ": not readable as CSV"),
        (b"sequences,labels\nM,1\nM,yes\n", r", row 2 \(a:2\): label is 'yes', but earlier ones are 1 and 0"),
    ],
)
def test_refuses_files_of_a_folder(tmp_path, content, said, capfd):
    (tmp_path / "a.csv").write_bytes(content)
    message = refusal(Source(str(tmp_path), file="a.csv", **COLUMNS), Path())
    assert re.search(rf"a\.csv{said}", message), message
    assert capfd.readouterr() == ("", "")


def test_an_id_that_is_empty_becomes_the_number_of_the_row(tmp_path):
    (tmp_path / "a.csv").write_text("id,sequences,labels\na,M,1\n ,M,1\n")
    proteins = open_source(Source(str(tmp_path), file="a.csv", id_column="id", **COLUMNS), Path())
    assert [protein.id for protein in proteins] == ["a", "a:2"]


@pytest.mark.parametrize("file", ["solubility_testing.csv", "solubility_training_short_nc.csv"])
def test_a_folder_of_the_files_of_the_hub_set(shared, file):
    proteins = open_source(Source("proteinea_solubility", file=file, **COLUMNS), shared)
    rows = by_csv(shared / "proteinea_solubility" / file)
    assert [(p.sequence, str(p.label)) for p in proteins] == [(row["sequences"], row["labels"]) for row in rows]
    assert proteins == open_source(Source(f"proteinea_solubility/{file}", **COLUMNS), shared)


# -- the Hub ------------------------------------------------------------------------------------


def answer(commit: str) -> datasets.Dataset:
    """What `datasets` gives, with the commit in the name of its cache's folder."""
    table = datasets.Dataset.from_dict({"sequences": ["MKV", "MA"], "labels": ["1", "0"]})
    files = [{"filename": f"/cache/proteinea___solubility/default-1/0.0.0/{commit}/a.arrow"}]
    return type("Cached", (), {"cache_files": files, "__getitem__": lambda _, key: table[key]})()


def test_a_hub_set_is_asked_for_at_its_commit(monkeypatch, tmp_path):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return answer(COMMIT)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert list(open_source(HUB_SET, tmp_path)) == [
        Protein("solubility_training:1", "MKV", 1, "solubility_training"),
        Protein("solubility_training:2", "MA", 0, "solubility_training"),
    ]
    (arguments, options) = asked[0]
    assert arguments == (NAME,)
    assert options["revision"] == COMMIT
    assert options["data_files"] == {"train": "solubility_training.csv"}
    assert options["split"] == "train"
    assert options["verification_mode"] == "no_checks"


def test_refuses_another_commit_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: answer(COMMIT[::-1]))
    assert "another version was found" in refusal(HUB_SET, tmp_path)


def test_a_folder_of_the_same_name_is_not_the_hub_set(monkeypatch, tmp_path):
    folder = tmp_path / "elsewhere" / "proteinea" / "solubility"
    folder.mkdir(parents=True)
    (folder / "solubility_training.csv").write_text("sequences,labels\nMKV,1\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "another version was found" in refusal(HUB_SET, tmp_path)
    local = replace(HUB_SET, revision=None)
    assert len(open_source(local, tmp_path / "elsewhere")) == 1


def test_offline_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    message = refusal(HUB_SET, tmp_path)
    assert f"{NAME}@{COMMIT}: solubility_training.csv: the Hub did not give it" in message
    assert "OfflineModeIsEnabled" in message
    assert "download the file and name its folder" in message


READ = """
import json, sys
from eqxesm.data.sources import Source, open_source
from eqxesm.errors import InputError
from pathlib import Path
try:
    source = Source(
        "proteinea/solubility", file=sys.argv[1], revision=sys.argv[2],
        sequence_column="sequences", label_column="labels",
    )
    print(json.dumps([[protein.sequence, protein.label] for protein in open_source(source, Path())]))
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_the_stock_clients_get_a_set_from_the_hub(hub, tmp_path):
    """From a Hub on loopback, in a process that reads its address from the environment."""
    rows = [["MKVLA", 1], ["MA", 0], ["MSHHHHHHG", 1]]
    text = "sequences,labels\n" + "".join(f"{sequence},{label}\n" for sequence, label in rows)
    repository = Repository(private=False)
    parts = ("training", "validation", "testing")
    commit = repository.commit({f"solubility_{part}.csv": File(text.encode(), False) for part in parts}, "main")
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
