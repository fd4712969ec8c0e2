"""Sources of labelled proteins as a recipe names them: their fields, and what is refused."""

import gzip
import re
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from array_records import write_proteins
from pyarrow import parquet

from eqxesm.config import parse
from eqxesm.data import array_record
from eqxesm.data.protein import Protein
from eqxesm.data.sources import Source, open_source
from eqxesm.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TABLE = """\
name,sequence,label,from,terms,cv,family
p1,MKV,1,A,MIT,0,x
p2,MKL,0,,,1,
p3,MKA,,B,MIT,0,y
p4,MNA,0,B,none stated,2,y
p5,MKI,1,B,MIT,0,y
"""
COLUMNS = {
    "id_column": "name",
    "source_column": "from",
    "license_column": "terms",
    "fold_column": "cv",
    "cluster_column": "family",
    "license": "CC0",
}


@pytest.fixture
def table(tmp_path) -> Path:
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path


def refusal(root: Path, *path: str, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_source(Source(*path, **fields), root)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_columns_of_a_table(table):
    assert list(open_source(Source("t.csv", **COLUMNS), table)) == [
        Protein("p1", "MKV", 1, "A", "MIT", "0", "x"),
        Protein("p2", "MKL", 0, "t", "CC0", "1", None),
        Protein("p4", "MNA", 0, "B", "none stated", "2", "y"),
        Protein("p5", "MKI", 1, "B", "MIT", "0", "y"),
    ]


@pytest.mark.parametrize(
    ("where", "folds", "ids"),
    [
        (("terms=MIT",), (), ["p1", "p5"]),
        ((" terms = MIT ", "from=B"), (), ["p5"]),
        (("terms=",), (), ["p2"]),
        ((), ("1", "2"), ["p2", "p4"]),
        (("from=B",), ("0",), ["p5"]),
        (("from=B",), ("2", "1"), ["p4"]),
    ],
)
def test_rows_are_chosen(table, where, folds, ids):
    proteins = open_source(Source("t.csv", **COLUMNS, where=where, folds=folds), table)
    assert [protein.id for protein in proteins] == ids


def test_rows_without_ids_are_numbered(table):
    plain = open_source(Source("t.csv"), table)
    assert [protein.id for protein in plain] == ["t:1", "t:2", "t:4", "t:5"]
    assert {(p.source, p.license, p.fold, p.cluster) for p in plain} == {("t", None, None, None)}
    named = open_source(Source("t.csv", name="Set 1", where=("cv=0",)), table)
    assert [protein.id for protein in named] == ["Set 1:1", "Set 1:5"]
    assert named[0].source == "Set 1"


def test_ids_of_a_table(tmp_path):
    (tmp_path / "t.tsv").write_text("id\tsequence\tlabel\n7\tMKV\t1\n8\tMK\t0\n")
    assert [p.id for p in open_source(Source("t.tsv"), tmp_path)] == ["7", "8"]
    (tmp_path / "t.tsv").write_text("no\tsequence\tlabel\n1\tMKV\t1\n2\tMK\t0\n")
    assert open_source(Source("t.tsv", id_column="no"), tmp_path)[0].id == "1"


def test_fasta(tmp_path):
    (tmp_path / "p.fasta.gz").write_bytes(gzip.compress(b">1 x A-1\nMKV\n>2 A-U\nM\n>b A-0\nML\n"))
    read = open_source(Source("p.fasta.gz", license="MIT"), tmp_path)
    assert list(read) == [Protein("1", "MKV", 1, "p", "MIT"), Protein("b", "ML", 0, "p", "MIT")]


def test_the_root_does_not_change_an_absolute_path(table, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert len(open_source(Source(str(table / "t.csv")), elsewhere)) == 4


def test_array_record(tmp_path):
    proteins = [Protein(f"p{i}", "MKV", i % 2, "A", fold=str(i % 3)) for i in range(9)]
    write_proteins(tmp_path / "p.arrayrecord", proteins)
    read = open_source(Source("p.arrayrecord", name="Large"), tmp_path)
    assert list(read) == proteins
    some = open_source(Source("p.arrayrecord", folds=("0", "2")), tmp_path)
    assert list(some) == [p for p in proteins if p.fold != "1"]
    message = refusal(tmp_path, "p.arrayrecord", license="MIT", where=("a=b",))
    assert "Leave out license, where" in message
    assert "no proteins in these folds" in refusal(tmp_path, "p.arrayrecord", folds=("7",))


def test_array_record_is_read_only_where_it_is_asked_for(tmp_path, monkeypatch):
    """As a whole once, for its folds; then one protein at a time."""
    proteins = [Protein(f"p{i}", "MKV", i % 2, "A", fold=str(i % 3)) for i in range(9)]
    write_proteins(tmp_path / "p.arrayrecord", proteins)
    whole = open_source(Source("p.arrayrecord"), tmp_path)
    some = open_source(Source("p.arrayrecord", folds=("2",)), tmp_path)
    asked = []
    parse_record = array_record._parse

    def note(place: str, record: bytes) -> Protein:
        asked.append(place.rpartition(" ")[2])
        return parse_record(place, record)

    monkeypatch.setattr(array_record, "_parse", note)
    assert (whole[3], some[1], len(whole), len(some)) == (proteins[3], proteins[5], 9, 3)
    assert asked == ["4", "6"]


def test_parquet(tmp_path):
    """The same rows as the CSV file, with numbers and missing values of their own types."""
    frame = pyarrow.table({
        "name": ["p1", "p2", "p3", "p4", "p5"],
        "sequence": ["MKV", "MKL", "MKA", "MNA", "MKI"],
        "label": [1, 0, None, 0, 1],
        "from": ["A", None, "B", "B", "B"],
        "terms": ["MIT", None, "MIT", "none stated", "MIT"],
        "cv": [0, 1, 0, 2, 0],
        "family": ["x", None, "y", "y", "y"],
    })  # fmt: skip
    parquet.write_table(frame, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text(TABLE)
    for changes in ({}, {"where": ("terms=MIT",)}, {"folds": ("1", "2")}):
        expected = open_source(Source("t.csv", **COLUMNS, **changes), tmp_path)
        assert open_source(Source("t.parquet", **COLUMNS, **changes), tmp_path) == expected
    assert [protein.id for protein in open_source(Source("t.parquet"), tmp_path)] == ["t:1", "t:2", "t:4", "t:5"]


def test_a_source_is_read_from_a_recipe():
    source = parse(Source, {"path": "a/b.csv.gz", "where": ["a=b", "c=d=e"]}, "data.training")
    assert source.title == "b"
    assert source.conditions == [("a", "b"), ("c", "d=e")]
    assert Source("owner/name", file="x_training.csv", revision=COMMIT).title == "x_training"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"path": ""}, "path is empty"),
        ({"path": "a/b", "file": "c.csv", "revision": "main"}, "'main'.*40 lowercase hexadecimal digits"),
        ({"path": "a/b", "file": "c.csv", "revision": COMMIT[:-1]}, "40 lowercase hexadecimal digits"),
        ({"path": "a/b", "file": "c.csv", "revision": COMMIT + "\n"}, "40 lowercase hexadecimal digits"),
        ({"path": "a.csv", "where": ["MIT"]}, "'MIT', expected column=value"),
    ],
)
def test_refuses_values_of_a_recipe(values, said):
    with pytest.raises(InputError, match=f"data.training: .*{said}"):
        parse(Source, values, "data.training")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": "absent.csv"}, "absent.csv: file not found"),
        ({"where": ("licence=MIT",)}, "no column 'licence'"),
        ({"cluster_column": "cluster"}, "no column 'cluster'"),
        ({"where": ("terms=GPL", "cv=0")}, "t.csv: no proteins found with terms=GPL, cv=0"),
        ({"where": ("family=y", "terms=MIT"), "folds": ("2",)}, r"where and folds \(0 proteins without a label\)"),
        ({"where": ("name=p3",)}, r"no labelled protein .*where and folds \(1 protein without a label\)"),
        ({"id_column": "cv"}, "id '0' appears twice"),
        ({"label_column": "from"}, r"line 2 \(p1\): label is 'A'"),
        ({"fold_column": None, "folds": ("0",)}, "no fold_column"),
        ({"file": "u.csv"}, "t.csv: is a file. Leave out file"),
        ({"revision": COMMIT}, "t.csv: is a file. Leave out file and revision"),
        ({"path": "folder"}, "folder: holds several files. Name one of its CSV files as file"),
        ({"path": "folder", "file": "p.fasta"}, "Name one of its CSV files as file"),
        ({"path": "folder", "file": "a.csv"}, "a.csv: file not found"),
        ({"path": "folder", "file": "a.csv", "revision": COMMIT}, "no revision. Leave it out"),
        ({"path": "a/b/c", "file": "d.csv"}, "folder not found, and not the name of a data set of the Hub"),
        ({"path": "a/b", "file": "c.csv"}, "a/b: .*a data set of the Hub needs a commit as revision"),
    ],
)
def test_refuses_sources(table, changes, said):
    (table / "folder").mkdir()
    message = refusal(table, **{"path": "t.csv", **COLUMNS, **changes})
    assert re.search(said, message), message


