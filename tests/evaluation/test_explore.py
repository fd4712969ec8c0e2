import csv
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from reports import assert_report_files

from eqxesm.data.protein import Columns
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


def make_constructs(number=90):
    """Made-up proteins, of six constructs in turn."""
    rng = np.random.default_rng(0)
    names = [list(CONSTRUCTS)[i % len(CONSTRUCTS)] for i in range(number)]
    proteins = [
        "".join([start, *rng.choice(list(RESIDUES), rng.integers(30, 90)), end])
        for start, end in map(CONSTRUCTS.get, names)
    ]
    return names, proteins, rng.integers(2, size=number)


NAMES, PROTEINS, LABELS = make_constructs()


def table(proteins, labels):
    rows = zip(proteins, labels, strict=True)
    return "sequence,label\n" + "".join(f"{protein},{label}\n" for protein, label in rows)


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    (folder / "p.csv").write_text(table(PROTEINS, LABELS) + "mk1v,1\nMKV,\n")
    found = explore_file(folder / "p.csv", folder / "report")
    return folder / "report", found


def test_constructs_are_counted(explored):
    rows = {row["construct"]: row for row in explored[1]["constructs"]}
    assert set(rows) == set(CONSTRUCTS)
    assert {name: row["proteins"] for name, row in rows.items()} == Counter(NAMES)
    for name, row in rows.items():
        own = LABELS[np.array(NAMES) == name]
        assert row["soluble"] == own.sum()
        assert row["soluble_share"] == pytest.approx(own.mean())
        assert row["standard_error"] == pytest.approx(own.std() / np.sqrt(len(own)))


def test_what_is_left_out_is_reported(explored):
    found = explored[1]
    assert (found["all"]["proteins"], found["all"]["soluble"]) == (90, LABELS.sum())
    assert (found["not_used"], found["without_label"]) == (1, 1)
    (left_out,) = found["left_out"]
    assert left_out["id"] == "91"
    assert "digit '1'" in left_out["reason"]


def test_quantiles_of_length_by_class(explored):
    lengths = np.array([len(protein) for protein in PROTEINS])
    for label, name in ((1, "soluble"), (0, "insoluble")):
        own = sorted(lengths[label == LABELS].tolist())
        found = explored[1]["lengths"][name]
        assert (found["shortest"], found["longest"]) == (own[0], own[-1])
        assert found["median"] == np.median(own)
        assert found["25%"] == np.quantile(own, 0.25)
        assert list(found.values()) == sorted(found.values())


def test_residues_are_binned_by_frequency(explored):
    assert list(explored[1]["residues"]) == list(RESIDUES)
    for residue, rows in explored[1]["residues"].items():
        frequencies = np.array([protein.count(residue) / len(protein) for protein in PROTEINS])
        means = [row["frequency"] for row in rows]
        assert means == sorted(means)
        assert sum(row["proteins"] for row in rows) == 90
        assert sum(row["soluble"] for row in rows) == LABELS.sum()
        # The bins are in order, so a bin is known by the number of proteins before it.
        order, start = np.argsort(frequencies, kind="stable"), 0
        for row in rows:
            inside = order[start : start + row["proteins"]]
            assert row["frequency"] == pytest.approx(frequencies[inside].mean())
            assert row["soluble"] == LABELS[inside].sum()
            start += row["proteins"]
    # Gly is frequent enough for ten bins of about nine proteins each.
    numbers = [row["proteins"] for row in explored[1]["residues"]["G"]]
    assert len(numbers) == 10
    assert all(6 <= number <= 12 for number in numbers)


def test_the_report_holds_figures_and_pictures(explored):
    folder, found = explored
    assert_report_files(folder, "explore.json", explore_plots.PICTURES)
    written = json.loads((folder / "explore.json").read_text())
    assert written.pop("report") == "eqxesm explore"
    assert written.pop("pictures") == list(explore_plots.PICTURES)
    assert written == found


def test_pictures_show_the_numbers(explored):
    found = explored[1]
    panels = explore_plots._draw_residues(found).axes
    for axes, residue in zip(panels, RESIDUES, strict=True):
        assert axes.get_title(loc="left") == residue
        xs, ys = axes.containers[0].lines[0].get_data()
        rows = found["residues"][residue]
        assert list(xs) == pytest.approx([row["frequency"] for row in rows])
        assert list(ys) == [row["soluble_share"] for row in rows]
    (axes,) = explore_plots._draw_constructs(found).axes
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert sorted(labels) == sorted(f"{name} (n = 15)" for name in CONSTRUCTS)
    xs, ys = axes.containers[0].lines[0].get_data()
    shares = {row["construct"]: row["soluble_share"] for row in found["constructs"]}
    for x, y in zip(xs, ys, strict=True):
        assert shares[labels[int(y)].split(" (")[0]] == x
    (axes,) = explore_plots._draw_classes(found["all"]).axes
    assert [bar.get_width() for bar in axes.patches] == np.bincount(LABELS).tolist()
    lengths = np.array([len(protein) for protein in PROTEINS])
    (axes,) = explore_plots._draw_lengths(lengths, LABELS).axes
    for stairs, label in zip(axes.patches, (1, 0), strict=True):
        values, edges, _ = stairs.get_data()
        counts, _ = np.histogram(lengths[label == LABELS], edges)
        np.testing.assert_allclose(values, counts / counts.sum())
        assert counts.sum() == (label == LABELS).sum()


@pytest.mark.usefixtures("no_pictures")
def test_the_terminal_shows_constructs(run):
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


@pytest.mark.usefixtures("no_pictures")
def test_tables_and_fasta_give_the_same(run):
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


@pytest.mark.usefixtures("no_pictures")
def test_equal_frequencies_are_in_one_bin(tmp_path):
    # Only every third protein has a Trp: the others are one bin, whatever their number.
    proteins = [f"MAKLERV{'AW' if i % 3 == 0 else 'AA'}{'K' * (i % 2)}" for i in range(30)]
    (tmp_path / "p.csv").write_text(table(proteins, [i % 2 for i in range(30)]))
    found = explore_file(tmp_path / "p.csv", tmp_path / "report")["residues"]
    rows = [(row["frequency"], row["proteins"], row["soluble_share"]) for row in found["W"]]
    assert rows == [(0, 20, 0.5), (pytest.approx(1 / 10), 5, 1), (pytest.approx(1 / 9), 5, 0)]
    assert [(row["frequency"], row["proteins"]) for row in found["C"]] == [(0, 30)]


@pytest.mark.parametrize("proteins", [["MKV", "MKV"], ["A", "MKVLLAAGSH"], ["MKV" * 500] * 3])
def test_few_or_equal_proteins_can_be_explored(proteins, tmp_path):
    (tmp_path / "p.csv").write_text(table(proteins, [1, *[0] * (len(proteins) - 1)]))
    found = explore_file(tmp_path / "p.csv", tmp_path / "report")
    assert found["all"]["proteins"] == len(proteins)
    assert len(os.listdir(tmp_path / "report")) == 9


@pytest.mark.usefixtures("no_pictures")
def test_tags_go_with_the_label_in_the_pool(shared, tmp_path):
    """As the README of the data says."""
    path = shared / "train_pool" / "pool.csv"
    found = explore_file(path, tmp_path / "report", Columns(sequence="sequences", label="labels"))
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert found["all"]["proteins"] + found["not_used"] == len(rows)
    shares = {row["construct"]: row["soluble_share"] for row in found["constructs"]}
    assert shares["Met, N-terminal tag"] < 0.3 < 0.6 < shares["Met, C-terminal tag"]
