import csv
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from eqxesm.evaluation import explore_plots
from eqxesm.evaluation.explore import explore_file

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
CONSTRUCTS = {
    "Met, no tag": ("M", ""),
    "Met, C-terminal tag": ("M", "LEHHHHHH"),
    "Met, N-terminal tag": ("MGSSHHHHHHSSG", ""),
    "Met, both tags": ("MGSSHHHHHHSSG", "LEHHHHHH"),
    "no Met, no tag": ("G", ""),
    "no Met, N-terminal tag": ("GSSHHHHHHSSG", ""),
}


def make(number=90):
    """Make proteins up, of six constructs in turn."""
    rng = np.random.default_rng(0)
    names = [list(CONSTRUCTS)[i % len(CONSTRUCTS)] for i in range(number)]
    proteins = [
        "".join([start, *rng.choice(list(RESIDUES), rng.integers(30, 90)), end])
        for start, end in map(CONSTRUCTS.get, names)
    ]
    return names, proteins, rng.integers(2, size=number)


NAMES, PROTEINS, LABELS = make()


def table(proteins, labels):
    rows = zip(proteins, labels, strict=True)
    return "sequence,label\n" + "".join(f"{protein},{label}\n" for protein, label in rows)


@pytest.fixture
def plain(monkeypatch):
    """Draw nothing, where the pictures are not looked at."""
    monkeypatch.setattr("eqxesm.evaluation.explore.draw", lambda *_: None)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    (folder / "p.csv").write_text(table(PROTEINS, LABELS) + "mk1v,1\nMKV,\n")
    found = explore_file(folder / "p.csv", folder / "report")
    return folder / "report", found


def test_constructs_are_counted(done):
    rows = {row["construct"]: row for row in done[1]["constructs"]}
    assert set(rows) == set(CONSTRUCTS)
    assert {name: row["proteins"] for name, row in rows.items()} == Counter(NAMES)
    for name, row in rows.items():
        own = LABELS[np.array(NAMES) == name]
        assert row["soluble"] == own.sum()
        assert row["soluble_share"] == pytest.approx(own.mean())
        assert row["standard_error"] == pytest.approx(own.std() / np.sqrt(len(own)))


def test_all_and_what_is_left_out(done):
    found = done[1]
    assert (found["all"]["proteins"], found["all"]["soluble"]) == (90, LABELS.sum())
    assert (found["not_used"], found["without_label"]) == (1, 1)
    (left_out,) = found["left_out"]
    assert left_out["id"] == "91"
    assert "digit '1'" in left_out["reason"]


def test_lengths_by_class(done):
    lengths = np.array([len(protein) for protein in PROTEINS])
    for label, name in ((1, "soluble"), (0, "insoluble")):
        own = sorted(lengths[label == LABELS].tolist())
        found = done[1]["lengths"][name]
        assert (found["shortest"], found["longest"]) == (own[0], own[-1])
        assert found["median"] == np.median(own)
        assert found["25%"] == np.quantile(own, 0.25)
        assert list(found.values()) == sorted(found.values())


def test_residues_are_binned_by_frequency(done):
    assert list(done[1]["residues"]) == list(RESIDUES)
    for residue, rows in done[1]["residues"].items():
        frequencies = np.array([protein.count(residue) / len(protein) for protein in PROTEINS])
        means = [row["frequency"] for row in rows]
        assert means == sorted(means)
        assert sum(row["proteins"] for row in rows) == 90
        assert sum(row["soluble"] for row in rows) == LABELS.sum()
        # The bins follow each other, so that a bin is known by how many proteins stand below it.
        order, start = np.argsort(frequencies, kind="stable"), 0
        for row in rows:
            inside = order[start : start + row["proteins"]]
            assert row["frequency"] == pytest.approx(frequencies[inside].mean())
            assert row["soluble"] == LABELS[inside].sum()
            start += row["proteins"]
    # Gly is frequent enough for ten bins of about nine proteins each.
    numbers = [row["proteins"] for row in done[1]["residues"]["G"]]
    assert len(numbers) == 10
    assert all(6 <= number <= 12 for number in numbers)


