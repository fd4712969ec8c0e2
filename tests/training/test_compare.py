"""Comparing encoders: tasks as they are read, the probe, the bootstrap, and what is written."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from eqxesm import ESMC, ESMCConfig, InputError, OneHot, Tokenizer
from eqxesm.cli.main import main
from eqxesm.training import compare as module
from eqxesm.training import compare_report
from eqxesm.training.compare import Comparison, NamedEncoder, featurise, predict_tests, run_comparison
from eqxesm.training.compare_report import describe
from eqxesm.training.recipe import read_recipe
from eqxesm.training.tasks import Task, read_task

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")
ESMC_CONFIG = ESMCConfig(layers=2, d_model=16, heads=2, d_ffn=24)


def make_rows(count: int, kind: str, seed: int) -> list[tuple[str, str]]:
    """Proteins that are rich in K, D or L, from which their labels follow."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        rich = "KDL"[rng.integers(3)]
        weights = np.where(np.isin(LETTERS, [rich]), 8.0, 1.0)
        sequence = "".join(rng.choice(LETTERS, rng.integers(30, 60), p=weights / weights.sum()))
        label = {
            "binary": str(int(rich == "K")),
            "classes": rich,
            "regression": f"{sequence.count('K') / len(sequence):.6f}",
            "residues": "".join("K" if letter == "K" else "-" if letter == "A" else "o" for letter in sequence),
        }[kind]
        rows.append((sequence, label))
    return rows


def write_table(path: Path, rows: list[tuple], header: str = "sequence,label") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")


@pytest.fixture
def tasks(tmp_path) -> dict[str, Task]:
    for kind in ("binary", "classes", "regression", "residues"):
        for seed, (name, count) in enumerate({"train": 60, "valid": 20, "test": 30}.items()):
            write_table(tmp_path / kind / f"{name}.csv", make_rows(count, kind, seed))
    return {kind: Task(kind, kind, kind) for kind in ("binary", "classes", "regression", "residues")}


def make_comparison(tmp_path: Path, tasks: dict[str, Task], **settings) -> Comparison:
    encoders = (NamedEncoder("one-hot", OneHot().config), NamedEncoder("random", ESMC_CONFIG, layers=True))
    values = {"data": module.Folder(str(tmp_path)), "seeds": 2, "name": "small", **settings}
    return Comparison(tuple(tasks.values()), encoders, "one-hot", **values)


@pytest.mark.parametrize("kind", ["binary", "classes", "regression", "residues"])
def test_composition_tells_what_composition_decides(tmp_path, tasks, kind):
    data = read_task(tasks[kind], tmp_path, 2046)
    features, _ = featurise(OneHot(), data, layers=False)
    predicted = predict_tests([each[0] for each in features], data, 2)
    metric = next(iter(module.METRICS[kind].values()))
    for by_seed in predicted.by_seed:
        assert metric(predicted.truth, by_seed) > 0.9


@pytest.mark.slow
def test_features_are_the_means_over_residues_of_every_layer(tmp_path, tasks):
    encoder = ESMC(ESMC_CONFIG, key=jax.random.key(0))
    data = read_task(tasks["binary"], tmp_path, 2046)
    features, _ = featurise(encoder, data, layers=True)
    for found, tokens in list(zip(features, data.table.proteins, strict=True))[:5]:
        states = encoder(tokens, hidden_states=(0, 1, 2)).hidden_states
        np.testing.assert_allclose(found, states[:, 1:-1].mean(1), atol=1e-5)


def test_features_of_residues_are_theirs(tmp_path, tasks):
    encoder = ESMC(ESMC_CONFIG, key=jax.random.key(0))
    data = read_task(tasks["residues"], tmp_path, 2046)
    features, _ = featurise(encoder, data, layers=True)
    for found, tokens in list(zip(features, data.table.proteins, strict=True))[:5]:
        np.testing.assert_allclose(found[0], encoder.features(tokens)[1:-1], atol=1e-5)


def test_probe_is_the_ridge_regression_that_validates_best(tmp_path, tasks):
    data = read_task(tasks["regression"], tmp_path, 2046)
    features = np.stack([each[0] for each in featurise(OneHot(), data, layers=False)[0]])
    split = data.splits[0]
    predicted = predict_tests(list(features), data, 1)
    kept = np.sort(np.random.default_rng(0).permutation(split.training)[:48])
    scale = StandardScaler().fit(features[kept])
    models = [
        Ridge(strength).fit(scale.transform(features[kept]), data.table.labels[kept]) for strength in module.STRENGTHS
    ]
    best = max(
        models,
        key=lambda model: (
            spearmanr(
                data.table.labels[split.validation], model.predict(scale.transform(features[split.validation]))
            ).statistic
        ),
    )
    expected = best.predict(scale.transform(features[split.test]))
    np.testing.assert_allclose(predicted.by_seed[0], expected, rtol=1e-6)


