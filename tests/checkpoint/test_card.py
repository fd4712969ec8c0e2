"""Cards say what was recorded, and no more."""

import copy

import jax
import numpy as np
import pytest
import yaml
from paths import ROOT

from eqxesm import ESMC, ESMCConfig, InputError, OneHot, SolubilityModel
from eqxesm.checkpoint.card import HERE, HUB_METRICS, render_card
from eqxesm.checkpoint.card_edits import merge_cards, replace_name
from eqxesm.checkpoint.folder import read_config
from eqxesm.checkpoint.licences import read_licence
from eqxesm.checkpoint.record import Record, read_record
from eqxesm.data.proteins import read_proteins
from eqxesm.evaluation import evaluate
from eqxesm.protein_model import locate_model
from heads import CompositionMLP, CompositionMLPConfig

CARDS = ROOT / "model_cards"


def read_default():
    folder = locate_model("default")
    record = read_record(folder)
    assert record is not None
    return folder, read_config(folder), record


def front(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_default_card_is_rendered_from_its_record():
    folder, sections, record = read_default()
    card = replace_name(render_card(sections, record), HERE, "default")
    assert (folder / "README.md").read_text() == card
    for name in ("README.md", "metrics.json", "calibration.png"):
        assert (CARDS / "default" / name).read_bytes() == (folder / name).read_bytes()


def test_the_default_model_fits_into_the_package():
    folder, _, _ = read_default()
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 10_000_000


def test_every_figure_of_the_default_model_is_in_its_card():
    folder, _, record = read_default()
    card = (folder / "README.md").read_text()
    sets = record.facts["evaluation"]["sets"]
    assert {data["name"] for data in sets} >= {"DeepSol test", "PLM_Sol test"}
    for data in sets:
        assert {"this model", "hand features, boosting", "composition regression"} <= {r["name"] for r in data["rows"]}
        for row in data["rows"]:
            for metric in ("accuracy", "mcc", "auroc", "auprc"):
                x = row["metrics"][metric]
                assert f"{x['value']:.3f} ({x['low']:.3f} to {x['high']:.3f})" in card.replace(
                    "\N{NO-BREAK SPACE}", " "
                )


@pytest.mark.slow
def test_the_default_models_figures_are_measured_again(shared):
    """On PLM_Sol's test set, through the public interface."""
    _, _, record = read_default()
    proteins = list(read_proteins(shared / "plm_sol" / "test_dataset.fasta", labelled=True))
    model = SolubilityModel.from_pretrained("default")
    labels = np.array([protein.label for protein in proteins])
    # Some are longer than what the model accepts.
    probabilities = model.predict_tokens([model.tokenize(model.cleaning.clean(each.sequence)) for each in proteins])
    found = evaluate(labels, probabilities.astype(float), resamples=2)
    measured = [data for data in record.facts["evaluation"]["sets"] if data["name"] == "PLM_Sol test"]
    assert measured
    for data in measured:
        written = next(row for row in data["rows"] if row["name"] == "this model")["metrics"]
        for metric in ("accuracy", "mcc", "auroc", "auprc"):
            assert found[metric].value == pytest.approx(written[metric]["value"], abs=1e-4)


def test_tables_of_the_record_are_shown():
    _, sections, record = read_default()
    rows = [["a", "0.6"], ["b", "0.7"]]
    table = {"title": "By source", "text": "Each alone.", "columns": ["source", "AUROC"], "rows": rows}
    facts = {**record.facts, "evaluation": {**record.facts["evaluation"], "tables": [table]}}
    card = render_card(sections, Record(facts, record.pictures))
    assert "### By source\n\nEach alone.\n\n| source | AUROC |\n|---|---|\n| a | 0.6 |\n| b | 0.7 |\n" in card


def test_what_was_not_recorded_is_said_to_be_missing(tmp_path):
    head = CompositionMLP(CompositionMLPConfig(25, (4,)), key=jax.random.key(0))
    SolubilityModel(OneHot(), head).save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    _, metadata, body = card.split("---\n", 2)
    assert body.count("Not recorded.") == 6
    assert "What the temperature was fitted on is not recorded." in body
    assert "Look it up at the source" not in body
    fields = yaml.safe_load(metadata)
    assert "license" not in fields
    assert "metrics" not in fields
    assert fields["library_name"] == "eqxesm"


def test_the_hub_client_reads_the_metadata():
    from huggingface_hub import ModelCard

    folder, _, record = read_default()
    card = ModelCard((folder / "README.md").read_text(), ignore_metadata_errors=False)
    fields = card.data.to_dict()
    assert fields["library_name"] == "eqxesm"
    assert fields["pipeline_tag"] == "text-classification"
    assert fields["datasets"] == ["proteinea/solubility"]
    assert {"biology", "protein", "solubility", "jax", "equinox"} <= set(fields["tags"])
    found = {(result.dataset_name, result.metric_type): result.metric_value for result in card.data.eval_results}
    sets = record.facts["evaluation"]["sets"]
    measured = [key for key in HUB_METRICS if key in sets[0]["rows"][0]["metrics"]]
    assert len(found) == len(sets) * len(measured) == len(sets) * 6
    for data in sets:
        for key in measured:
            kind = HUB_METRICS[key][0]
            value = found[f"{data['name']}, {data['variant']}", kind]
            assert type(value) is float
            assert value == pytest.approx(data["rows"][0]["metrics"][key]["value"], abs=5e-5)


BASE = {"repository": "me/esmc", "revision": "a" * 40, "sha256": "b" * 64}


@pytest.mark.parametrize(("form", "relation"), [("full", "finetune"), ("head", "finetune"), ("adapter", "adapter")])
def test_the_base_of_a_model_is_named(form, relation):
    _, sections, record = read_default()
    encoder = {"type": "esmc", "layers": 2, "d_model": 64, "heads": 1, "d_ffn": 64}
    card = render_card({**sections, "form": form, "base": BASE, "encoder": encoder}, record)
    fields = front(card)
    assert (fields["base_model"], fields["base_model_relation"]) == ("me/esmc", relation)
    assert "esm" in fields["tags"]
    assert "ESM-C: ESM Team (2024)" in card
    assert "parity of the encoder's port with its PyTorch original is not recorded" in card
    assert ("It is fetched when the model is loaded" in card) == (form != "full")
    assert card.count("a" * 40) == 1


def test_a_trained_model_has_the_licence_of_its_encoder():
    _, sections, _ = read_default()
    source = {"source": "trained on top of biohub/ESMC-300M", "revision": "a" * 40, "sha256": [], "license": "mit"}
    fields = front(render_card({**sections, "provenance": source}))
    assert fields["license"] == "mit"
    assert fields["base_model"] == "biohub/ESMC-300M"
    assert fields["base_model_relation"] == "finetune"
    assert "license_name" not in fields


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("EvolutionaryScale/esmc-300m-2024-12", "cambrian-open-license-agreement"),
        ("EvolutionaryScale/esmc-600m-2024-12", "cambrian-non-commercial-license-agreement"),
    ],
)
@pytest.mark.parametrize("trained", [False, True])
def test_a_licence_that_the_hub_does_not_know_is_named_with_its_text(repository, name, trained, tmp_path):
    front_matter = f"library_name: esm\nlicense: other\nlicense_name: {name}\nlicense_link: LICENSE.md\n"
    (tmp_path / "README.md").write_text(f"---\n{front_matter}---\n# ESM-C\n")
    licence = read_licence(tmp_path)
    assert licence == name
    provenance = {"source": repository, "revision": "a" * 40, "sha256": [], "license": licence}
    if trained:
        _, sections, _ = read_default()
        sections = {**sections, "provenance": {**provenance, "source": f"trained on top of {repository}"}}
    else:
        sections = {**read_config(CARDS / "encoder"), "provenance": provenance}
    card = render_card(sections)
    fields = front(card)
    link = f"https://www.evolutionaryscale.ai/policies/{name}"
    assert (fields["license"], fields["license_name"], fields["license_link"]) == ("other", name, link)
    assert f"- Licence: [{name}]({link})\n- Copyright lines and notices" in card
    # When it rests on other weights one day, nothing is left of the old terms.
    renewed = front(merge_cards(render_card({**sections, "provenance": {**provenance, "license": "mit"}}), card))
    assert renewed["license"] == "mit"
    assert not {"license_name", "license_link"} & set(renewed)


