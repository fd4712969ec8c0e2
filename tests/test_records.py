import gzip
import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from Bio import SeqIO

from eqxesm.data.records import Record, read_records
from eqxesm.errors import InputError

DATA = Path(__file__).parents[2] / "shared" / "data"
PLM_SOL_TEST = DATA / "plm_sol" / "test_dataset.fasta"
POOL = DATA / "train_pool" / "pool.csv"

FASTA = ">a first protein\nMKV\nLLA\n\n>b\n>c|x y\nmk*-\tJ \n"
RECORDS = [Record("a", "MKVLLA"), Record("b", ""), Record("c|x", "mk*-J")]
CSV = "name,sequence,label\na,MKV,1\nb,,0\n\nc, mk ,\n"


@pytest.fixture
def write(tmp_path):
    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


def refusal(path, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_records(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def by_biopython(path: Path) -> list[Record]:
    with path.open() as file:
        return [Record(record.id, str(record.seq)) for record in SeqIO.parse(file, "fasta")]


@pytest.mark.parametrize("name", ["p.fasta", "p.fa", "p.faa", "p.fas", "P.FASTA", "p.txt", "p"])
def test_fasta_by_ending(write, name):
    assert read_records(write(name, FASTA)) == RECORDS


@pytest.mark.parametrize("name", ["p.fasta.gz", "p.fasta", "p"])
def test_gzip_is_told_by_its_content(write, name):
    assert read_records(write(name, gzip.compress(FASTA.encode()))) == RECORDS


@pytest.mark.parametrize("name", ["p.csv.gz", "p.CSV.GZ", "p.csv"])
def test_gzipped_table(write, name):
    path = write(name, gzip.compress(CSV.encode()))
    assert [record.sequence for record in read_records(path)] == ["MKV", "", " mk "]


@pytest.mark.parametrize("compress", [False, True])
def test_standard_input(monkeypatch, compress):
    data = gzip.compress(FASTA.encode()) if compress else FASTA.encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert read_records("-") == RECORDS


@pytest.mark.parametrize("content", [FASTA, CSV])
@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff" + text,
        lambda text: "\n\n" + text,
        lambda text: text.rstrip("\n"),
    ],
    ids=["crlf", "mac", "bom", "blank lines first", "no last line end"],
)
def test_spellings_of_one_file(write, content, spell):
    ending = ".csv" if content == CSV else ".fasta"
    plain, other = write(f"plain{ending}", content), write(f"other{ending}", spell(content))
    assert read_records(other) == read_records(plain)


def test_blanks_before_the_first_header_and_inside_a_sequence(write):
    assert read_records(write("p.fasta", " \n  >a\nM K\n V")) == [Record("a", "MKV")]


def test_same_records_as_biopython(write):
    text = "".join(f">p{i} number {i}\n{'MKVLAGHW' * i}\n{'C' * i}\n" for i in range(1, 30))
    path = write("p.fasta", text)
    assert read_records(path) == by_biopython(path)


def test_repeated_ids_come_through(write):
    assert [r.id for r in read_records(write("p.fa", ">a\nM\n>a\nM\n"))] == ["a", "a"]


def test_fasta_labels(write):
    path = write("p.fasta", ">a x A-0\nM\n>b y B-1\nM\n>c z-1 C-U\nM\n>d-1\nM\n")
    assert [record.label for record in read_records(path, labels=True)] == [0, 1, None, 1]
    assert {record.label for record in read_records(path)} == {None}


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_table(write, ending):
    text = CSV.replace(",", "\t") if ending == "tsv" else CSV
    path = write(f"p.{ending}", text)
    assert read_records(path) == [Record("1", "MKV"), Record("2", ""), Record("3", " mk ")]
    assert read_records(path, labels=True, id_column="name") == [
        Record("a", "MKV", 1),
        Record("b", "", 0),
        Record("c", " mk ", None),
    ]


def test_table_with_named_columns_and_quotes(write):
    path = write("p.csv", 'seq, soluble ,note\n"MKV",1,"a, ""b""\nc"\n')
    records = read_records(path, labels=True, sequence_column="seq", label_column="soluble")
    assert records == [Record("1", "MKV", 1)]


def test_extra_columns_come_along(write):
    path = write("p.csv", "id,sequence,fold, terms ,label\na,MKV,3, MIT ,1\nb,M,,,0\n")
    records = read_records(path, labels=True, extra_columns=("terms", "fold", "id"))
    assert records == [
        Record("a", "MKV", 1, {"terms": "MIT", "fold": "3", "id": "a"}),
        Record("b", "M", 0, {"terms": "", "fold": "", "id": "b"}),
    ]
    assert read_records(path)[0].extra == {}
    assert len({*records, *read_records(path, labels=True)}) == 4


