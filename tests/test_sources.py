import csv
import gzip
import os
import re
from dataclasses import replace
from pathlib import Path

import datasets
import pandas
import pytest

from eqxesm.checkpoint.schema import parse
from eqxesm.data.array_record import write_array_record
from eqxesm.data.hub_sets import read_hub_set
from eqxesm.data.records import LabelledProtein
from eqxesm.data.sources import Source, read_source
from eqxesm.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TABLE = """\
name,sequence,label,from,terms,cv,family
p1,MKV,1,A,MIT,0,x
p2,MKL,0,,,1,
p3,MKA,,B,MIT,0,y
p4,NAN,0,B,none stated,2,y
p5,MKI,1,B,MIT,0,y
"""
COLUMNS = Source(
    "t.csv",
    id_column="name",
    source_column="from",
    license_column="terms",
    fold_column="cv",
    cluster_column="family",
    license="CC0",
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """Where `datasets` keeps what it read."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder)
    return folder


@pytest.fixture
def table(tmp_path) -> Path:
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path


def refusal(source: Source, root: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_source(source, root)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_columns_of_a_table(table):
    read = read_source(COLUMNS, table)
    assert read.unlabelled == 1
    assert list(read.proteins) == [
        LabelledProtein("p1", "MKV", 1, "A", "MIT", "0", "x"),
        LabelledProtein("p2", "MKL", 0, "t", "CC0", "1", None),
        LabelledProtein("p4", "NAN", 0, "B", "none stated", "2", "y"),
        LabelledProtein("p5", "MKI", 1, "B", "MIT", "0", "y"),
    ]


@pytest.mark.parametrize(
    ("where", "folds", "ids", "unlabelled"),
    [
        (("terms=MIT",), (), ["p1", "p5"], 1),
        ((" terms = MIT ", "from=B"), (), ["p5"], 1),
        (("terms=",), (), ["p2"], 0),
        ((), ("1", "2"), ["p2", "p4"], 0),
        (("from=B",), ("0",), ["p5"], 1),
        (("from=B",), ("2", "1"), ["p4"], 0),
    ],
)
def test_rows_are_chosen(table, where, folds, ids, unlabelled):
    read = read_source(replace(COLUMNS, where=where, folds=folds), table)
    assert [protein.id for protein in read.proteins] == ids
    assert read.unlabelled == unlabelled


def test_ids_of_a_table_without_ids(table):
    plain = read_source(Source("t.csv"), table)
    assert [protein.id for protein in plain.proteins] == ["t:1", "t:2", "t:4", "t:5"]
    assert {(p.source, p.license, p.fold, p.cluster) for p in plain.proteins} == {
        ("t", None, None, None)
    }
    named = read_source(Source("t.csv", name="Set 1", where=("cv=0",)), table)
    assert [protein.id for protein in named.proteins] == ["Set 1:1", "Set 1:5"]
    assert named.proteins[0].source == "Set 1"


def test_ids_that_a_table_has(tmp_path):
    (tmp_path / "t.tsv").write_text("id\tsequence\tlabel\n7\tMKV\t1\n8\tMK\t0\n")
    assert [p.id for p in read_source(Source("t.tsv"), tmp_path).proteins] == ["7", "8"]
    (tmp_path / "t.tsv").write_text("no\tsequence\tlabel\n1\tMKV\t1\n2\tMK\t0\n")
    assert read_source(Source("t.tsv", id_column="no"), tmp_path).proteins[0].id == "1"


def test_fasta(tmp_path):
    (tmp_path / "p.fasta.gz").write_bytes(gzip.compress(b">1 x A-1\nMKV\n>2 A-U\nM\n>b A-0\nML\n"))
    read = read_source(Source("p.fasta.gz", license="MIT"), tmp_path)
    assert list(read.proteins) == [
        LabelledProtein("1", "MKV", 1, "p", "MIT"),
        LabelledProtein("b", "ML", 0, "p", "MIT"),
    ]
    assert read.unlabelled == 1


def test_an_absolute_path_stands_for_itself(table, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert len(read_source(Source(str(table / "t.csv")), elsewhere).proteins) == 4


def test_array_record(tmp_path):
    proteins = [LabelledProtein(f"p{i}", "MKV", i % 2, "A", fold=str(i % 3)) for i in range(9)]
    write_array_record(tmp_path / "p.arrayrecord", proteins)
    read = read_source(Source("p.arrayrecord", name="Large"), tmp_path)
    assert list(read.proteins) == proteins
    some = read_source(Source("p.arrayrecord", folds=("0", "2")), tmp_path)
    assert list(some.proteins) == [p for p in proteins if p.fold != "1"]
    message = refusal(Source("p.arrayrecord", license="MIT", where=("a=b",)), tmp_path)
    assert "leave out license, where" in message
    assert "check folds" in refusal(Source("p.arrayrecord", folds=("7",)), tmp_path)


def test_parsed_from_a_configuration():
    source = parse(Source, {"path": "a/b.csv.gz", "where": ["a=b", "c=d=e"]}, "data.training")
    assert source.title == "b"
    assert source.conditions == [("a", "b"), ("c", "d=e")]
    assert Source("owner/name", file="x_training.csv", revision=COMMIT).title == "x_training"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"path": ""}, "path is empty"),
        ({"path": "a/b", "file": "c.csv", "revision": "main"}, "'main'.*40 hexadecimal digits"),
        ({"path": "a/b", "file": "c.csv", "revision": COMMIT[:-1]}, "40 hexadecimal digits"),
        ({"path": "a/b", "file": "c.csv", "revision": COMMIT + "\n"}, "40 hexadecimal digits"),
        ({"path": "a.csv", "where": ["MIT"]}, "'MIT': write column=value"),
    ],
)
def test_refuses_values(values, said):
    with pytest.raises(InputError, match=f"data.training: .*{said}"):
        parse(Source, values, "data.training")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": "absent.csv"}, "absent.csv: no such file"),
        ({"where": ("licence=MIT",)}, "no column 'licence'"),
        ({"cluster_column": "cluster"}, "no column 'cluster'"),
        ({"where": ("terms=GPL",)}, r"of 5 proteins, none .*\(0 without one\).*check where"),
        ({"where": ("family=y", "terms=MIT"), "folds": ("2",)}, "of 5 proteins, none"),
        ({"id_column": "cv"}, "id '0' stands there twice"),
        ({"label_column": "from"}, "column 'from' holds 'A'"),
        ({"fold_column": None, "folds": ("0",)}, "no fold_column"),
        ({"file": "u.csv"}, "t.csv: a file: leave out file"),
        ({"revision": COMMIT}, "t.csv: a file: leave out file and revision"),
        ({"path": "folder"}, "folder: holds several files: name a CSV file of it as file"),
        ({"path": "folder", "file": "p.fasta"}, "name a CSV file of it as file"),
        ({"path": "folder", "file": "a.csv"}, "a.csv: no such file"),
        ({"path": "folder", "file": "a.csv", "revision": COMMIT}, "no revision: leave it out"),
        ({"path": "a/b/c", "file": "d.csv"}, "no such folder, and no name of a Hub data set"),
        ({"path": "a/b", "file": "c.csv"}, "a/b: .*must be pinned: give the commit as revision"),
    ],
)
def test_refuses(table, changes, said):
    (table / "folder").mkdir()
    message = refusal(replace(COLUMNS, **changes), table)
    assert re.search(said, message), message


def test_fasta_has_no_columns(tmp_path):
    (tmp_path / "p.fasta").write_text(">a A-1\nM\n")
    for changes in ({"where": ("a=b",)}, {"fold_column": "a"}, {"license_column": "a"}):
        assert "has no column 'a'" in refusal(Source("p.fasta", **changes), tmp_path)


TEXT = (
    'n,sequences,labels,x\n1,NA,1,\n2,NAN,0,\n3.5,nan,,"a, ""b"""\nNA,null,1,c\n'
    "5,TRUE,1, d \n6,INF,0,\n\n7, MK ,1,\n8,,0,\n"
)