@pytest.mark.parametrize(
    ("encoder", "own"),
    [
        ({"type": "esmc"}, {"protein-language-model", "esmc", "esm"}),
        ({"type": "ssm"}, {"protein-language-model"}),
        ({"type": "one_hot"}, set()),
        ({"type": "with_properties", "encoder": {"type": "esmc"}}, {"protein-language-model", "esmc", "esm"}),
        ({"type": "with_properties", "encoder": {"type": "one_hot"}}, set()),
    ],
)
def test_tags_say_what_the_encoder_is(encoder, own):
    _, sections, record = read_default()
    tags = front(render_card({**sections, "encoder": encoder}, record))["tags"]
    assert sorted(tags) == sorted({"biology", "protein", "jax", "equinox", "solubility"} | own)


@pytest.mark.parametrize("name", ["encoder", "ssm"])
def test_the_cards_of_pretrained_encoders_are_rendered_from_their_records(name):
    folder = CARDS / name
    assert (folder / "README.md").read_text() == render_card(read_config(folder), read_record(folder))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"provenance": None}, "features of an encoder built like ESM-C, without its published weights"),
        ({"provenance": {"source": "eqxesm train, recipe x", "revision": None, "sha256": [], "license": "mit"}},
         "features of an encoder built like ESM-C, without its published weights"),
        ({"provenance": {"source": "trained on top of x.pth", "revision": None, "sha256": ["a  x"], "license": "mit"}},
         "head on features of ESM-C, as"),
        ({"encoder": {"type": "one_hot"}}, "head on one-hot features, as"),
    ],
)  # fmt: skip
def test_features_are_called_those_of_esmc_where_the_weights_are(changes, words):
    _, sections, _ = read_default()
    esmc = {"type": "esmc", "layers": 1, "d_model": 64, "heads": 1, "d_ffn": 64, "lm_head": False}
    assert words in render_card({**sections, "encoder": esmc, **changes})


