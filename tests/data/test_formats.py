"""File formats: what they hold is read line by line, in any spelling, and faults are named by their place."""

import gzip
import io
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pytest
from Bio import SeqIO
from Bio.SeqIO.FastaIO import SimpleFastaParser
from hypothesis import given, settings
from hypothesis import strategies as st
from protein_files import CSV, refusal
from pyarrow import parquet

from eqxesm.data.formats import read_fasta
from eqxesm.data.protein import Columns, Protein
from eqxesm.data.proteins import read_proteins
from eqxesm.errors import InputError

FASTA = ">a first protein\nMKV\nLLA\n\n>b\n>c|x y\nmk*-\tJ \n"
NO_SEQUENCE = "no sequence: the cell holds nothing"
PROTEINS = [Protein("a", "MKVLLA"), Protein("b", ""), Protein("c|x", "mk*-J")]


def by_biopython(path: Path) -> list[Protein]:
    with path.open() as file:
        return [Protein(record.id, str(record.seq)) for record in SeqIO.parse(file, "fasta")]


def stand_in(monkeypatch, data: bytes) -> None:
    """Put bytes on standard input."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data))))


# -- which format -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["p.fasta", "p.fa", "p.faa", "p.fas", "P.FASTA", "p.txt", "p"])
def test_fasta_is_every_other_ending(write, name):
    assert list(read_proteins(write(name, FASTA))) == PROTEINS


@pytest.mark.parametrize("name", ["p.fasta.gz", "p.fasta", "p"])
def test_gzip_is_recognised_by_its_content(write, name):
    assert list(read_proteins(write(name, gzip.compress(FASTA.encode())))) == PROTEINS


@pytest.mark.parametrize("name", ["p.csv.gz", "p.CSV.GZ", "p.csv"])
def test_gzipped_tables(write, name):
    path = write(name, gzip.compress(CSV.encode()))
    assert [protein.sequence for protein in read_proteins(path)] == ["MKV", "", " mk "]


@pytest.mark.parametrize("compress", [False, True])
def test_standard_input(monkeypatch, compress):
    stand_in(monkeypatch, gzip.compress(FASTA.encode()) if compress else FASTA.encode())
    assert list(read_proteins("-")) == PROTEINS


# -- FASTA and tables ---------------------------------------------------------------------------


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
    assert list(read_proteins(other)) == list(read_proteins(plain))


def test_blanks_before_the_first_header_and_inside_a_sequence(write):
    assert list(read_proteins(write("p.fasta", " \n  >a\nM K\n V"))) == [Protein("a", "MKV")]


def test_same_records_as_biopython(write):
    text = "".join(f">p{i} number {i}\n{'MKVLAGHW' * i}\n{'C' * i}\n" for i in range(1, 30))
    path = write("p.fasta", text)
    assert list(read_proteins(path)) == by_biopython(path)


@settings(max_examples=300, deadline=None, database=None)
@given(st.text("a>M \t-\n").map(lambda text: f">{text}"))
def test_any_fasta_is_read_as_biopython_reads_it(text):
    expected = [(title.split(), "".join(sequence.split())) for title, sequence in SimpleFastaParser(io.StringIO(text))]
    records = read_fasta("p", iter(text.splitlines(keepends=True)))
    assert [(words, sequence) for _, words, sequence in records] == expected


def test_repeated_ids_are_kept(write):
    assert [protein.id for protein in read_proteins(write("p.fa", ">a\nM\n>a\nM\n"))] == ["a", "a"]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_tables(write, ending):
    text = CSV.replace(",", "\t") if ending == "tsv" else CSV
    path = write(f"p.{ending}", text)
    expected = [Protein("a", "MKV", 1), Protein("b", "", 0, remark=NO_SEQUENCE), Protein("c", " mk ", None)]
    assert list(read_proteins(path, Columns(id="name"), labelled=True)) == expected
    assert list(read_proteins(path)) == [replace(protein, label=None) for protein in expected]


def test_quotes_and_line_ends_inside_a_field(write):
    path = write("p.csv", 'seq, soluble ,note\n"MKV",1,"a, ""b""\nc"\nML,0,\n')
    proteins = list(read_proteins(path, Columns(label="soluble"), labelled=True))
    assert proteins == [Protein("1", "MKV", 1), Protein("2", "ML", 0)]


def test_refuses_two_columns_of_one_name_where_one_is_read(write):
    path = write("p.csv", "sequence,label,note,note\nMKV,1,a,b\n")
    assert list(read_proteins(path, labelled=True)) == [Protein("1", "MKV", 1)]
    path = write("p.csv", "sequence,label,sequence,label\nMKV,1,ML,0\n")
    assert refusal(path) == f"{path}: 2 columns have the same name, 'sequence'. Rename all but one."


RECORDS = [Protein("a", "MKV"), Protein("b", "ML")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_the_delimiter_is_found_whatever_the_ending_says(write, delimiter, ending):
    text = "id,sequence,yield\na,MKV,x\nb,ML,y\n".replace(",", delimiter)
    assert list(read_proteins(write(f"p.{ending}", text))) == RECORDS


@pytest.mark.parametrize(
    "text",
    [
        "# exported today, by hand\n\n,,\nid,sequence,note\na,MKV,\n,,\n# seen twice\nb,ML,x\n , ,\n,,\n\n",
        "#id,sequence,note\na,MKV,\nb,ML,#1\n",
        "ID,Sequence,Note\na,MKV,\nb,ML,\n",
        "Protein ID,aa-seq\na,MKV\nb,ML\n",
        "Entry,Length,Sequence\na,3,MKV\nb,2,ML\n",
        "sequence,name,Accession\nMKV,a,P1\nML,b,P2\n",
    ],
)
def test_comments_blank_rows_and_usual_names_of_columns(write, text):
    assert list(read_proteins(write("p.csv", text))) == RECORDS


def test_a_column_that_was_named_is_the_one_that_is_read(write, caplog):
    path = write("p.csv", "id,name,sequence,Seq 2\na,c,MKV,AA\n")
    with caplog.at_level("INFO"):
        assert list(read_proteins(path, Columns("Seq 2", id="name"))) == [Protein("c", "AA")]
        assert list(read_proteins(path, Columns("seq_2"))) == [Protein("a", "AA")]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: the sequence is read from column 'Seq 2' (--sequence-column names another)"
    ]
    assert "no column 'other'. Its columns: 'id', 'name', 'sequence', 'Seq 2'" in refusal(path, Columns("other"))
    assert "(--id-column, in a recipe id_column)" in refusal(path, Columns(id="other"))


def test_rows_that_are_numbered_are_said(write, caplog):
    assert [protein.id for protein in read_proteins(write("p.csv", "sequence,lab\nMKV,x\n"))] == ["1"]
    assert "no column of ids, so rows are numbered. Name one with --id-column." in caplog.text
    caplog.clear()
    list(read_proteins(write("q.csv", "sequence\nMKV\n")))
    assert not caplog.text


MISSING = ["NA", "nan", "NaN", "None", "null", "-", "#N/A", "n/a", "<NA>", '""""""', " ", "''", "."]


@pytest.mark.parametrize("word", MISSING)
def test_a_word_for_a_missing_sequence_is_no_protein_in_a_table(write, word):
    first, second = read_proteins(write("p.csv", f"id,sequence\na,{word}\nb,ML\n"))
    assert (first.id, first.sequence, second) == ("a", "", Protein("b", "ML"))
    assert first.remark.startswith("no sequence: the cell holds ")


@pytest.mark.parametrize("word", ["NA", "NAN", "NIL"])
def test_a_record_of_fasta_that_is_spelt_like_one_is_a_protein(write, word):
    assert list(read_proteins(write("p.fasta", f">a\n{word}\n"))) == [Protein("a", word)]


@pytest.mark.parametrize("word", MISSING)
def test_a_word_for_a_missing_label_is_none(write, word):
    path = write("p.csv", f"sequence,label\nMKV,1\nML,{word}\nMA,0\n")
    assert [protein.label for protein in read_proteins(path, labelled=True)] == [1, None, 0]


def test_a_sequence_longer_than_the_limit_of_csv(write):
    assert len(next(read_proteins(write("p.csv", f"sequence\n{'M' * 200_000}\n"))).sequence) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.fasta", "", "no proteins found"),
        ("p.fasta", "\n \n", "no proteins found"),
        ("p.fasta", gzip.compress(b"", mtime=0), "no proteins found"),
        ("p.csv", "", "no proteins found"),
        ("p.csv", "sequence\n", "no proteins found"),
        ("p.fasta", "\n\nMKV\n", r"line 3: not FASTA: .*'>'"),
        ("p.fasta", "id,sequence\na,MKV\n", r"line 1: not FASTA: .*ends in \.csv or \.tsv"),
        ("p.txt", "id\tsequence\na\tMKV\n", r"line 1: not FASTA: .*ends in \.csv or \.tsv"),
        ("p.fasta", b">a\nMKV\n>b\x81\nM\n", "line 3: not text"),
        ("p.fasta", b"\xef\xbb\xbf>a\nM\n>\xc3\xa9\n\x81", "line 4: not text"),
        ("p.fasta", b">a\r\nMKV\r\n>b\0\r\nM\n", "line 3: not text"),
        ("p.csv", ">a\nM\n".encode("utf-16"), r"is UTF-16 text\. Save it as UTF-8\.$"),
        ("p.fasta", b"PK\x03\x04 [Content_Types].xml xl/workbook.xml", r"is an Excel workbook\. Save it as CSV\.$"),
        ("p.jsonl", '{"id": "a", "sequence": "MKV"}\n', "line 1: not FASTA: JSON is not read"),
        ("p.csv", ">a\nMKV\n", r"is FASTA\. Give its name the ending \.fasta\.$"),
        ("p.fasta", b"PK\x03\x04 a.fasta", r"is a zip archive\. Unpack it\.$"),
        ("p.csv", gzip.compress(b"PK\x03\x04 a.csv", mtime=0), "is a zip archive"),
        ("p.tsv", b"\xd0\xcf\x11\xe0 more", r"is an Excel workbook\. Save it as CSV\.$"),
        ("p.csv", b"PAR1 more", r"is Parquet\. Give its name the ending \.parquet\.$"),
        ("p.fasta", b"%PDF-1.7", "is a PDF"),
        ("p.fasta", b"BZh91AY", "is compressed with bzip2"),
        ("p.csv", "name,aa\na,MKV\n", r"no column 'sequence'.* columns: 'name', 'aa'\. .*--sequence-column"),
        ("p.csv", "M" * 5000 + "\n", r"no column 'sequence'.*'M{30}'\."),
        ("p.csv", "M" * 5000 + ",1\n", "The first row seems to be a protein"),
    ],
)
def test_refuses_malformed_files(write, name, content, said):
    message = refusal(write(name, content))
    assert re.search(said, message), message
    assert name in message


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:40] + b"x" * 60])
def test_refuses_damaged_gzip(write, damage):
    text = "".join(f">p{i}\nMKV{i * 7919}\n" for i in range(200))
    path = write("p.fasta.gz", damage(gzip.compress(text.encode())))
    assert f"{path}: gzip data are corrupt or cut short" in refusal(path)


@pytest.mark.parametrize("name", ["absent.fasta", "absent.csv", "absent.parquet", "absent.arrayrecord", "absent.gb"])
def test_refuses_files_that_do_not_exist(tmp_path, name):
    assert refusal(tmp_path / name) == f"{tmp_path / name}: file not found"


def test_refuses_what_cannot_be_opened(tmp_path, write, monkeypatch):
    assert "is a folder. Name a file in it." in refusal(tmp_path)
    (tmp_path / "d.parquet").mkdir()
    assert "is a folder. Name a file in it." in refusal(tmp_path / "d.parquet")
    os.mkfifo(tmp_path / "fifo.csv")
    assert refusal(tmp_path / "fifo.csv") == f"{tmp_path / 'fifo.csv'}: is a named pipe. Name a file."
    assert "is a device or a socket" in refusal(Path("/dev/zero"))
    assert "has a NUL character in its name" in refusal(Path("a\0b"))
    path = write("p.fasta", "")
    assert "p.fasta/x: cannot be read (Not a directory)" in refusal(path / "x")

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("eqxesm.data.formats.open", deny, raising=False)
    assert "cannot be read (Permission denied)" in refusal(path)


def test_files_are_read_where_there_is_no_standard_input(write, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert list(read_proteins(write("p.fasta", FASTA))) == PROTEINS


def test_standard_input_is_named(monkeypatch):
    stand_in(monkeypatch, b"a,b\n")
    assert refusal("-").startswith("standard input, line 1: not FASTA")


# -- one by one ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start", "rest"),
    [("p.fasta", ">a\nMKV\n>b\n", "ML\n"), ("p.csv", "id,sequence\na,MKV\n", "b,ML\n")],
    ids=["fasta", "csv"],
)
def test_the_first_protein_comes_before_the_rest_is_written(tmp_path, name, start, rest):
    """A pipe stands for the file, as in a shell's <(command): reading on would wait for what is not written."""
    path = tmp_path / name
    reader, writer = os.pipe()
    path.symlink_to(f"/dev/fd/{reader}")
    proteins = read_proteins(path)
    with ThreadPoolExecutor(1) as pool:
        try:
            os.write(writer, start.encode())
            first = pool.submit(next, proteins).result(timeout=60)
            os.write(writer, rest.encode())
        finally:
            os.close(writer)
    assert [first, *proteins] == RECORDS
    os.close(reader)


