"""The recipes inside the package: listed, printed, and run end to end, wherever one is."""

import hashlib
import re
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from hub_server import put_repository
from paths import SHARED
from recipe_data import make_data
from run_recipes import hurry
from safetensors.numpy import save

from eqxesm import AssayModel, InputError, SolubilityModel
from eqxesm.cli.main import main
from eqxesm.data.sources import open_source
from eqxesm.encoders import PRESETS
from eqxesm.hub.releases import RELEASES
from eqxesm.packaged import recipe_files
from eqxesm.training.assay_recipe import read_any_recipe
from eqxesm.training.quick import QUICK_RESIDUES, make_quick
from eqxesm.training.recipe import Pretrained, Recipe, read_recipe

EVERY = {name: read_any_recipe(f"recipe:{name}") for name in recipe_files()}
RECIPES = {name: recipe for name, recipe in EVERY.items() if isinstance(recipe, Recipe)}
ESMC_RECIPES = [name for name, recipe in RECIPES.items() if isinstance(recipe.model.encoder, Pretrained)]
OTHERS = [name for name in RECIPES if name not in ESMC_RECIPES]
RELEASE = RELEASES["esmc_300m"]
RAW = "https://raw.githubusercontent.com/"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """In an empty folder, with an empty cache."""
    monkeypatch.setenv("EQXESM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def put_release(hub, state) -> None:
    weights = save({name: np.ascontiguousarray(value) for name, value in state.items()})
    files = {"config.json": b'{"model_type": "esmc"}', "model.safetensors": weights}
    put_repository(hub, RELEASE.repository, RELEASE.revision, files)


def train(name: str, *words: str, settings=()) -> int:
    given = [word for setting in settings for word in ("--set", setting)]
    return main(["train", f"recipe:{name}", "--out", "run", "--quick", *words, *given])


def check_run(name: str, capsys) -> None:
    """The run is whole, and its model predicts and says how it was made."""
    out, _ = capsys.readouterr()
    assert "DeepSol test" in out
    model = SolubilityModel.from_pretrained("run/model")
    assert np.isfinite(model.predict(["MKVLAAGIVGLLLAQW", "MSTNPKPQRKTKRNTNRRPQDVKFPGG" * 20])).all()
    assert model.cleaning.truncate <= QUICK_RESIDUES
    with open("run/config.toml", "rb") as file:
        assert tomllib.load(file)["name"] == f"{name}-quick"
    with open("run/model/README.md") as file:
        card = file.read()
    assert f"eqxesm train recipe:{name}" in card
    assert "--quick" in card


# What they are


def test_they_are_listed_with_their_data_in_a_line_each(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EVERY)
    assert {"tutorial-frequency", "tutorial-convolution", "tutorial-frozen", "esmc-lora", "esmc-joint"} <= set(RECIPES)
    assert all(recipe.data.training[0].name in line for recipe, line in zip(EVERY.values(), lines, strict=True))
    assert all(len(line) <= 140 for line in lines)


@pytest.mark.parametrize("name", EVERY)
def test_one_is_printed_as_it_is(name, capsys):
    assert main(["recipes", name]) == 0
    assert capsys.readouterr().out == recipe_files()[name].read_text()


@pytest.mark.parametrize("words", [["recipes", "tutorial"], ["train", "recipe:tutorial", "--out", "run"]])
def test_an_unknown_name_is_refused_in_one_line(words, capsys):
    assert main(words) == 2
    names = ", ".join(EVERY)
    assert capsys.readouterr().err == f"eqxesm: error: tutorial: no recipe of the package. It has {names}.\n"


@pytest.mark.parametrize("name", RECIPES)
def test_each_names_its_data_with_licence_and_hash(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.summary.endswith(".")
    assert recipe.data.leakage == "remove"
    assert recipe.data.length_percentile == 90
    for source in recipe.sources:
        assert source.name
        assert source.license == "MIT"
        pinned = source.sha256 is not None
        # Of the training files there was no copy to take a hash of; the recipe says so.
        assert pinned or "training" in source.name
        assert not pinned or source.url
        assert source.hub_set == ("proteinea/solubility" if "DeepSol" in source.name else None)
    text = recipe_files()[name].read_text()
    assert "its training file has no SHA-256" in text
    assert all(source.url or "has no address here" in text for source in recipe.sources)


@pytest.mark.parametrize("name", RECIPES)
def test_the_hashes_are_those_of_the_files(name, shared):
    for source in RECIPES[name].sources:
        if source.sha256 is not None:
            assert hashlib.sha256((shared / source.path).read_bytes()).hexdigest() == source.sha256
            assert len(open_source(replace(source, proteins=5), shared)) == 5


def test_the_tutorial_is_there_with_its_three_models_and_the_same_data():
    tutorial = [RECIPES[f"tutorial-{name}"] for name in ("frequency", "convolution", "frozen")]
    assert len({recipe.data for recipe in tutorial}) == 1
    assert [source.name for source in tutorial[0].data.training] == ["DeepSol training", "PLM_Sol training"]
    assert tutorial[0].data.too_long == "truncate"
    assert tutorial[2].training.strategy == "frozen"
    assert {RECIPES[name].training.strategy for name in ESMC_RECIPES} == {"frozen", "lora", "joint"}
    assert {RECIPES[name].model.encoder.pretrained for name in ESMC_RECIPES} == {"esmc_300m"}


def test_a_quick_run_is_small():
    quick = make_quick(RECIPES["esmc-joint"])
    assert all(source.proteins == 48 for source in quick.sources)
    assert quick.training.epochs == 1
    assert quick.training.strategy == "joint"
    assert make_quick(quick).data == quick.data


# They run


def test_esol_runs_on_a_folder_of_data(tmp_path, monkeypatch, capsys):
    hurry(monkeypatch)
    rng = np.random.default_rng(0)
    for source in EVERY["esol"].sources:
        sequences = ("".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 40)) for _ in range(60))
        rows = (f"g{number},{number / 60},{sequence}\n" for number, sequence in enumerate(sequences))
        (tmp_path / source.path).write_text("gene,solubility,sequence\n" + "".join(rows))
    hashes = [
        f"data.{split}.0.sha256={hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()}"
        for split, file in (("training", "eSol_train.csv"), ("test", "eSol_test.csv"))
    ]
    head = "model.head={type='mean_pool_mlp',hidden=[8]}"
    assert train("esol", "--data", str(tmp_path), settings=[*hashes, head, "model.encoder={type='one_hot'}"]) == 0
    assert "eSOL test: solubility" in capsys.readouterr().out
    predicted = AssayModel.from_pretrained("run/model").predict(["MKVLAAGIVGLLLAQW"])["solubility"]
    assert 0 < predicted[0] < 1


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("real", [True, False])
def test_they_run_on_a_folder_of_data(name, real, tmp_path, monkeypatch, capsys):
    if real and not SHARED.is_dir():
        pytest.skip("the labelled sets are not beside this checkout (../shared/data)")
    hurry(monkeypatch)
    settings = make_data(RECIPES[name], tmp_path / "data", real)
    assert train(name, "--data", str(tmp_path / "data"), settings=settings) == 0
    check_run(name, capsys)


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.parametrize("layout", ["fused", "split"])
@pytest.mark.parametrize("name", ESMC_RECIPES)
def test_those_with_esmc_run_on_weights_of_the_hub(name, layout, states, hub, tmp_path, monkeypatch, capsys):
    """On real proteins where they are at hand."""
    hurry(monkeypatch)
    put_release(hub, states[layout])
    settings = make_data(RECIPES[name], tmp_path / "data", True)
    assert train(name, "--data", str(tmp_path / "data"), settings=settings) == 0
    check_run(name, capsys)
    model = SolubilityModel.from_pretrained("run/model")
    assert model.about.provenance.source == f"trained on top of {RELEASE.repository}"
    assert (model.about.provenance.revision, model.about.provenance.license) == (RELEASE.revision, "mit")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layout"), [("tutorial-frozen", "fused"), ("esmc-lora", "split")])