def test_files(done):
    folder, found = done
    pictures = {f"{name}.{e}" for name in explore_plots.PICTURES for e in ("png", "svg")}
    assert set(os.listdir(folder)) == {"explore.json", *pictures}
    written = json.loads((folder / "explore.json").read_text())
    assert written.pop("report") == "eqxesm explore"
    assert written == found
    for name in explore_plots.PICTURES:
        assert imread(folder / f"{name}.png")[..., :3].std() > 0.05
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("}svg")


def test_pictures_show_the_numbers(done):
    found = done[1]
    panels = explore_plots._residues(found).axes
    for axes, residue in zip(panels, RESIDUES, strict=True):
        assert axes.get_title(loc="left") == residue
        xs, ys = axes.containers[0].lines[0].get_data()
        rows = found["residues"][residue]
        assert list(xs) == pytest.approx([100 * row["frequency"] for row in rows])
        assert list(ys) == [row["soluble_share"] for row in rows]
    (axes,) = explore_plots._constructs(found).axes
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert sorted(labels) == sorted(f"{name} (n = 15)" for name in CONSTRUCTS)
    xs, ys = axes.containers[0].lines[0].get_data()
    shares = {row["construct"]: row["soluble_share"] for row in found["constructs"]}
    for x, y in zip(xs, ys, strict=True):
        assert shares[labels[int(y)].split(" (")[0]] == x
    (axes,) = explore_plots._classes(found["all"]).axes
    assert [bar.get_width() for bar in axes.patches] == np.bincount(LABELS).tolist()
    lengths = np.array([len(protein) for protein in PROTEINS])
    (axes,) = explore_plots._lengths(lengths, LABELS).axes
    for stairs, label in zip(axes.patches, (1, 0), strict=True):
        values, edges, _ = stairs.get_data()
        counts, _ = np.histogram(lengths[label == LABELS], edges)
        np.testing.assert_allclose(values, counts / counts.sum())
        assert counts.sum() == (label == LABELS).sum()


@pytest.mark.usefixtures("plain")
def test_the_terminal(run):
    Path("p.csv").write_text(table(PROTEINS, LABELS) + "mk1v,1\n")
    status, out, err = run("explore", "p.csv", "--out", "report")
    assert status == 0
    header, *lines = out.splitlines()
    assert header.split() == ["construct", "proteins", "soluble", "soluble", "share"]
    assert len(lines) == 1 + len(CONSTRUCTS)
    assert lines[0].split() == ["all", "90", str(LABELS.sum()), f"{LABELS.mean():.3f}"]
    left_out, where = err.splitlines()
    assert left_out.startswith("1 protein left out, first 91: position 3: digit '1'")
    assert where == "report: report"
    assert run("explore", "p.csv", "--out", "report")[0] == 0


@pytest.mark.usefixtures("plain")
def test_columns_and_fasta(run):
    rows = zip(PROTEINS, LABELS, strict=True)
    Path("p.tsv").write_text("s\ty\n" + "".join(f"{s.lower()}*\t{y}\n" for s, y in rows))
    rows = zip(PROTEINS, LABELS, strict=True)
    Path("p.fasta").write_text("".join(f">a x-{y}\n{s}\n" for s, y in rows))
    Path("p.csv").write_text(table(PROTEINS, LABELS))
    columns = ["--sequence-column", "s", "--label-column", "y"]
    tables = [
        run("explore", "p.csv", "--out", "a"),
        run("explore", "p.tsv", *columns, "--out", "b"),
        run("explore", "p.fasta", "--out", "c"),
    ]
    assert len({(status, out) for status, out, _ in tables}) == 1
    reports = [json.loads(Path(name, "explore.json").read_text()) for name in "abc"]
    assert reports[0]["residues"] == reports[1]["residues"] == reports[2]["residues"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("sequence,label\nMKV,\nMKL,\n", "no protein has a label"),
        ("sequence\nMKV\n", "no column 'label'"),
        ("sequence,label\nMKV,1\nMKL,1\n", "have the label 1"),
        ("sequence,label\nMKV,3\n", "holds '3'"),
        ("sequence,label\nM1,1\nM2,0\n", "no labelled protein can be used"),
        ("", "holds no records"),
    ],
)
def test_bad_input(content, part, run):
    Path("p.csv").write_text(content)
    status, out, err = run("explore", "p.csv", "--out", "report")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert part in err
    assert os.listdir() == ["p.csv"]