@pytest.mark.parametrize(
    ("name", "start", "row", "bad", "said"),
    [
        ("p.fasta", "", ">p{}\nMKV\n", ">x\n\x81\n", "line 2002: not text"),
        ("p.tsv", "id\tsequence\n", "p{}\tMKV\n", "x\tM\0", "line 1002: not text"),
    ],
)
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_a_bad_last_line_fails_only_when_it_is_reached(write, name, start, row, bad, said, compress):
    text = start + "".join(row.format(i) for i in range(1000)) + bad
    data = text.encode("latin-1")
    read, proteins = [], read_proteins(write(name, gzip.compress(data) if compress else data))
    with pytest.raises(InputError, match=said):
        read.extend(proteins)
    # The last protein of FASTA is complete only when the next header is read.
    assert [protein.id for protein in read] == [f"p{i}" for i in range(len(read))]
    assert len(read) >= 999


@pytest.mark.parametrize(
    ("name", "text", "protein"),
    [
        ("p.fasta", ">a\nMKV\n> \nMA\n>b\nML\n", Protein("record_2", "MA", remark="header without an id")),
        (
            "p.csv",
            'id,sequence\na,MKV\nx,"MA\nb,ML\n',
            Protein("2", "", remark="line 3 is malformed (unexpected end of data): check its quotes"),
        ),
        (
            "p.csv",
            'id,sequence\na,MKV\nx,"M"A\nb,ML\n',
            Protein("2", "", remark="""line 3 is malformed (',' expected after '"'): check its quotes"""),
        ),
        (
            "p.csv",
            'id,sequence\na,MKV\n"x,MA\ny",MA\nb,ML\n',
            Protein("2", "", remark="the id spans several lines: check the quotes"),
        ),
        ("p.csv", "id,sequence\na,MKV\n ,MA\nb,ML\n", Protein("2", "MA", remark="no id, so the row's number is used")),
        ("p.csv", "id,sequence\na,MKV\nMA\nb,ML\n", Protein("2", "", remark="line 3 has 1 field, the header 2")),
        ("p.csv", "id,sequence\na,MKV\nx,MA,1\nb,ML\n", Protein("2", "", remark="line 3 has 3 fields, the header 2")),
        ("p.csv", "id,sequence\na,MKV\nx,\nb,ML\n", Protein("x", "", remark=NO_SEQUENCE)),
    ],
)
def test_a_bad_record_is_remarked_and_harms_no_other(write, name, text, protein):
    assert list(read_proteins(write(name, text))) == [RECORDS[0], protein, RECORDS[1]]


