"""Recipes: what they may say, and what is refused before anything is read."""

import csv
import re
import tomllib
from pathlib import Path

import pytest

from eqxesm import ESMCConfig, InputError
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.sources import Source
from eqxesm.encoders import OneHotConfig
from eqxesm.training import TrainConfig
from eqxesm.training.plan import Pretrained, differences, file_name, flatten
from eqxesm.training.recipe import read_recipe

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
            'data.training.0.where=["a=b", "c=\\"d\\""]',
            'training.lora_targets=["query"]',
            "training.clip=inf",
            'summary="Two\\nlines, \\"quoted\\", µ"',
            "license=mit",
            "model.cleaning.strip_tags=true",
            "model.encoder={type='esmc', layers=2, d_model=8, heads=2, d_ffn=8}",
        ],
    )
    assert recipe.encoder == ESMCConfig(2, 8, 2, 8)
    assert recipe.training[0].where == ("a=b", 'c="d"')
    (tmp_path / "elsewhere").mkdir()
    written = tmp_path / "elsewhere" / "again.toml"
    written.write_text(recipe.to_toml(), encoding="utf-8")
    again = read_recipe(written)
    assert again == recipe
    assert differences(recipe.to_plain(), again.to_plain()) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_recipes_of_the_house_survive_it_too(name, tmp_path):
    recipe = read_recipe(RECIPES / f"{name}.toml", ["data.test=[]"])
    (tmp_path / "again.toml").write_text(recipe.to_toml())
    assert read_recipe(tmp_path / "again.toml") == recipe


def test_a_pretrained_encoder_survives_it(file, tmp_path):
    for given in ({"pretrained": "a/b"}, {"pretrained": "a/b", "revision": "main"}):
        text = ", ".join(f"{key}='{value}'" for key, value in given.items())
        recipe = read_recipe(file, [f"model.encoder={{{text}}}", "data.root=."])
        (tmp_path / "again.toml").write_text(recipe.to_toml())
        assert read_recipe(tmp_path / "again.toml") == recipe
        assert recipe.encoder == Pretrained(**given)


def test_nested_tables_as_dotted_keys():
    tables = {"a": 1, "b": {"c": (2, 3), "d": [{"e": 4}, {"e": 5, "f": {}}]}}
    assert flatten(tables) == {"a": 1, "b.c": [2, 3], "b.d.0.e": 4, "b.d.1.e": 5}


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
            "license=",
            "model.head.hidden=[4, 2]",
            "model.head.dropout=0",
            "training.remat=true",
            "training.compute_dtype='bfloat16'",
            "data.validation.0.folds=['1', '2']",
        ],
    )
    assert (recipe.config.epochs, recipe.config.learning_rate) == (7, 1.0)
    assert recipe.training[0].path == "other.csv"
    # Unlike that of the file, a root from the command line is looked up from where one stands.
    assert recipe.root == tmp_path.parent / "elsewhere"
    assert recipe.encoder == Pretrained("someone/esmc", "main")
    assert (recipe.summary, recipe.license) == ("What it is", None)
    assert recipe.head == {"type": "composition_mlp", "hidden": [4, 2], "dropout": 0}
    assert (recipe.config.remat, recipe.config.compute_dtype) == (True, "bfloat16")
    assert recipe.validation[0].folds == ("1", "2")


