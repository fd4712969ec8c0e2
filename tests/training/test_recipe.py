"""Recipes: what they may say, and what is refused before any data are read."""

import re
import tomllib
from pathlib import Path

import pytest

from eqxesm import ESMCConfig, InputError
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.sources import Source
from eqxesm.encoders import OneHotConfig
from eqxesm.packaged import recipe_files
from eqxesm.training import TrainConfig
from eqxesm.training.assay_recipe import read_any_recipe
from eqxesm.training.recipe import Pretrained, Recipe, file_name, find_differences, flatten, read_recipe

MINIMAL = """
[data]
[[data.training]]
path = "training.csv"
[[data.validation]]
path = "validation.csv"
[model]
encoder = { type = "one_hot" }
head = { type = "composition_mlp", hidden = [8] }
[training]
epochs = 2
"""

TEST = "[[data.test]]\npath = '{}'\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "minimal.toml"
    path.write_text(MINIMAL)
    return path


def as_toml(recipe: Recipe) -> dict:
    return tomllib.loads(recipe.to_toml())


def refusal(text: str, path: Path, *settings: str) -> str:
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_recipe(path, settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_keys_get_their_defaults(file):
    recipe = read_recipe(file)
    assert recipe.name == "minimal"
    assert recipe.root == file.parent
    assert recipe.data.training == (Source("training.csv"),)
    assert recipe.data.test == ()
    assert recipe.training == TrainConfig(epochs=2)
    assert recipe.model.encoder == OneHotConfig()
    assert recipe.model.cleaning == Cleaning()


def test_reading_what_was_written_gives_the_same_recipe(file, tmp_path):
    recipe = read_recipe(
        file,
        [
            "data.leakage=remove",
            "data.length_percentile=99",
            'data.training.0.where=["a=b", "c=\\"d\\""]',
            'training.lora_targets=["query"]',
            "training.clip=inf",
            'summary="Two\\nlines, \\"quoted\\", µ"',
            "license=mit",
            "model.cleaning.strip_tags=true",
            "model.encoder={type='esmc', layers=2, d_model=8, heads=2, d_ffn=8}",
        ],
    )
    assert recipe.model.encoder == ESMCConfig(2, 8, 2, 8)
    assert recipe.data.training[0].where == ("a=b", 'c="d"')
    (tmp_path / "elsewhere").mkdir()
    written = tmp_path / "elsewhere" / "again.toml"
    written.write_text(recipe.to_toml(), encoding="utf-8")
    again = read_recipe(written)
    assert again == recipe
    assert find_differences(as_toml(recipe), as_toml(again)) == []


@pytest.mark.parametrize("name", recipe_files())
def test_reading_one_of_the_package_that_was_written_gives_the_same_recipe(name, tmp_path):
    recipe = read_any_recipe(f"recipe:{name}", ["data.test=[]"])
    (tmp_path / "again.toml").write_text(recipe.to_toml())
    assert read_any_recipe(tmp_path / "again.toml") == recipe


def test_reading_a_pretrained_encoder_that_was_written_gives_the_same_recipe(file, tmp_path):
    for given in ({"pretrained": "a/b"}, {"pretrained": "a/b", "revision": "main"}):
        text = ", ".join(f"{key}='{value}'" for key, value in given.items())
        recipe = read_recipe(file, [f"model.encoder={{{text}}}", "data.root=."])
        (tmp_path / "again.toml").write_text(recipe.to_toml())
        assert read_recipe(tmp_path / "again.toml") == recipe
        assert recipe.model.encoder == Pretrained(**given)


def test_flatten_writes_nested_tables_as_dotted_keys():
    tables = {"a": 1, "b": {"c": [2, 3], "d": [{"e": 4}, {"e": 5, "f": {}}]}}
    assert flatten(tables) == {"a": 1, "b.c": [2, 3], "b.d.0.e": 4, "b.d.1.e": 5}


def test_settings_replace_values_of_the_file(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path.parent)
    recipe = read_recipe(
        file,
        [
            "training.epochs = 7",
            "training.learning_rate=1",
            "data.training.0.path=other.csv",
            "data.root=elsewhere",
            'model.encoder={pretrained="someone/esmc", revision="main"}',
            "summary=What it is",
            "license=",
            "model.head.hidden=[4, 2]",
            "model.head.dropout=0",
            "training.remat=true",
            "training.compute_dtype='bfloat16'",
            "data.validation.0.fold_column=fold",
            "data.validation.0.folds=['1', '2']",
        ],
    )
    assert (recipe.training.epochs, recipe.training.learning_rate) == (7, 1.0)
    assert recipe.data.training[0].path == "other.csv"
    # A root from the command line is relative to the current folder, that of the file to the file.
    assert recipe.root == tmp_path.parent / "elsewhere"
    assert recipe.model.encoder == Pretrained("someone/esmc", "main")
    assert (recipe.summary, recipe.license) == ("What it is", None)
    assert recipe.model.head == {"type": "composition_mlp", "hidden": [4, 2], "dropout": 0}
    assert (recipe.training.remat, recipe.training.compute_dtype) == (True, "bfloat16")
    assert recipe.data.validation[0].folds == ("1", "2")


def test_root_is_relative_to_the_file(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "r.toml"
    path.write_text(MINIMAL.replace("[data]", "[data]\nroot = '../sets'"))
    monkeypatch.chdir(tmp_path)
    for name in (path, Path("deep/r.toml")):
        assert read_recipe(name).root == tmp_path / "sets"
    path.write_text(MINIMAL.replace("[data]", "[data]\nroot = '/sets'"))
    assert read_recipe(path).root == Path("/sets")


def test_differences_show_both_values(file):
    one, other = read_recipe(file), read_recipe(file, ["training.epochs=3", "data.max_residues=9"])
    assert find_differences(as_toml(one), as_toml(other)) == [
        "data.max_residues was not set and is 9",
        "training.epochs was 2 and is 3",
    ]
    moved = read_recipe(file, ["data.root=/elsewhere"])
    assert find_differences(as_toml(one), as_toml(moved)) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 2", "epochs = 2\nlr = 1\nx = 2", "unknown key 'training.lr'; unknown key 'training.x'"),
        ("epochs = 2", "epochs = 2.5", "training.epochs is 2.5: expected an integer"),
        ("epochs = 2", "epochs = '2'", "training.epochs is '2': expected an integer"),
        ("epochs = 2", "remat = 1", "training.remat is 1: expected true or false"),
        ("epochs = 2", "epochs = 0", "training.epochs is 0: expected at least 1"),
        ("epochs = 2", "learning_rate = nan", "training.learning_rate is nan: expected a finite number"),
        ("epochs = 2", "clip = nan", "training.clip is nan: expected more than 0"),
        ("epochs = 2", "epochs = 2026-01-01", "dates are not used here"),
        ("epochs = 2", "strategy = 'lora'", "training.strategy is 'lora': adapters are for ESM-C, not for OneHot"),
        ("[model]", "[model]\nbody = 1", "unknown key 'model.body'"),
        ("[model]", "[model]\ncleaning = 1", "model.cleaning is 1: expected a table"),
        ("[model]", "[model]\ncleaning = { tags = true }", "unknown key 'model.cleaning.tags'"),
        ("[data]", "[data]\nfold = 1", "unknown key 'data.fold'"),
        ("[data]", "[data]\nleakage = 'keep'", "data.leakage is 'keep': expected 'refuse' or 'remove'"),
        ("[data]", "[data]\nroot = 1", "data.root is 1: expected text in quotes"),
        ("[data]", "name = 2024\n[data]", "name is 2024: expected text in quotes"),
        ("[data]", "[data]\ncross_validation = true", "give validation sources, or set"),
        ("[data]", "[data]\ncross_validation = 1", "data.cross_validation is 1: expected true or false"),
        ("[data]", "[data]\ntest = 'x.csv'", "data.test is 'x.csv': expected a list"),
        ("[data]", "[data]\ntest = ['x.csv']", "data.test.0 is 'x.csv': expected a table"),
        ('path = "training.csv"', "file = 1", "missing key 'data.training.0.path'"),
        ('path = "training.csv"', "path = 1", "data.training.0.path is 1: expected text in quotes"),
        ('path = "training.csv"', 'path = "a"\nwhere = ["x"]', "data.training.0: where has 'x'"),
        ('"one_hot"', '"two_hot"', "model.encoder.type is 'two_hot', expected one of 'esmc', 'ssm', 'one_hot'"),
        ('"one_hot"', '"esmc"', "missing key 'model.encoder.layers'"),
        ('type = "one_hot"', "pretrained = 1", "model.encoder.pretrained is 1: expected text in quotes"),
        ('type = "one_hot"', 'pretrained = "a", path = "b"', "unknown key 'model.encoder.path'"),
        ('{ type = "one_hot" }', "'one_hot'", "model.encoder is 'one_hot': expected a table"),
        ('"composition_mlp"', '"mlp"', "model.head: type is 'mlp', expected one of 'mean_pool_mlp'"),
        ("hidden = [8]", "hidden = [0]", "model.head: hidden.0 is 0: expected at least 1"),
        ("hidden = [8]", "width = 3", "model.head: unknown key 'width'"),
        ("hidden = [8]", "d_model = 9",
         "model.head: the head takes features of width 9, the encoder makes 25. Leave out d_model"),
        ("[[data.validation]]", "[[data.test]]", "give validation sources, or set"),
        ('[[data.training]]\npath = "training.csv"', "", "Write a [[data.training]] table"),
        ("[model]", TEST.format("a.csv") + TEST.format("b/a.csv") + "[model]",
         "two sets have the names 'a' and 'a'. Rename one"),
        ("[model]", TEST.format("a b.csv") + TEST.format("a?b.csv") + "[model]", "'a b' and 'a?b'"),
        ("[model]", TEST.format("training.csv") + "[model]", "two sets have the names 'training'"),
        ("[training]", "[training", "not TOML"),
        ("[training]\nepochs = 2", "", "missing key 'training'"),
    ],
)  # fmt: skip
def test_refuses_recipes_with_a_fault(old, new, message, file):
    assert old in MINIMAL
    found = refusal(MINIMAL.replace(old, new), file)
    assert found.startswith(f"{file}: ")
    assert message in found