def test_comments_of_fasta_are_passed_over(write):
    assert list(read_proteins(write("p.fasta", "; made by hand\n>a\nMK\n# more\nV\n;\n>b\nML\n"))) == RECORDS


def test_text_of_windows_is_read_and_told(write, caplog):
    path = write("p.csv", "id,sequence\nSchl\xfcssel,MKV\nb,ML\n".encode("latin-1"))
    assert list(read_proteins(path)) == [Protein("Schlüssel", "MKV"), Protein("b", "ML")]
    assert [message.partition(", ")[2] for message in caplog.messages] == ["line 2: not UTF-8, read as Windows-1252"]


def test_words_for_a_missing_cluster_are_no_cluster(write):
    path = write("p.csv", "id,sequence,group\na,MKV,NA\nb,ML,nan\nc,MA,7\n")
    assert [p.cluster for p in read_proteins(path, Columns(id="id", cluster="group"))] == [None, None, "7"]


def test_inches_in_two_rows_do_not_join_them(write):
    path = write("p.csv", 'id,note,sequence\na,5" probe,MKV\nb,,ML\nc,6" probe,MA\n')
    assert [protein.id for protein in read_proteins(path)] == ["a", "b", "c"]


def test_the_line_of_excel_that_names_the_delimiter(write):
    path = write("p.csv", "sep=;\nid;sequence\na;MKV\n")
    assert list(read_proteins(path)) == [Protein("a", "MKV")]