def test_folds_are_held_out_whole_and_once(tmp_path):
    rows = [(sequence, label, str(i % 4)) for i, (sequence, label) in enumerate(make_rows(80, "binary", 0))]
    write_table(tmp_path / "pool.csv", rows, "sequence,label,fold")
    data = read_task(Task("folds", "binary", "pool.csv", fold_column="fold"), tmp_path, 2046)
    tested = np.concatenate([split.test for split in data.splits])
    assert sorted(tested) == list(range(80))
    for split in data.splits:
        parts = [
            set(np.array([row[2] for row in rows])[each]) for each in (split.training, split.validation, split.test)
        ]
        assert [len(each) for each in parts] == [2, 1, 1]
        assert len(set.union(*parts)) == 4


def test_conditions_and_the_most_proteins_hold(tmp_path):
    rows = [
        (sequence, label, "yes" if i % 2 else "no") for i, (sequence, label) in enumerate(make_rows(40, "binary", 0))
    ]
    for name in ("train", "valid", "test"):
        write_table(tmp_path / "t" / f"{name}.csv", rows, "sequence,label,publish")
    data = read_task(Task("t", "binary", "t", where=("publish=yes",), most=7), tmp_path, 30)
    assert [len(each) for each in (data.splits[0].training, data.splits[0].test)] == [7, 7]
    assert max(map(len, data.table.proteins)) == 32


def test_tags_are_cut_off(tmp_path):
    protein = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRV"
    write_table(
        tmp_path / "t.csv", [(f"MGSSHHHHHHSSGLVPRGSH{protein}", "1", fold) for fold in "abc"], "sequence,label,fold"
    )
    task = Task("t", "binary", "t.csv", fold_column="fold", strip_tags=True)
    found = read_task(task, tmp_path, 2046).table.proteins[0]
    np.testing.assert_array_equal(found, Tokenizer().encode(protein))


def collect(comparison: Comparison, folder: Path, resume: bool = False) -> dict:
    found: dict = {}
    for named, task, stored in run_comparison(comparison, folder, resume):
        found.setdefault(named.name, {})[task.name] = stored
    return found


def test_differences_are_paired_and_to_the_reference(tmp_path, tasks):
    comparison = make_comparison(tmp_path, {"binary": tasks["binary"], "regression": tasks["regression"]})
    result = describe(comparison, collect(comparison, tmp_path / "out"))
    rows = {(row["encoder"], row["task"]): row for row in result["rows"]}
    for (encoder, task), row in rows.items():
        main_metric = row["metric"]
        own = row["scores"][main_metric] - rows["one-hot", task]["scores"][main_metric]
        assert row["difference"] == pytest.approx(own)
        assert row["interval"][0] <= row["scores"][main_metric] <= row["interval"][1]
        if encoder == "one-hot":
            assert row["difference_interval"] == [0, 0]
    random = next(row for row in result["overall"] if row["encoder"] == "random")
    assert random["mean_difference"] == pytest.approx(
        np.mean([rows["random", t]["difference"] for t in result["tasks"]])
    )
    assert [len(rows["random", task]["layers"]) for task in result["tasks"]] == [3, 3]


def test_a_comparison_goes_on_with_what_is_missing(tmp_path, tasks, monkeypatch):
    comparison = make_comparison(tmp_path, {"binary": tasks["binary"]})
    whole = describe(comparison, collect(comparison, tmp_path / "out"))
    (tmp_path / "out" / "scores" / "random-binary.npz").unlink()
    calls = []
    original = module.featurise
    monkeypatch.setattr(module, "featurise", lambda *given: calls.append(1) or original(*given))
    again = describe(comparison, collect(comparison, tmp_path / "out", resume=True))
    assert len(calls) == 1
    for result in (whole, again):
        for row in (*result["rows"], *result["overall"]):
            row["seconds_per_protein"] = 0
    assert whole == again
    more = make_comparison(tmp_path, {"binary": tasks["binary"]}, seeds=3)
    collect(more, tmp_path / "out", resume=True)
    assert len(calls) == 3
    with pytest.raises(InputError, match=r"holds a comparison\. Add --resume"):
        collect(comparison, tmp_path / "out")


TOML = """
reference = "one-hot"
seeds = 2
[data]
root = "."
[[encoders]]
name = "one-hot"
encoder = {type = "one_hot"}
[[encoders]]
name = "random"
encoder = {type = "ssm", layers = 1, d_model = 8, heads = 2, lm_head = false}
layers = true
[[tasks]]
name = "classes"
kind = "classes"
path = "classes"
[[tasks]]
name = "residues"
kind = "residues"
path = "residues"
"""