def test_other_peoples_folders_are_left_alone(run):
    Path("p.csv").write_text(table(PROTEINS, LABELS))
    for name, file, text in (
        ("notes", "notes.txt", "mine"),
        ("other", "explore.json", '{"report": "eqxesm evaluate"}'),
    ):
        Path(name).mkdir()
        Path(name, file).write_text(text)
        status, _, err = run("explore", "p.csv", "--out", name)
        assert status == 2
        assert f"{name}: holds {file}" in err
        assert Path(name, file).read_text() == text
        assert os.listdir(name) == [file]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nowhere.csv", "--out", "report"], "nowhere.csv: no such file"),
        (["p.csv", "--out", "p.csv"], "p.csv: is a file"),
        (["p.csv", "--out", "p.csv/report"], "cannot be written"),
        (["p.csv", "--out", "."], "holds p.csv, which no earlier eqxesm explore wrote"),
        (["p.csv", "--out", "report", "--id-column", "no"], "no column 'no'"),
    ],
)
def test_paths_that_will_not_do(words, part, run):
    Path("p.csv").write_text(table(PROTEINS, LABELS))
    status, out, err = run("explore", *words)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("eqxesm: error: ")
    assert part in err
    assert os.listdir() == ["p.csv"]


@pytest.mark.usefixtures("plain")
def test_an_earlier_report_is_replaced(run, done, tmp_path):
    shutil.copytree(done[0], tmp_path / "report")
    Path("half.csv").write_text(table(PROTEINS[:45], LABELS[:45]))
    assert run("explore", "half.csv", "--out", "report")[0] == 0
    assert os.listdir("report") == ["explore.json"]
    found = json.loads(Path("report/explore.json").read_text())
    assert (found["all"]["proteins"], found["all"]["soluble"]) == (45, LABELS[:45].sum())
    assert sorted(os.listdir()) == ["half.csv", "report"]


@pytest.mark.usefixtures("plain")
def test_equal_frequencies_lie_in_one_bin(tmp_path):
    # Trp is in every third protein alone: the others are one bin, whatever their number.
    proteins = [f"MAKLERV{'AW' if i % 3 == 0 else 'AA'}{'K' * (i % 2)}" for i in range(30)]
    (tmp_path / "p.csv").write_text(table(proteins, [i % 2 for i in range(30)]))
    found = explore_file(tmp_path / "p.csv", tmp_path / "report")["residues"]
    rows = [(row["frequency"], row["proteins"], row["soluble_share"]) for row in found["W"]]
    assert rows == [(0, 20, 0.5), (pytest.approx(1 / 10), 5, 1), (pytest.approx(1 / 9), 5, 0)]
    assert [(row["frequency"], row["proteins"]) for row in found["C"]] == [(0, 30)]


@pytest.mark.parametrize("proteins", [["MKV", "MKV"], ["A", "MKVLLAAGSH"], ["MKV" * 500] * 3])
def test_few_or_uniform_proteins(proteins, tmp_path):
    (tmp_path / "p.csv").write_text(table(proteins, [1, *[0] * (len(proteins) - 1)]))
    found = explore_file(tmp_path / "p.csv", tmp_path / "report")
    assert found["all"]["proteins"] == len(proteins)
    assert len(os.listdir(tmp_path / "report")) == 9


@pytest.mark.usefixtures("plain")
def test_the_pool(shared, tmp_path):
    """What the data's README says of tags shows in the pool too."""
    path = shared / "train_pool" / "pool.csv"
    found = explore_file(
        path, tmp_path / "report", sequence_column="sequences", label_column="labels"
    )
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert found["all"]["proteins"] + found["not_used"] == len(rows)
    shares = {row["construct"]: row["soluble_share"] for row in found["constructs"]}
    assert shares["Met, N-terminal tag"] < 0.3 < 0.6 < shares["Met, C-terminal tag"]