def test_the_card_says_how_lengths_are_limited():
    _, sections, record = read_default()
    limits = {"max_residues": 2046, "min_residues": 5, "trained_residues": 400}
    card = render_card({**sections, "limits": limits, "cleaning": {**sections["cleaning"], "truncate": 400}}, record)
    assert "and a protein is cut to its first 400 residues" in card
    assert "Proteins of more than 2,046 residues are refused; those of more than 400, the longest in training" in card
    facts = copy.deepcopy(dict(record.facts))
    facts["evaluation"]["sets"][0]["too_long"] = 7
    card = render_card(sections, Record(facts, record.pictures))
    assert card.count("7 more of the set are longer than this model accepts, and are not measured.") == 1


def test_the_card_of_an_encoder_tells_its_parity(tmp_path):
    encoder = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0))
    encoder.save_pretrained(tmp_path / "bare")
    assert "Not measured on these weights" in (tmp_path / "bare" / "README.md").read_text()
    parity = {"original": "transformers 5", "dtype": "float32", "device": "CPU, X",
              "distance": 1.6e-6, "tolerance": 1e-5, "weights": "biohub/ESMC-300M",
              "date": "2026-11-22"}  # fmt: skip
    facts = {"summary": "A port.", "parity": [parity]}
    encoder.save_pretrained(tmp_path / "proved", facts, {"parity.png": b"made up"})
    card = (tmp_path / "proved" / "README.md").read_text()
    row = "| transformers 5 | float32 | CPU, X | 1.6e-06 | 1e-05 | biohub/ESMC-300M | 2026-11-22 |"
    assert row in card
    assert "](parity.png)" in card
    loaded = ESMC.from_pretrained(tmp_path / "proved")
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == card
    assert (tmp_path / "again" / "parity.png").read_bytes() == b"made up"


@pytest.mark.parametrize(
    "facts", [{}, {"training": {}}, {"training": None}, {"evaluation": {"sets": [1]}}, {"parity": 3}]
)
def test_refuses_a_record_that_does_not_fit_the_card(facts, tmp_path):
    """Such as one of another version, or one that somebody made up."""
    model = SolubilityModel.from_pretrained("default")
    with pytest.raises(InputError, match="the record of the model does not fit the card"):
        model.save_pretrained(tmp_path / "model", {"summary": "x", **facts})
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("ahead", ["", "\ufeff", "\n\n"])
def test_figures_of_another_model_do_not_stay(ahead):
    """Neither in the sections nor in the metadata, where the Hub reads them."""
    _, sections, record = read_default()
    old = render_card({**sections, "form": "adapter", "base": BASE}, record)
    assert {"model-index", "metrics", "datasets", "base_model"} <= set(front(old))
    old = ahead + old.replace("tags:\n", "tags:\n- mine\n", 1).replace("license: c", "license: d")
    bare = {**sections, "provenance": None}
    merged = merge_cards(render_card(bare), old)
    fields = front(merged)
    assert set(fields) == {"library_name", "pipeline_tag", "tags", "license"}
    assert fields["tags"] == [*front(render_card(bare))["tags"], "mine"]
    assert fields["license"] == "dc-by-4.0", "a person changed it"
    figure = f"{record.facts['evaluation']['sets'][0]['rows'][0]['metrics']['auroc']['value']:.3f}"
    assert figure in old
    assert figure not in merged
    assert merged.count("## Results") == 1
    unchanged = merge_cards(render_card(bare), render_card(sections, record))
    assert set(front(unchanged)) == {"library_name", "pipeline_tag", "tags"}