def by_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_field_of_a_hub_set_is_text(tmp_path, cache, capfd):
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    records = read_hub_set(str(tmp_path), "a.csv", id_column="n", extra_columns=("x", "labels"))
    assert [
        (r.id, r.sequence, r.extra["labels"], "" if r.label is None else str(r.label))
        for r in records
    ] == [(row["n"], row["sequences"], row["labels"], row["labels"]) for row in by_csv(path)]
    assert [r.extra["x"] for r in records] == ["", "", 'a, "b"', "c", "d", "", "", ""]
    numbered = read_hub_set(str(tmp_path), "a.csv")
    assert [r.id for r in numbered] == [str(i) for i in range(1, 9)]
    assert os.listdir(tmp_path) == ["a.csv"]
    assert os.listdir(cache)
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


def test_one_text_column_of_words_for_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("sequences,labels\nINF,1\nNAN,0\nINF,1\n")
    assert [r.sequence for r in read_hub_set(str(tmp_path), "a.csv")] == ["INF", "NAN", "INF"]


def test_a_file_that_changed_is_read_again(tmp_path):
    path = tmp_path / "a.csv"
    for sequence in ("MKV", "MKVL"):
        path.write_text(f"sequences,labels\n{sequence},1\n")
        assert read_hub_set(str(tmp_path), "a.csv")[0].sequence == sequence


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"sequence,labels\nM,1\n", r"no columns \['sequences'\]: name those of its header"),
        (b"", "not read as CSV"),
        (b"sequences,labels\n", "not read as CSV"),
        (b"sequences,labels\nM\xff,1\n", "not read as CSV .*utf-8"),
        (b'sequences,labels\n"M,1\n', "not read as CSV"),
        (b"sequences,labels\nM,1\nM,yes\n", "row 2: column 'labels' holds 'yes': write 0, 1"),
    ],
)
def test_refuses_a_file_of_a_hub_set(tmp_path, content, said, capfd):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_hub_set(str(tmp_path), "a.csv")
    message = str(caught.value)
    assert re.search(rf"a\.csv: {said}", message), message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_refuses_an_id_that_is_empty(tmp_path):
    (tmp_path / "a.csv").write_text("id,sequences,labels\na,M,1\n ,M,1\n")
    with pytest.raises(InputError, match="row 2: no id in column 'id'"):
        read_hub_set(str(tmp_path), "a.csv", id_column="id")