@pytest.mark.parametrize("section", ["data", "model", "training"])
@pytest.mark.parametrize("value", ["3", "'text'", "[1]", "[{ x = 1 }]"])
def test_refuses_a_section_that_is_not_a_table(section, value, tmp_path):
    message = refusal(f"{section} = {value}", tmp_path / "r.toml")
    assert f"{section} is " in message
    assert ": expected a table" in message


def test_refuses_an_empty_file(tmp_path):
    message = refusal("", tmp_path / "r.toml")
    assert "missing key 'data'; missing key 'model'; missing key 'training'" in message


def test_names_every_fault_at_once(file):
    text = MINIMAL.replace("[data]", "x = 1\ny = 2\n[data]\nz = 3\nroot = 4")
    text = text.replace('path = "validation.csv"', 'path = "v.csv"\nv = 5')
    text = text.replace('"one_hot" }', '"one_hot", w = 6 }').replace("[8]", "[8], u = 7")
    message = refusal(text.replace("epochs = 2", "epoch = 2\nsteps = 3"), file)
    assert message == (
        f"{file}: data.root is 4: expected text in quotes; unknown key 'data.validation.0.v'; unknown key "
        "'data.z'; unknown key 'model.encoder.w'; model.head: unknown key 'u'; unknown key 'training.epoch'; "
        "unknown key 'training.steps'; unknown key 'x'; unknown key 'y'"
    )