def test_those_with_esmc_run_at_full_size(name, layout, hub, tmp_path, monkeypatch, capsys):
    """Random weights of 1.3 GB, through the loopback Hub; in float32, since CPUs are slow in bfloat16.

    On few proteins, and `esmc-joint` at small size alone: these two take minutes already.
    """
    monkeypatch.setattr("eqxesm.training.quick.QUICK_PROTEINS", 12)
    pytest.importorskip("transformers.models.esmc", reason="transformers >= 5.17 is not installed")
    from originals import three_layouts, transformers_original

    hurry(monkeypatch)
    put_release(hub, three_layouts(transformers_original(PRESETS["esmc_300m"]))[layout])
    settings = [*make_data(RECIPES[name], tmp_path / "data", True), "training.compute_dtype=float32"]
    assert train(name, "--data", str(tmp_path / "data"), settings=settings) == 0
    check_run(name, capsys)


def serve(hub, name: str, folder) -> tuple[list[str], list[str]]:
    """Publish the data of a recipe on the loopback Hub. Returns settings, and the paths of the files."""
    settings, served = make_data(RECIPES[name], folder, False), {}
    for split in ("training", "validation", "test"):
        for number, source in enumerate(getattr(RECIPES[name].data, split)):
            file = source.path.rpartition("/")[2]
            content = (folder / source.path).read_bytes()
            if source.hub_set:
                served.setdefault(f"datasets/{source.hub_set}", {})[file] = content
            else:
                # In the place of another site.
                served.setdefault("datasets/plm/sol", {})[file] = content
                url = f"{hub.endpoint}/datasets/plm/sol/resolve/main/{file}"
                settings.append(f"data.{split}.{number}.url={url}")
    for number, (repository, files) in enumerate(served.items()):
        put_repository(hub, repository, f"{number + 5}" * 40, files)
    return settings, [f"/{repository}/resolve/main/{file}" for repository, files in served.items() for file in files]