HUB_SET = Source(
    "proteinea/solubility",
    file="solubility_training.csv",
    revision=COMMIT,
    sequence_column="sequences",
    label_column="labels",
)


def answer(commit: str) -> datasets.Dataset:
    table = datasets.Dataset.from_dict({"sequences": ["MKV", "NA"], "labels": ["1", "0"]})
    files = [{"filename": f"/cache/proteinea___solubility/default-1/0.0.0/{commit}/a.arrow"}]
    return type("Cached", (), {"cache_files": files, "__getitem__": lambda _, key: table[key]})()


def test_a_hub_set_is_asked_for_at_its_commit(monkeypatch, tmp_path):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return answer(COMMIT)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    read = read_source(HUB_SET, tmp_path)
    assert list(read.proteins) == [
        LabelledProtein("solubility_training:1", "MKV", 1, "solubility_training"),
        LabelledProtein("solubility_training:2", "NA", 0, "solubility_training"),
    ]
    (arguments, options) = asked[0]
    assert arguments == ("proteinea/solubility",)
    assert options["revision"] == COMMIT
    assert options["data_files"] == {"train": "solubility_training.csv"}
    assert options["split"] == "train"
    assert options["verification_mode"] == "no_checks"


def test_another_commit_in_the_cache_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: answer(COMMIT[::-1]))
    assert "something else was found" in refusal(HUB_SET, tmp_path)


def test_a_folder_of_the_same_name_is_not_the_hub_set(monkeypatch, tmp_path):
    folder = tmp_path / "elsewhere" / "proteinea" / "solubility"
    folder.mkdir(parents=True)
    (folder / "solubility_training.csv").write_text("sequences,labels\nMKV,1\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "something else was found" in refusal(HUB_SET, tmp_path)
    local = replace(HUB_SET, revision=None)
    assert len(read_source(local, tmp_path / "elsewhere").proteins) == 1


def test_offline_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    message = refusal(HUB_SET, tmp_path)
    assert f"proteinea/solubility@{COMMIT}: solubility_training.csv: the Hub" in message
    assert "OfflineModeIsEnabled" in message
    assert "give its folder as the path" in message


@pytest.mark.parametrize("file", ["solubility_testing.csv", "solubility_training_short_nc.csv"])
def test_folder_of_the_hub_sets_files(shared, file):
    columns = {"sequence_column": "sequences", "label_column": "labels"}
    read = read_source(Source("proteinea_solubility", file=file, **columns), shared)
    rows = by_csv(shared / "proteinea_solubility" / file)
    assert [(p.sequence, str(p.label)) for p in read.proteins] == [
        (row["sequences"], row["labels"]) for row in rows
    ]
    assert read == read_source(Source(f"proteinea_solubility/{file}", **columns), shared)


def test_training_pool_by_pandas(shared):
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
        LabelledProtein(
            f"pool:{index + 1}",
            row.sequences,
            int(row.labels),
            row.source,
            row.license,
            row.fold,
            row.cluster30,
        )
        for index, row in zip(frame.index, frame.itertuples(), strict=True)
    ]
    assert list(read_source(source, shared).proteins) == expected


def test_plm_sol_headers_carry_labels(shared):
    read = read_source(Source("plm_sol/test_dataset.fasta"), shared)
    assert (len(read.proteins), sum(p.label for p in read.proteins)) == (4000, 2000)
    assert read.proteins[0].source == "test_dataset"
