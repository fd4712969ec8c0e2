"""Recipes: what they may say, and what is refused before anything is read."""

import re
import tomllib
from pathlib import Path

import pytest

from eqxesm import ESMCConfig, InputError
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.sources import Source
from eqxesm.encoders import OneHotConfig
from eqxesm.training import TrainConfig
from eqxesm.training.recipe import Pretrained, differences, read_recipe

RECIPES = Path(__file__).parents[1] / "examples" / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))

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


def refusal(text: str, path: Path, *settings: str) -> str:
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_recipe(path, settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_not_said_is_the_default(file):
    recipe = read_recipe(file)
    assert recipe.name == "minimal"
    assert recipe.root == file.parent
    assert recipe.training == (Source("training.csv"),)
    assert recipe.tests == ()
    assert recipe.config == TrainConfig(epochs=2)
    assert recipe.encoder == OneHotConfig()
    assert recipe.cleaning == Cleaning()


def test_it_survives_being_written(file, tmp_path):
    recipe = read_recipe(
        file,
        [
            "data.leakage=remove",
            "data.length_percentile=99",
            'training.lora_targets=["query"]',
            "model.encoder={type='esmc', layers=2, d_model=8, heads=2, d_ffn=8}",
        ],
    )
    assert recipe.encoder == ESMCConfig(2, 8, 2, 8)
    (tmp_path / "again.toml").write_text(recipe.to_toml())
    again = read_recipe(tmp_path / "again.toml")
    assert again == recipe
    assert differences(recipe.to_plain(), again.to_plain()) == []


def test_settings_take_the_place_of_the_file(file, monkeypatch, tmp_path):
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
        ],
    )
    assert (recipe.config.epochs, recipe.config.learning_rate) == (7, 1.0)
    assert recipe.training[0].path == "other.csv"
    # Unlike that of the file, a root from the command line is looked up from where one stands.
    assert recipe.root == tmp_path.parent / "elsewhere"
    assert recipe.encoder == Pretrained("someone/esmc", "main")
    assert recipe.summary == "What it is"


def test_differences_name_both_values(file):
    one, other = read_recipe(file), read_recipe(file, ["training.epochs=3", "data.max_residues=9"])
    assert differences(one.to_plain(), other.to_plain()) == [
        "data.max_residues was 'not set' and is 9",
        "training.epochs was 2 and is 3",
    ]
    moved = read_recipe(file, ["data.root=/elsewhere"])
    assert differences(one.to_plain(), moved.to_plain()) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 2", "epochs = 2\nlr = 1\nx = 2", "training: unknown key 'lr', unknown key 'x'"),
        ("epochs = 2", "epochs = 2.5", "training: of the wrong type or size: epochs is 2.5"),
        ("epochs = 2", "epochs = 0", "training: epochs is 0: it must be at least 1"),
        ("[model]", "[model]\nbody = 1", "model: unknown key 'body'"),
        ("[data]", "[data]\nfold = 1", "data: unknown key 'fold'"),
        ("[data]", "[data]\nleakage = 'keep'", "data: leakage is 'keep'"),
        ("[data]", "[data]\nroot = 1", "root is 1: write text"),
        ("[data]", "[data]\ncross_validation = true", "give validation sources, or set"),
        ('path = "training.csv"', "file = 1", "data: training 1: missing key 'path'"),
        ('path = "training.csv"', 'path = "a"\nwhere = ["x"]', "training 1: where has 'x'"),
        ('"one_hot"', '"two_hot"', "model: encoder: type 'two_hot' is not one of"),
        ('"one_hot"', '"esmc"', "model: encoder (esmc): missing key"),
        ('"composition_mlp"', '"mlp"', "model: head: type 'mlp' is not one of"),
        ("hidden = [8]", "hidden = [0]", "model: head (composition_mlp): hidden is (0,)"),
        ("hidden = [8]", "d_model = 9", "the head takes features 9 wide"),
        ("[[data.validation]]", "[[data.test]]", "give validation sources, or set"),
        ("[model]", TEST.format("a.csv") + TEST.format("b/a.csv") + "[model]", "called 'a'"),
        ("[model]", TEST.format("training.csv") + "[model]", "two sets are called 'training'"),
        ("[training]", "[training", "not TOML"),
        ("[training]\nepochs = 2", "", "missing key 'training'"),
    ],
)  # fmt: skip
def test_what_is_refused(old, new, message, file):
    assert old in MINIMAL
    assert message in refusal(MINIMAL.replace(old, new), file)


def test_every_key_that_is_wrong_is_named_at_once(file):
    message = refusal(MINIMAL.replace("[data]", "x = 1\ny = 2\n[data]"), file)
    assert "unknown key 'x', unknown key 'y'" in message


@pytest.mark.parametrize(
    "setting",
    [
        "training",
        "=3",
        "training.=3",
        "data.training.5.path=x",
        "data.training.x.path=y",
    ],
)
def test_settings_that_name_no_place(setting, file):
    with pytest.raises(InputError, match=f"^--set {re.escape(setting)}: "):
        read_recipe(file, [setting])


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read .*: name a recipe"):
        read_recipe(tmp_path / "absent.toml")
    with pytest.raises(InputError, match=r"cannot be read .*: name a recipe"):
        read_recipe(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_recipes_of_the_house(name):
    recipe = read_recipe(RECIPES / f"{name}.toml")
    assert recipe.name == name
    assert recipe.summary.endswith(".")
    # One set of data for the whole ladder, so that its rungs can be compared.
    one, other = (
        tomllib.loads((RECIPES / f"{each}.toml").read_text())["data"] for each in (name, NAMES[0])
    )
    assert one == other


def test_the_ladder_is_whole():
    assert sorted(["frequency", "convolution", "frozen", "lora", "joint"]) == NAMES
    strategies = {name: read_recipe(RECIPES / f"{name}.toml").config.strategy for name in NAMES}
    assert [strategies[name] for name in ("frozen", "lora", "joint")] == ["frozen", "lora", "joint"]