def test_strings_of_parquet_that_are_not_marked_as_text(tmp_path):
    parquet.write_table(pyarrow.table({"id": [b"a"], "sequence": [b"MKV"]}), tmp_path / "p.parquet")
    assert list(read_proteins(tmp_path / "p.parquet")) == [Protein("a", "MKV")]


def test_a_damaged_end_of_parquet_fails_only_when_it_is_reached(tmp_path):
    path = tmp_path / "p.parquet"
    table = pyarrow.table({"sequence": [f"MKV{'L' * (i % 50)}" for i in range(140_000)]})
    parquet.write_table(table, path, row_group_size=70_000, use_dictionary=False)
    column = parquet.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    page = slice(column.data_page_offset + 40, column.data_page_offset + column.total_compressed_size)
    data[page] = bytes(page.stop - page.start)
    path.write_bytes(data)
    read, proteins = [], read_proteins(path)
    with pytest.raises(InputError, match=r"p\.parquet: not readable as Parquet \("):
        read.extend(proteins)
    assert [protein.id for protein in read] == [str(i + 1) for i in range(len(read))]
    assert len(read) > 60_000


# -- Parquet ------------------------------------------------------------------------------------


def write_parquet(path: Path, **columns: list) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_with_labels(tmp_path):
    path = write_parquet(tmp_path / "p.parquet", id=["a", "b", "c"], sequence=["MKV", "", " mk "], label=[1, 0, None])
    expected = [Protein("a", "MKV", 1), Protein("b", "", 0, remark=NO_SEQUENCE), Protein("c", " mk ", None)]
    assert list(read_proteins(path, labelled=True)) == expected
    assert list(read_proteins(path)) == [replace(protein, label=None) for protein in expected]


