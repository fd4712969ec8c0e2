import json
import os
import shutil
from pathlib import Path

import pytest
from labelled_proteins import LABELS, PROTEINS, write_csv
from reports import assert_refused, assert_report_files

from eqxesm.evaluation import evaluate_file, explore, explore_plots

HALF = write_csv(PROTEINS[::2], LABELS[::2])


@pytest.fixture
def no_work(monkeypatch):
    """Fail where a command starts to work before it has looked at the folder."""

    def work(*_, **__):
        raise AssertionError("worked before it looked at the folder")

    for module in (evaluate_file, explore):
        monkeypatch.setattr(module, "read_labelled", work)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", ["evaluate", "explore"])
@pytest.mark.parametrize(
    ("out", "part"),
    [
        ("p.csv", "p.csv: is a file"),
        ("p.csv/report", "p.csv/report: cannot be written"),
        (".", "holds broken, which eqxesm {command} did not write"),
        ("other", "other: holds {summary}, which eqxesm {command} did not write"),
        ("broken", "broken: holds {summary}, which"),
        ("pictures", "pictures: holds {picture}, which"),
        ("notes", "notes: holds notes.txt, which"),
        ("a" * 300, "cannot be written (File name too long)"),
    ],
)
def test_refuses_a_folder_before_the_work(command, out, part, run, write, tmp_path):
    names = {
        "evaluate": {"other": "explore", "summary": "metrics.json", "picture": "roc.png"},
        "explore": {"other": "evaluate", "summary": "explore.json", "picture": "lengths.png"},
    }[command]
    write("p.csv")
    for name, file, text in (
        ("other", names["summary"], json.dumps({"report": f"eqxesm {names['other']}"})),
        ("broken", names["summary"], "["),
        ("pictures", names["picture"], "mine"),
        ("notes", "notes.txt", "mine"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert_refused(run(command, "p.csv", "--out", out), part.format(command=command, **names))
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


@pytest.mark.usefixtures("no_work")
def test_refuses_a_folder_without_permission(run, write, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    result = run("evaluate", write("p.csv"), "--out", "report")
    assert_refused(result, "report: cannot be written (Permission denied)")
    assert os.listdir() == ["p.csv"]


@pytest.mark.usefixtures("few_resamples")
def test_an_earlier_report_is_replaced(run, write, evaluated, tmp_path):
    folder = Path(shutil.copytree(evaluated, tmp_path / "report"))
    old = json.loads((folder / "metrics.json").read_text())
    (folder / "by_identity.png").write_text("of another run")
    assert run("evaluate", write("half.csv", HALF), "--out", "report")[0] == 0
    new = json.loads((folder / "metrics.json").read_text())
    assert (old["all"]["proteins"], new["all"]["proteins"]) == (60, 30)
    assert_report_files(folder, "metrics.json", ["confusion", "roc", "reliability", "by_length"])
    assert sorted(os.listdir()) == ["half.csv", "report"]


@pytest.mark.usefixtures("no_pictures")
def test_an_earlier_exploration_is_replaced(run, write):
    assert run("explore", write("p.csv"), "--out", "report")[0] == 0
    for name in explore_plots.PICTURES:
        Path("report", f"{name}.png").write_text("of another run")
    assert run("explore", write("half.csv", HALF), "--out", "report")[0] == 0
    assert os.listdir("report") == ["explore.json"]
    found = json.loads(Path("report/explore.json").read_text())
    assert (found["all"]["proteins"], found["all"]["soluble"]) == (30, LABELS[::2].sum())
    assert sorted(os.listdir()) == ["half.csv", "p.csv", "report"]


@pytest.mark.usefixtures("no_pictures")
def test_a_full_disk_leaves_the_earlier_report(run, write, evaluated, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(evaluated, tmp_path / "report"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(folder, *_):
        (folder / "roc.png").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluate_file, "draw_evaluation", full)
    assert_refused(run("evaluate", write("p.csv"), "--out", "report"), "No space left on device")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(os.listdir()) == ["p.csv", "report"]