def test_pretrained_encoder_is_not_loaded_but_its_head_is_checked(file):
    chosen = 'model.encoder={pretrained="/absent"}'
    assert read_recipe(file, [chosen, "training.strategy=lora"]).model.encoder == Pretrained("/absent")
    with pytest.raises(InputError, match=r"model\.head: unknown key 'wide'"):
        read_recipe(file, [chosen, "model.head.wide=3"])


def test_cross_validation_refuses_test_sets(file):
    settings = ["data.cross_validation=true", "data.validation=[]"]
    assert read_recipe(file, settings).data.cross_validation
    with pytest.raises(InputError, match=r"tests out of fold\. Leave out the test sets"):
        read_recipe(file, [*settings, "data.test=[{path='a.csv'}]"])


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("DeepSol test", "DeepSol_test"),
        ("a/../b", "a_b"),
        ("..", "_"),
        ("table.md", "table_md"),
        ("µ-set (2019)", "µ-set_2019_"),
        ("x" * 300, "x" * 80),
        ("蛋" * 80, "蛋" * 66),
    ],
)
def test_titles_as_names_of_folders(title, name):
    assert file_name(title) == name


@pytest.mark.parametrize(
    "setting",
    [
        "training",
        "=3",
        "training.=3",
        "data.training.5.path=x",
        "data.training.x.path=y",
        "training.epochs.more=1",
        "data.training.0.path.x=1",
        "data.training.9=1",
        "data.training.-1.path=x",
    ],
)
def test_refuses_settings_that_name_no_value(setting, file):
    with pytest.raises(InputError, match=f"^--set {re.escape(setting)}: "):
        read_recipe(file, [setting])


def test_refuses_settings_with_unknown_keys(file):
    with pytest.raises(InputError, match="unknown key 'trainin'"):
        read_recipe(file, ["trainin.epochs=3"])
    with pytest.raises(InputError, match=r"unknown key 'training\.epoch'"):
        read_recipe(file, ["training.epoch=3"])


def test_refuses_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"absent\.toml: file not found"):
        read_recipe(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="is a folder"):
        read_recipe(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_recipe(tmp_path / "latin.toml")