def test_a_root_is_looked_up_from_the_file(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "r.toml"
    path.write_text(MINIMAL.replace("[data]", "[data]\nroot = '../sets'"))
    monkeypatch.chdir(tmp_path)
    for name in (path, Path("deep/r.toml")):
        assert read_recipe(name).root == tmp_path / "sets"
    path.write_text(MINIMAL.replace("[data]", "[data]\nroot = '/sets'"))
    assert read_recipe(path).root == Path("/sets")


def test_differences_name_both_values(file):
    one, other = read_recipe(file), read_recipe(file, ["training.epochs=3", "data.max_residues=9"])
    assert differences(one.to_plain(), other.to_plain()) == [
        "data.max_residues was not set and is 9",
        "training.epochs was 2 and is 3",
    ]
    moved = read_recipe(file, ["data.root=/elsewhere"])
    assert differences(one.to_plain(), moved.to_plain()) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 2", "epochs = 2\nlr = 1\nx = 2", "training: unknown key 'lr', unknown key 'x'"),
        ("epochs = 2", "epochs = 2.5", "training: of the wrong type or size: epochs is 2.5"),
        ("epochs = 2", "epochs = '2'", "training: of the wrong type or size: epochs is '2'"),
        ("epochs = 2", "remat = 1", "training: of the wrong type or size: remat is 1"),
        ("epochs = 2", "epochs = 0", "training: epochs is 0: it must be at least 1"),
        ("epochs = 2", "learning_rate = nan", "training: learning_rate is nan: it must be"),
        ("epochs = 2", "strategy = 'lora'", "training: strategy 'lora': OneHot has no blocks"),
        ("[model]", "[model]\nbody = 1", "model: unknown key 'body'"),
        ("[model]", "[model]\ncleaning = 1", "model: cleaning is 1: write a table"),
        ("[model]", "[model]\ncleaning = { tags = true }", "model: cleaning: unknown key 'tags'"),
        ("[data]", "[data]\nfold = 1", "data: unknown key 'fold'"),
        ("[data]", "[data]\nleakage = 'keep'", "data: leakage is 'keep'"),
        ("[data]", "[data]\nroot = 1", "data: root is 1: write text, in quotes"),
        ("[data]", "name = 2024\n[data]", "name is 2024: write text, in quotes"),
        ("[data]", "[data]\ncross_validation = true", "give validation sources, or set"),
        ("[data]", "[data]\ncross_validation = 1", "cross_validation is 1: write true or false"),
        ("[data]", "[data]\ntest = 'x.csv'", "data: test: write a [[data.test]] table"),
        ("[data]", "[data]\ntest = ['x.csv']", "data: test 1 is 'x.csv': write a table"),
        ('path = "training.csv"', "file = 1", "data: training 1: missing key 'path'"),
        ('path = "training.csv"', "path = 1", "training 1: of the wrong type or size: path is 1"),
        ('path = "training.csv"', 'path = "a"\nwhere = ["x"]', "training 1: where has 'x'"),
        ('"one_hot"', '"two_hot"', "model: encoder: type 'two_hot' is not one of"),
        ('"one_hot"', '"esmc"', "model: encoder (esmc): missing key"),
        ('type = "one_hot"', "pretrained = 1", "model: encoder: of the wrong type or size"),
        ('type = "one_hot"', 'pretrained = "a", path = "b"', "encoder: unknown key 'path'"),
        ('{ type = "one_hot" }', "'one_hot'", "model: encoder: type None is not one of"),
        ('"composition_mlp"', '"mlp"', "model: head: type 'mlp' is not one of"),
        ("hidden = [8]", "hidden = [0]", "model: head (composition_mlp): hidden is (0,)"),
        ("hidden = [8]", "width = 3", "model: head (composition_mlp): unknown key 'width'"),
        ("hidden = [8]", "d_model = 9", "model: head: the head takes features 9 wide and the "
         "encoder makes them 25 wide: leave out d_model"),
        ("[[data.validation]]", "[[data.test]]", "give validation sources, or set"),
        ("[[data.training]]\npath = \"training.csv\"", "", "write a [[data.training]] table"),
        ("[model]", TEST.format("a.csv") + TEST.format("b/a.csv") + "[model]",
         "two sets are called 'a' and 'a': give each a name of its own"),
        ("[model]", TEST.format("a b.csv") + TEST.format("a?b.csv") + "[model]", "'a b' and 'a?b'"),
        ("[model]", TEST.format("training.csv") + "[model]", "two sets are called 'training'"),
        ("[training]", "[training", "not TOML"),
        ("[training]\nepochs = 2", "", "missing key 'training'"),
    ],
)  # fmt: skip
def test_what_is_refused(old, new, message, file):
    assert old in MINIMAL
    found = refusal(MINIMAL.replace(old, new), file)
    assert found.startswith(f"{file}: ")
    assert message in found


