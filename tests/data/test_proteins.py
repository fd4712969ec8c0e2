"""Proteins of a file: their ids, labels and other fields, and rows that are chosen."""

import re

import pytest
from Bio import SeqIO
from protein_files import CSV, refusal

from eqxesm.data.protein import Columns, Protein
from eqxesm.data.proteins import read_proteins


def test_labels_of_fasta(write):
    path = write("p.fasta", ">a x A-0\nM\n>b y B-1\nM\n>c z-1 C-U\nM\n>d-1\nM\n")
    assert [protein.label for protein in read_proteins(path, labelled=True)] == [0, 1, None, 1]
    assert {protein.label for protein in read_proteins(path)} == {None}


def test_other_fields_of_a_table(write):
    path = write("p.csv", "id,sequence,fold, terms ,label,from,family\na,MKV,3, MIT ,1,A|B, x\nb,M,,,0,,\n")
    columns = Columns(source="from", license="terms", fold="fold", cluster="family")
    proteins = list(read_proteins(path, columns, labelled=True))
    assert proteins == [
        Protein("a", "MKV", 1, source="A|B", license="MIT", fold="3", cluster="x"),
        Protein("b", "M", 0),
    ]
    plain = list(read_proteins(path, labelled=True))
    assert plain == [Protein("a", "MKV", 1), Protein("b", "M", 0)]
    assert len({*proteins, *plain, *read_proteins(path)}) == 5


def test_rows_are_chosen_by_their_columns(write):
    path = write("p.csv", "sequence,terms,cv\nM, MIT ,0\nMK,MIT,1\nMKV,,0\n")

    def ids(*where: tuple[str, str]) -> list[str]:
        return [protein.id for protein in read_proteins(path, where=where, number_prefix="p:")]

    assert ids() == ["p:1", "p:2", "p:3"]
    assert ids(("terms", "MIT")) == ["p:1", "p:2"]
    assert ids(("terms", "")) == ["p:3"]
    assert ids(("terms", "MIT"), ("cv", "1")) == ["p:2"]
    assert "p.csv: no proteins found with terms=MIT, cv=2" in refusal(path, where=[("terms", "MIT"), ("cv", "2")])


def test_the_prefix_of_numbers_is_not_put_before_ids(write):
    path = write("p.csv", "id,sequence\n1,MKV\n")
    assert [protein.id for protein in read_proteins(path, number_prefix="p:")] == ["1"]


def test_refuses_columns_that_are_missing(write):
    path = write("p.csv", CSV)
    for columns in (Columns(fold="fold"), Columns(source="fold"), Columns(license="fold"), Columns(cluster="fold")):
        assert "no column 'fold'" in refusal(path, columns)
    assert "no column 'fold'" in refusal(path, where=[("fold", "1")])


def test_refuses_columns_of_fasta(write):
    path = write("p.fasta", ">a A-1\nM\n")
    for columns in (Columns(fold="fold"), Columns(source="fold"), Columns(license="fold"), Columns(cluster="fold")):
        assert re.search(r"p\.fasta: .*no column 'fold'", refusal(path, columns))
    assert re.search(r"p\.fasta: .*no column 'fold'", refusal(path, where=[("fold", "1")]))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.fasta", ">a A-1\nM\n>b c B-2\nM\n", r"line 3 \(b\): .*'B-2', expected a label: -0, -1 or -U"),
        ("p.fasta", ">a\nM\n", r"line 1 \(a\): .*expected a label: -0, -1 or -U"),
        ("p.csv", "sequence\nM\n", "no column 'label'"),
        ("p.csv", "sequence,label\nM,1\nM,yes\n", r"line 3 \(2\): label is 'yes', but earlier ones are 1 and 0"),
        ("p.csv", "sequence,label\nM,soluble\nM,1\n", r"label is '1', but earlier ones are soluble and insoluble"),
        ("p.csv", "sequence,label\nM,2\n", r"line 2 \(1\): label is '2', expected one of 1/0, true/false"),
        ("p.csv", "sequence,label\nM,0.5\n", r"line 2 \(1\): label is '0.5', expected one of 1/0, true/false"),
        ("p.csv", "sequence,label\nM,1e0\n", r"line 2 \(1\): label is '1e0', expected one of 1/0, true/false"),
    ],
)
def test_refuses_labels(write, name, content, said):
    path = write(name, content)
    message = refusal(path, labelled=True)
    assert re.search(said, message), message
    assert str(path) in message


@pytest.mark.parametrize(
    ("soluble", "insoluble"),
    [("1", "0"), ("1.0", "0.0"), ("1.", " 0 "), ("True", "FALSE"), ("yes", "No"), ("y", "n"), ("t", "f"),
     ("soluble", "Insoluble"), ("positive", "negative")],
)  # fmt: skip
def test_the_spellings_of_labels(write, soluble, insoluble):
    path = write("p.csv", f"sequence,label\nM,{soluble}\nMK,{insoluble}\nMKV,{soluble}\nMKVL,NaN\n")
    assert [protein.label for protein in read_proteins(path, labelled=True)] == [1, 0, 1, None]


def test_columns_of_other_names_are_not_ids_where_ids_must_differ(write):
    path = write("p.csv", "name,sequence\na,MKV\na,ML\n")
    assert [protein.id for protein in read_proteins(path)] == ["a", "a"]
    assert [protein.id for protein in read_proteins(path, number_prefix="p:")] == ["p:1", "p:2"]


def test_the_test_set_of_plm_sol(shared):
    path = shared / "plm_sol" / "test_dataset.fasta"
    proteins = list(read_proteins(path, labelled=True))
    assert len(proteins) == 4000
    assert sum(protein.label == 1 for protein in proteins) == 2000
    assert sum(protein.label == 0 for protein in proteins) == 2000
    with path.open() as file:
        expected = [Protein(record.id, str(record.seq)) for record in SeqIO.parse(file, "fasta")]
    assert list(read_proteins(path)) == expected


def test_the_training_pool(shared):
    columns = Columns(sequence="sequences", label="labels")
    proteins = list(read_proteins(shared / "train_pool" / "pool.csv", columns, labelled=True))
    assert len(proteins) == 23655
    assert {protein.label for protein in proteins} == {0, 1}
    assert proteins[-1].id == "23655"