@pytest.mark.usefixtures("tasks")
def test_command_writes_table_pictures_and_json(tmp_path, capsys):
    (tmp_path / "encoders.toml").write_text(TOML)
    arguments = ["compare", str(tmp_path / "encoders.toml"), "--out", str(tmp_path / "out"), "--no-compilation-cache"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("| encoder | classes, accuracy | residues, accuracy | mean difference to one-hot |")
    report = tmp_path / "out" / "report"
    assert (report / "table.md").read_text() == out.removesuffix("\n")
    names = {f"{name}.{end}" for name in ("scores", "costs", "layers") for end in ("png", "svg")}
    assert {path.name for path in report.iterdir()} == {*names, "comparison.json", "table.md"}
    assert json.loads((report / "comparison.json").read_text())["tasks"] == ["classes", "residues"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("test.csv", None), "task binary: .*test.csv: file not found"),
        (("train.csv", "sequence,label\nMKT,2\n"), "task binary: .*train.csv, line 2: label '2', expected 0 or 1"),
        (("train.csv", "sequence,label\nMK7,1\n"), "task binary: .*train.csv, line 2: position 3: digit '7'"),
        (("train.csv", "sequence,label\n"), "task binary: .*train.csv: no proteins"),
        (("train.csv", "sequence,other\nMKT,1\n"), "no column 'label'. Its columns: sequence, other"),
        (("train.csv", "sequence,label\nMKT,1,3\n"), "line 2 has 3 fields, the header 2"),
    ],
)
def test_task_is_refused_by_file_and_row(tmp_path, tasks, change, message):
    name, text = change
    path = tmp_path / "binary" / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_task(tasks["binary"], tmp_path, 2046)


def test_residues_without_as_many_labels_are_refused(tmp_path, tasks):
    (tmp_path / "residues" / "train.csv").write_text("sequence,label\nMKTA,HHE\n")
    with pytest.raises(InputError, match="line 2: 3 labels for 4 residues"):
        read_task(tasks["residues"], tmp_path, 2046)


def test_too_few_folds_are_refused(tmp_path):
    write_table(tmp_path / "pool.csv", [("MKT", "1", "a"), ("MKV", "0", "b")], "sequence,label,fold")
    with pytest.raises(InputError, match="2 folds in column 'fold', expected at least 3"):
        read_task(Task("folds", "binary", "pool.csv", fold_column="fold"), tmp_path, 2046)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('reference = "one-hot"', 'reference = "none"', "reference is 'none', which is no encoder of the comparison"),
        ('name = "random"', 'name = "one-hot"', "two encoders have the same name"),
        ('name = "residues"', 'name = "classes"', "two tasks have the same name"),
        ('kind = "residues"', 'kind = "other"', "tasks.1.kind is 'other'"),
        ('path = "residues"', 'path = "residues"\nstrip_tags = true', "strip_tags cuts residues off that have labels"),
        ('path = "residues"', 'path = "residues"\nwhere = ["a"]', "where has 'a', expected column=value"),
    ],
)
def test_comparison_is_refused(tmp_path, old, new, message):
    (tmp_path / "encoders.toml").write_text(TOML.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_recipe(tmp_path / "encoders.toml", kind=Comparison)


def made_up(parameters: list[int]) -> dict:
    """A result of as many encoders on two tasks."""
    names = [f"encoder {number}" for number in range(len(parameters))]
    rows = [
        {"encoder": name, "task": task, "metric": metric, "scores": {metric: 0.7}, "interval": [0.6, 0.75],
         "layers": [0.5, 0.6, 0.7] if task == "a" else []}
        for name in names for task, metric in (("a", "AUROC"), ("b", "Spearman"))
    ]  # fmt: skip
    overall = [
        {"encoder": name, "mean_difference": 0.1, "interval": [0.05, 0.2], "parameters": count,
         "seconds_per_protein": 0.01} for name, count in zip(names, parameters, strict=True)
    ]  # fmt: skip
    return {"reference": names[0], "tasks": ["a", "b"], "rows": rows, "overall": overall}


def test_pictures_show_whole_ranges_and_intervals():
    result = made_up([0, *(10**number for number in range(1, 10))])
    scores = compare_report._draw_scores(result)
    assert [axes.get_xlim() for axes in scores.axes] == [pytest.approx((-0.02, 1.02)), pytest.approx((-1.04, 1.04))]
    (layers,) = compare_report._draw_layers(result).axes
    assert layers.get_ylim() == pytest.approx((-0.02, 1.02))
    costs = compare_report._draw_costs(result)
    parameters, seconds = costs.axes
    assert (parameters.get_xscale(), seconds.get_xscale()) == ("symlog", "log")
    points = [container.lines[0] for container in parameters.containers]
    # An encoder without parameters is at 0, inside the picture.
    assert [point.get_xdata()[0] for point in points] == [row["parameters"] for row in result["overall"]]
    assert parameters.get_xlim()[0] < 0
    for container in parameters.containers:
        ((low, high),) = (segment[:, 1] for segment in container.lines[2][0].get_segments())
        assert (low, high) == pytest.approx((0.05, 0.2))
    assert len({(point.get_color(), point.get_marker()) for point in points}) == len(points)