@pytest.mark.parametrize(
    "labels",
    [["1", "0", None], ["1", " 0", ""], [1.0, 0.0, None], [1.0, 0.0, float("nan")], [True, False, None]],
    ids=["text", "empty text", "fractions", "not a number", "true and false"],
)
def test_labels_of_any_type_of_column(tmp_path, labels):
    path = write_parquet(tmp_path / "p.parquet", sequence=["MKV", "ML", "MA"], label=labels)
    assert [protein.label for protein in read_proteins(path, labelled=True)] == [1, 0, None]


@pytest.mark.parametrize(("label", "said"), [("ja", "'ja'"), (2, "'2'"), (0.5, "'0.5'"), (float("inf"), "'inf'")])
def test_refuses_other_labels_of_parquet(tmp_path, label, said):
    path = write_parquet(tmp_path / "p.parquet", sequence=["MKV"], label=[label])
    assert f"p.parquet, row 1 (1): label is {said}" in refusal(path, labelled=True)


def test_named_columns_of_parquet_and_missing_values(tmp_path):
    path = write_parquet(
        tmp_path / "p.parquet",
        no=[7, 8, 9],
        seq=["MKV", None, "ML"],
        soluble=[1, 0, 1],
        cv=[0, None, 2],
        terms=pyarrow.array(["MIT", None, "MIT"]).dictionary_encode(),
        other=[[1], [], [2, 3]],
    )
    columns = Columns("seq", "soluble", "no", license="terms", fold="cv")
    proteins = [
        Protein("7", "MKV", 1, license="MIT", fold="0"),
        Protein("8", "", 0, remark=NO_SEQUENCE),
        Protein("9", "ML", 1, license="MIT", fold="2"),
    ]
    assert list(read_proteins(path, columns, labelled=True)) == proteins
    assert list(read_proteins(path, columns, labelled=True, where=[("terms", "MIT")])) == proteins[::2]
    assert [protein.id for protein in read_proteins(path, number_prefix="set:")] == ["set:1", "set:2", "set:3"]


