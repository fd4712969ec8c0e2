"""Tables as text and as files, read back by other libraries."""

import csv
import json
import os
import sys
from pathlib import Path

import pandas
import pytest
from pyarrow import parquet

from eqxesm import tables
from eqxesm.errors import InputError

ROWS = [
    {"id": "a", "length": 12, "probability": 0.1 + 0.2, "soluble": False, "note": ""},
    {"id": "b c", "length": 0, "probability": None, "soluble": None, "note": 'said "no", twice'},
    {"id": "ü→蛋白", "length": 9, "probability": 1e-300, "soluble": True, "note": "two\nlines\tx"},
    {"id": "'\"',", "length": 2**53 + 1, "probability": 1.0, "soluble": True, "note": "None"},
]


def as_text(value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


@pytest.mark.parametrize(("ending", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_csv_and_tsv_are_read_back_by_the_csv_module(ending, delimiter, tmp_path):
    path = tmp_path / f"out.{ending}"
    tables.write_table(path, ROWS)
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        read = list(reader)
    assert reader.fieldnames == list(ROWS[0])
    assert read == [{name: as_text(value) for name, value in row.items()} for row in ROWS]
    assert [float(row["probability"]) for row in read if row["probability"]] == [
        row["probability"] for row in ROWS if row["probability"] is not None
    ]


def test_csv_is_read_back_by_pandas(tmp_path):
    tables.write_table(tmp_path / "out.csv", ROWS)
    frame = pandas.read_csv(tmp_path / "out.csv", keep_default_na=False, na_values={"probability": [""]})
    assert frame["note"].tolist() == [row["note"] for row in ROWS]
    assert frame["length"].tolist() == [row["length"] for row in ROWS]
    assert frame["probability"].isna().tolist() == [False, True, False, False]
    assert frame["probability"][0] == pytest.approx(0.1 + 0.2, rel=1e-15)


def test_json_lines_are_read_back(tmp_path):
    tables.write_table(tmp_path / "out.jsonl", ROWS)
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == ROWS
    assert "蛋白" in lines[2]


def test_parquet_is_read_back_with_its_types(tmp_path):
    tables.write_table(tmp_path / "out.parquet", ROWS)
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == ROWS
    assert [str(field.type) for field in table.schema] == [
        "string", "int64", "double", "bool", "string",
    ]  # fmt: skip


def test_text_is_aligned():
    rows = [
        {"id": "a", "length": 5, "probability": 0.12345, "soluble": True, "note": ""},
        {"id": "longer", "length": 12345, "probability": None, "soluble": None, "note": "x y"},
    ]
    assert tables.format_table(rows).split("\n") == [
        "id      length  probability  soluble  note",
        "a            5        0.123  yes",
        "longer   12345                        x y",
    ]


@pytest.mark.parametrize("first", [None, 1.0])
def test_a_column_of_numbers_may_start_with_a_blank(first):
    lines = tables.format_table([{"p": first}, {"p": 123.5}]).split("\n")
    assert lines == ["      p", "  1.000" if first else "", "123.500"]


def test_pairs_are_aligned():
    assert tables.format_pairs({"a": "1", "long": "2 3"}) == "a     1\nlong  2 3"


@pytest.mark.parametrize("name", ["out", "out.xlsx", "out.csv.gz", "out.json", ".csv"])
@pytest.mark.parametrize("function", [tables.check_output, lambda path: tables.write_table(path, ROWS)])
def test_refuses_unknown_endings(name, function, tmp_path):
    with pytest.raises(InputError, match=r"\.csv, \.tsv, \.jsonl, \.parquet"):
        function(tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nowhere/out.csv", "does not exist"),
        ("file/out.csv", "Not a directory"),
        ("folder.csv", "is a folder"),
        ("a" * 300 + "/out.csv", "File name too long"),
    ],
)
def test_refuses_places_that_cannot_be_written(name, part, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    for function in (tables.check_output, lambda path: tables.write_table(path, ROWS)):
        with pytest.raises(InputError, match=part):
            function(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.csv"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_refuses_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="no permission to write to its folder"):
            tables.check_output(tmp_path / "out.csv")
    finally:
        tmp_path.chmod(0o700)


def test_refuses_a_name_that_is_too_long(tmp_path):
    with pytest.raises(InputError, match="too long"):
        tables.write_table(tmp_path / ("a" * 300 + ".csv"), ROWS)
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old " * 1000)
    tables.write_table(path, ROWS[:1])
    assert json.loads(path.read_text()) == ROWS[0]
    assert os.listdir(tmp_path) == ["out.jsonl"]


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failure_leaves_what_was_there(step, ending, existing, tmp_path, monkeypatch):
    path = tmp_path / f"out.{ending}"
    if existing:
        path.write_text("old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(InputError, match="No space left on device"):
        tables.write_table(path, ROWS)
    monkeypatch.undo()
    assert {item.name: item.read_text() for item in Path(tmp_path).iterdir()} == (
        {path.name: "old"} if existing else {}
    )


def test_a_row_that_does_not_fit_leaves_nothing(tmp_path):
    for ending in ("csv", "parquet", "jsonl"):
        path = tmp_path / f"out.{ending}"
        path.write_text("old")
        with pytest.raises((KeyError, ValueError, TypeError)):
            tables.write_table(path, [*ROWS, {"id": object(), "other": object()}])
        assert path.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 3


def test_parquet_names_the_extra_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pyarrow is not installed.*eqxesm\[parquet\]"):
        tables.check_output(tmp_path / "out.parquet")
    tables.check_output(tmp_path / "out.csv")