def test_their_data_are_fetched_once_and_kept(hub, tmp_path, monkeypatch, capsys):
    hurry(monkeypatch)
    name = "tutorial-frequency"
    settings, paths = serve(hub, name, tmp_path / "data")
    assert train(name, settings=settings) == 0
    said = capsys.readouterr()
    assert sorted(path for _, path in hub.requests) == sorted(paths)
    assert said.err.count("eqxesm: fetching https://huggingface.co/datasets/proteinea/solubility/resolve/main/") == 3
    assert len(list((tmp_path / "cache" / "data").iterdir())) == len(paths) == 6
    with open("run/model/README.md") as file:
        assert "- proteinea/solubility" in file.read()
    hub.requests.clear()
    assert main(["train", f"recipe:{name}", "--out", "again", "--quick",
                 *(word for setting in settings for word in ("--set", setting))]) == 0  # fmt: skip
    assert hub.requests == []


def test_data_that_cannot_be_reached_are_refused_in_one_line(hub, tmp_path, capsys):
    name = "esmc-lora"
    put_repository(hub, "datasets/proteinea/solubility", "5" * 40, {"solubility_testing.csv": b"other"})
    assert train(name) == 2
    _, *_, last = capsys.readouterr().err.splitlines()
    url = RECIPES[name].data.test[0].url
    assert last.startswith(
        f"eqxesm: error: data.test.0: {url}: not the file that the recipe means: its SHA-256 is d9298a10d1b0"
    )
    hub.repositories.clear()
    assert train(name) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    hint = "Check the network, or name a folder that holds the file with --data."
    assert last == f"eqxesm: error: data.test.0: {url}: cannot be fetched (HTTP 401). {hint}"
    assert not list((tmp_path / "cache").rglob("*.csv"))


def test_local_copies_are_checked_too(tmp_path, capsys):
    make_data(RECIPES["tutorial-frequency"], tmp_path / "data", False)
    assert train("tutorial-frequency", "--data", str(tmp_path / "data")) == 2
    message = capsys.readouterr().err
    assert re.search(r"data\.test\.0: .*solubility_testing\.csv: not the file that the recipe means", message)
    assert len(message.splitlines()) == 1


def test_a_file_without_an_address_is_asked_for(tmp_path, capsys):
    settings = make_data(RECIPES["tutorial-frequency"], tmp_path / "data", False)
    (tmp_path / "data" / "plm_sol" / "Train_dataset.fasta").unlink()
    assert train("tutorial-frequency", "--data", str(tmp_path / "data"), settings=settings) == 2
    file = tmp_path / "data" / "plm_sol" / "Train_dataset.fasta"
    told = f"data.training.1: {file}: file not found. Name the folder of the data with --data."
    assert capsys.readouterr().err.splitlines() == [f"eqxesm: error: {told}"]


def test_settings_apply_to_them_too():
    assert read_recipe("recipe:esmc-lora", ["training.epochs=2"]).training.epochs == 2
    with pytest.raises(InputError, match="no recipe of the package"):
        read_recipe("recipe:")