def test_refuses_missing_columns_of_parquet(tmp_path):
    path = write_parquet(tmp_path / "p.parquet", name=["a"], sequence=["MKV"])
    assert f"{path}: no column 'label'. Its columns: 'name', 'sequence'." in refusal(path, labelled=True)
    assert "no column 'aa'" in refusal(path, Columns("aa"))
    assert "no column 'cv'" in refusal(path, Columns(fold="cv"))
    assert "no column 'terms'" in refusal(path, where=[("terms", "MIT")])


def test_a_missing_id_of_parquet_is_remarked(tmp_path):
    path = write_parquet(tmp_path / "p.parquet", id=["a", None], sequence=["MKV", "ML"])
    assert [(protein.id, bool(protein.remark)) for protein in read_proteins(path)] == [("a", False), ("2", True)]


def test_refuses_parquet_without_proteins(tmp_path):
    assert "no proteins found" in refusal(write_parquet(tmp_path / "p.parquet", sequence=pyarrow.array([], "string")))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: CSV.encode(), lambda _: b""])
def test_refuses_damaged_parquet(tmp_path, damage):
    path = write_parquet(tmp_path / "p.parquet", sequence=["MKV"] * 100)
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path}: not readable as Parquet (" in refusal(path)


# -- annotated formats --------------------------------------------------------------------------

GENBANK = """\
LOCUS       P1                        5 aa            linear   UNA 01-JAN-1980
DEFINITION  .
ACCESSION   P1
VERSION     P1.1
FEATURES             Location/Qualifiers
ORIGIN
        1 mkvll
//
"""
PDB = """\
HEADER    MADE UP                                 01-JAN-80   1ABC
SEQRES   1 A    3  MET LYS VAL
SEQRES   1 B    2  GLY TRP
"""
MMCIF = """\
data_1ABC
_entry.id 1ABC
loop_
_pdbx_poly_seq_scheme.asym_id
_pdbx_poly_seq_scheme.entity_id
_pdbx_poly_seq_scheme.seq_id
_pdbx_poly_seq_scheme.mon_id
_pdbx_poly_seq_scheme.pdb_strand_id
A 1 1 MET A
A 1 2 LYS A
A 1 3 VAL A
B 2 1 GLY B
B 2 2 TRP B
"""
UNIPROT = """\
<?xml version="1.0" encoding="UTF-8"?>
<uniprot xmlns="http://uniprot.org/uniprot">
<entry dataset="Swiss-Prot" created="2000-01-01" modified="2000-01-01" version="1">
<accession>P00001</accession><name>ONE</name>
<sequence length="3" mass="1" checksum="A" modified="2000-01-01" version="1">MKV</sequence>
</entry>
</uniprot>
"""
CHAINS = [Protein("A", "MKV"), Protein("B", "GW")]
ANNOTATED = {
    "p.gb": (GENBANK, [Protein("P1.1", "MKVLL")]),
    "p.gbk": (GENBANK * 2, [Protein("P1.1", "MKVLL")] * 2),
    "p.gp": (GENBANK, [Protein("P1.1", "MKVLL")]),
    "p.pdb": (PDB, CHAINS),
    "p.cif": (MMCIF, CHAINS),
    "p.xml": (UNIPROT, [Protein("P00001", "MKV")]),
}


@pytest.mark.parametrize("name", ANNOTATED)
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_annotated_formats(write, name, compress):
    text, proteins = ANNOTATED[name]
    path = write(f"{name}.gz", gzip.compress(text.encode())) if compress else write(name, text)
    assert list(read_proteins(path)) == proteins


@pytest.mark.parametrize("name", ANNOTATED)
@pytest.mark.parametrize("content", [b"", b"MKV\n", bytes(range(256))], ids=["empty", "text", "bytes"])
def test_refuses_what_is_not_in_an_annotated_format(write, name, content):
    path = write(name, content)
    assert re.match(rf"{path}: (not readable as [a-z-]+ \(.+\)|no proteins found)$", refusal(path))


def test_refuses_annotated_files_that_are_cut_short(write):
    assert "p.gb: not readable as genbank (" in refusal(write("p.gb", GENBANK[:100]))
    assert "p.xml: not readable as uniprot-xml (" in refusal(write("p.xml", UNIPROT[:-12]))
    assert "p.pdb.gz: gzip data are corrupt" in refusal(write("p.pdb.gz", gzip.compress(PDB.encode())[:-9]))