@pytest.mark.parametrize("section", ["data", "model", "training"])
@pytest.mark.parametrize("value", ["3", "'text'", "[1]", "[{ x = 1 }]"])
def test_a_section_that_is_no_table(section, value, tmp_path):
    message = refusal(f"{section} = {value}", tmp_path / "r.toml")
    assert f"{section} is " in message
    assert ": write a table" in message


def test_a_file_that_says_nothing(tmp_path):
    message = refusal("", tmp_path / "r.toml")
    assert "missing key 'data', missing key 'model', missing key 'training'" in message


def test_everything_that_is_wrong_is_told_at_once(file):
    text = MINIMAL.replace("[data]", "x = 1\ny = 2\n[data]\nz = 3\nroot = 4")
    text = text.replace('path = "validation.csv"', 'path = "v.csv"\nv = 5')
    text = text.replace('"one_hot" }', '"one_hot", w = 6 }').replace("[8]", "[8], u = 7")
    message = refusal(text.replace("epochs = 2", "epoch = 2\nsteps = 3"), file)
    assert message == (
        f"{file}: the recipe: unknown key 'x', unknown key 'y'; data: unknown key 'z'; data: root "
        "is 4: write text, in quotes; data: validation 1: unknown key 'v'; model: encoder "
        "(one_hot): unknown key 'w'; model: head (composition_mlp): unknown key 'u'; training: "
        "unknown key 'epoch', unknown key 'steps'"
    )


def test_a_pretrained_encoder_waits_but_its_head_does_not(file):
    chosen = 'model.encoder={pretrained="/absent"}'
    assert read_recipe(file, [chosen, "training.strategy=lora"]).encoder == Pretrained("/absent")
    with pytest.raises(InputError, match=r"model: head \(composition_mlp\): unknown key 'wide'"):
        read_recipe(file, [chosen, "model.head.wide=3"])


def test_a_cross_validation_has_no_test_sets(file):
    settings = ["data.cross_validation=true", "data.validation=[]"]
    assert read_recipe(file, settings).cross_validation
    with pytest.raises(InputError, match="measures out of fold: leave out the test sets"):
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
    ],
)
def test_names_of_folders(title, name):
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
    ],
)
def test_settings_that_name_no_place(setting, file):
    with pytest.raises(InputError, match=f"^--set {re.escape(setting)}: "):
        read_recipe(file, [setting])


def test_settings_that_nobody_knows(file):
    with pytest.raises(InputError, match="the recipe: unknown key 'trainin'"):
        read_recipe(file, ["trainin.epochs=3"])
    with pytest.raises(InputError, match="training: unknown key 'epoch'"):
        read_recipe(file, ["training.epoch=3"])


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


def test_the_data_of_the_house_are_there(shared):
    recipe = read_recipe(RECIPES / f"{NAMES[0]}.toml", [f"data.root={shared}"])
    for source in (*recipe.training, *recipe.validation, *recipe.tests):
        path = shared / source.path / (source.file or "")
        assert path.is_file()
        roles = [name for name in dir(source) if name.endswith("_column") and name != "id_column"]
        named = {getattr(source, role) for role in roles} - {None}
        if path.suffix == ".csv":
            with open(path, newline="") as file:
                assert named <= set(next(csv.reader(file)))


def test_the_ladder_is_whole():
    assert sorted(["frequency", "convolution", "frozen", "lora", "joint"]) == NAMES
    strategies = {name: read_recipe(RECIPES / f"{name}.toml").config.strategy for name in NAMES}
    assert [strategies[name] for name in ("frozen", "lora", "joint")] == ["frozen", "lora", "joint"]
