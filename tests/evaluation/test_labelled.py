import os

import numpy as np
import pytest
from labelled_proteins import LABELS, PROTEINS, write_csv
from reports import assert_refused

from eqxesm.evaluation.labelled import format_left_out, read_labelled


def test_only_the_first_left_out_are_named(write, tmp_path):
    bad = "".join(f"b{i},MK-V,{i % 2}\n" for i in range(25))
    proteins = read_labelled(tmp_path / write("p.csv", write_csv(PROTEINS, LABELS) + bad))
    described = proteins.describe_left_out()
    assert [item["id"] for item in described["left_out"]] == [f"b{i}" for i in range(20)]
    assert (described["not_used"], described["without_label"]) == (25, 0)
    assert format_left_out(described) == [f"25 proteins left out, first b0: {described['left_out'][0]['reason']}"]
    assert proteins.sequences == PROTEINS
    assert np.array_equal(proteins.labels, LABELS)


def test_sequences_are_in_upper_case_and_keep_their_tags(write, tmp_path):
    text = ">a x-1\nmgsshhhhhh\nJkv*\n>b y-0\nMKU\n>c z-U\nMKV\n"
    proteins = read_labelled(tmp_path / write("p.fasta", text))
    assert proteins.sequences == ["MGSSHHHHHHXKV", "MKU"]
    assert proteins.labels.tolist() == [1, 0]
    assert proteins.without_label == 1


UNUSABLE = [
    ("p.csv", "sequence,label\nMKV,2\nMKL,0\n", "line 2 (1): label is '2'"),
    ("p.csv", "sequence,label\nMKV,maybe\n", "label is 'maybe'"),
    ("p.csv", "aa,label\nMKV,1\nMKL,0\n", "no column 'sequence'"),
    ("p.csv", "sequence,soluble\nMKV,1\nMKL,0\n", "no column 'label'"),
    ("p.csv", "sequence\nMKV\n", "no column 'label'"),
    ("p.csv", "sequence,label\nMKV,1\nMKL,1\n", "all 2 usable proteins have label 1"),
    ("p.csv", "sequence,label\nMKV,1\nMK-,0\n", "all 1 usable proteins have label 1"),
    ("p.csv", "sequence,label\nMK-,1\nM1,0\n", "no labelled protein can be used, first 1"),
    ("p.csv", "sequence,label\nMKV,\nMKL,\n", "no protein has a label"),
    ("p.csv", "sequence,label\n", "no proteins found"),
    ("p.csv", "", "no proteins found"),
    ("p.fasta", "", "no proteins found"),
    ("p.fasta", ">a\nMKV\n", "header ends in 'a', expected a label: -0, -1 or -U"),
    ("p.fasta", ">a x-U\nMKV\n", "no protein has a label"),
]


@pytest.mark.parametrize("command", ["evaluate", "explore"])
@pytest.mark.parametrize(("name", "content", "part"), UNUSABLE)
def test_refuses_a_file_without_usable_proteins(command, name, content, part, run, write):
    assert_refused(run(command, write(name, content), "--out", "report"), name, part)
    assert os.listdir() == [name]


def test_refuses_proteins_that_the_model_leaves_one_class_of(run, write):
    write("p.csv", f"sequence,label\nMKV,1\n{'A' * 2500},0\n")
    assert_refused(run("evaluate", "p.csv", "--out", "report"), "p.csv", "all 1 usable proteins have label 1")
    assert os.listdir() == ["p.csv"]
    # Without a model the long one can be used.
    assert read_labelled("p.csv").labels.tolist() == [1, 0]


@pytest.mark.parametrize("command", ["evaluate", "explore"])
@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nowhere.csv"], "nowhere.csv: file not found"),
        (["."], "is a folder"),
        (["p.csv", "--id-column", "no"], "p.csv: no column 'no'"),
    ],
)
def test_refuses_a_file_that_cannot_be_read(command, words, part, run, write):
    write("p.csv")
    assert_refused(run(command, *words, "--out", "report"), part)
    assert os.listdir() == ["p.csv"]