def test_refuses_extra_columns_that_are_not_there(write):
    assert "no column 'fold'" in refusal(write("p.csv", CSV), extra_columns=("fold",))
    message = refusal(write("p.fasta", FASTA), extra_columns=("fold",))
    assert re.search(r"p\.fasta is read as FASTA, .*'fold'", message)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.fasta", "", "holds no records"),
        ("p.fasta", "\n \n", "holds no records"),
        ("p.fasta", gzip.compress(b"", mtime=0), "holds no records"),
        ("p.csv", "", "holds no records"),
        ("p.csv", "sequence\n", "holds no records"),
        ("p.fasta", "\n\nMKV\n", r"line 3 is not FASTA: .*'>'"),
        ("p.fasta", "id,sequence\na,MKV\n", r"line 1 is not FASTA: .*ends in \.csv or \.tsv"),
        ("p.txt", "id\tsequence\na\tMKV\n", r"line 1 is not FASTA: .*ends in \.csv or \.tsv"),
        ("p.fasta", "\n>a\nMKV\n> \nMKV\n", "line 4: a header with no id"),
        ("p.fasta", ">\nMKV\n", "line 1: a header with no id"),
        ("p.fasta", b">a\nMKV\n>b\xff\nM\n", "line 3 is not text"),
        ("p.fasta", b"\xef\xbb\xbf>a\nM\n>\xc3\xa9\n\xff", "line 4 is not text"),
        ("p.fasta", b">a\r\nMKV\r\n>b\0\r\nM\n", "line 3 is not text"),
        ("p.csv", ">a\nM\n".encode("utf-16"), "line 1 is not text"),
        ("p.csv", "name,seq\na,MKV\n", "no column 'sequence'.*there: 'name', 'seq'"),
        ("p.csv", "M" * 5000 + "\n", "no column 'sequence'.*'M{30}'$"),
        ("p.csv", "sequence,b\nMKV,1\nMKV\n", "line 3 has 1 field where the header has 2"),
        ("p.csv", "sequence,b\nMKV,1,2\n", "line 2 has 3 fields where the header has 2"),
        ("p.csv", 'sequence,b\n"MKV,1\n', r"line \d is malformed \(unexpected end of data\)"),
        ("p.csv", 'sequence,b\n"MKV"x,1\n', "line 2 is malformed"),
    ],
)
def test_refuses(write, name, content, said):
    message = refusal(write(name, content))
    assert re.search(said, message), message
    assert name in message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.fasta", ">a A-1\nM\n>b c B-2\nM\n", "line 3, record 'b': no label.*'B-2'"),
        ("p.fasta", ">a\nM\n", "line 1, record 'a': no label: end the header in -0, -1 or -U"),
        ("p.csv", "sequence\nM\n", "no column 'label'"),
        ("p.csv", "sequence,label\nM,1\nM,yes\n", "line 3, record '2': column 'label' holds 'yes'"),
        ("p.csv", "sequence,label\nM,2\n", "line 2, record '1': column 'label' holds '2'"),
    ],
)
def test_refuses_labels(write, name, content, said):
    path = write(name, content)
    message = refusal(path, labels=True)
    assert re.search(said, message), message
    assert str(path) in message


def test_refuses_ids_of_a_table(write):
    path = write("p.csv", "id,sequence\na,M\n ,M\n")
    assert "line 3: no id in column 'id'" in refusal(path, id_column="id")
    assert "no column 'name'" in refusal(path, id_column="name")


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:40] + b"x" * 60])
def test_refuses_damaged_gzip(write, damage):
    text = "".join(f">p{i}\nMKV{i * 7919}\n" for i in range(200))
    path = write("p.fasta.gz", damage(gzip.compress(text.encode())))
    assert f"{path}: the gzip data is corrupt or cut short" in refusal(path)


def test_refuses_what_it_cannot_open(tmp_path, monkeypatch):
    assert "absent.fasta: no such file" in refusal(tmp_path / "absent.fasta")
    assert "a folder, not a file" in refusal(tmp_path)
    assert "p.fasta/x: cannot be read (Not a directory)" in refusal(_touch(tmp_path) / "x")

    def deny(_):
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", deny)
    assert "no permission to read it" in refusal(tmp_path / "p.fasta")


def _touch(folder: Path) -> Path:
    path = folder / "p.fasta"
    path.touch()
    return path


def test_standard_input_is_named(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a,b\n")))
    assert refusal("-").startswith("standard input: line 1 is not FASTA")


@pytest.mark.skipif(not PLM_SOL_TEST.exists(), reason="the PLM_Sol test set is not here")
def test_plm_sol_test_set():
    records = read_records(PLM_SOL_TEST, labels=True)
    assert len(records) == 4000
    assert sum(record.label == 1 for record in records) == 2000
    assert sum(record.label == 0 for record in records) == 2000
    assert read_records(PLM_SOL_TEST) == by_biopython(PLM_SOL_TEST)


@pytest.mark.skipif(not POOL.exists(), reason="the training pool is not here")
def test_training_pool():
    records = read_records(POOL, labels=True, sequence_column="sequences", label_column="labels")
    assert len(records) == 23655
    assert {record.label for record in records} == {0, 1}
    assert records[-1].id == "23655"