def test_refuses_columns_of_fasta(tmp_path):
    (tmp_path / "p.fasta").write_text(">a A-1\nM\n")
    for changes in ({"where": ("a=b",)}, {"fold_column": "a"}, {"license_column": "a"}):
        assert "has no column 'a'" in refusal(tmp_path, "p.fasta", **changes)


def test_the_training_pool_is_what_pandas_reads(shared):
    frame = pandas.read_csv(shared / "train_pool" / "pool.csv", dtype=str, keep_default_na=False)
    frame = frame[(frame["license"] == "MIT") & frame["fold"].isin(list("123"))]
    source = Source(
        "train_pool/pool.csv",
        sequence_column="sequences",
        label_column="labels",
        source_column="source",
        license_column="license",
        fold_column="fold",
        cluster_column="cluster30",
        where=("license=MIT",),
        folds=("1", "2", "3"),
    )
    expected = [
        Protein(f"pool:{index + 1}", row.sequences, int(row.labels), row.source, row.license, row.fold, row.cluster30)
        for index, row in zip(frame.index, frame.itertuples(), strict=True)
    ]
    assert list(open_source(source, shared)) == expected


def test_plm_sol_headers_carry_labels(shared):
    proteins = open_source(Source("plm_sol/test_dataset.fasta"), shared)
    assert (len(proteins), sum(p.label for p in proteins)) == (4000, 2000)
    assert proteins[0].source == "test_dataset"
