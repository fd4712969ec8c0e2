"""Cards say what was recorded, and no more."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

from eqxesm import ESMC, ESMCConfig, InputError, OneHot, SolubilityModel
from eqxesm.checkpoint.card import HERE, METRICS_THERE, render_card
from eqxesm.checkpoint.card_edits import merge_cards, parse, rename
from eqxesm.checkpoint.record import Record, read_record
from eqxesm.data.records import read_records
from eqxesm.evaluation import evaluate
from eqxesm.forms import SECTIONS
from eqxesm.solubility import locate
from heads import CompositionMLP, CompositionMLPConfig

CARDS = Path(__file__).parents[1] / "model_cards"


def read_default():
    folder = locate("default")
    config = json.loads((folder / "config.json").read_text())
    record = read_record(folder)
    assert record is not None
    return folder, {name: config[name] for name in SECTIONS}, record


def front(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_default_card_is_rendered_from_its_record():
    folder, sections, record = read_default()
    card = rename(render_card(sections, record), HERE, "default")
    assert (folder / "README.md").read_text() == card
    for name in ("README.md", "metrics.json", "calibration.png"):
        assert (CARDS / "default" / name).read_bytes() == (folder / name).read_bytes()


def test_the_default_model_fits_into_the_package():
    folder, _, _ = read_default()
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 5_000_000


def test_every_figure_of_the_default_model_stands_in_its_card():
    folder, _, record = read_default()
    card = (folder / "README.md").read_text()
    sets = record.facts["evaluation"]["sets"]
    assert {data["name"] for data in sets} == {"DeepSol test", "PLM_Sol test"}
    for data in sets:
        assert {"this model", "tag rule", "composition regression"} <= {
            row["name"] for row in data["rows"]
        }
        for row in data["rows"]:
            for metric in ("accuracy", "mcc", "auroc", "auprc"):
                x = row["metrics"][metric]
                assert f"{x['value']:.3f} ({x['low']:.3f} to {x['high']:.3f})" in card


def test_the_default_models_figures_are_found_again(shared):
    """On PLM_Sol's test set, through the public interface."""
    _, _, record = read_default()
    records = read_records(shared / "plm_sol" / "test_dataset.fasta", labels=True)
    model = SolubilityModel.from_pretrained("default")
    labels = np.array([r.label for r in records])
    probabilities = model.predict([r.sequence for r in records])
    found = evaluate(labels, probabilities.astype(float), resamples=2)
    for data in record.facts["evaluation"]["sets"]:
        if data["name"] == "PLM_Sol test":
            written = next(row for row in data["rows"] if row["name"] == "this model")["metrics"]
            for metric in ("accuracy", "mcc", "auroc", "auprc"):
                assert found[metric].value == pytest.approx(written[metric]["value"], abs=1e-4)


def test_stripping_first_changes_nothing_for_a_model_that_strips():
    _, _, record = read_default()
    figures: dict = {}
    for data in record.facts["evaluation"]["sets"]:
        row = next(row for row in data["rows"] if row["name"] == "this model")
        figures.setdefault(data["name"], []).append(row["metrics"])
    assert all(first == second for first, second in figures.values())


def test_what_was_not_recorded_is_said_to_be_missing(tmp_path):
    head = CompositionMLP(CompositionMLPConfig(25, (4,)), key=jax.random.key(0))
    SolubilityModel(OneHot(), head).save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    _, metadata, body = card.split("---\n", 2)
    assert body.count("Not recorded.") == 6
    assert "What the temperature was fitted on is not recorded." in body
    assert "look it up at the source" not in body
    fields = yaml.safe_load(metadata)
    assert "license" not in fields
    assert "metrics" not in fields
    assert fields["library_name"] == "eqxesm"


def test_the_hub_reads_the_metadata_as_it_is_meant():
    """By the client's own reader of cards."""
    from huggingface_hub import ModelCard

    folder, _, record = read_default()
    card = ModelCard((folder / "README.md").read_text(), ignore_metadata_errors=False)
    fields = card.data.to_dict()
    assert fields["library_name"] == "eqxesm"
    assert fields["pipeline_tag"] == "text-classification"
    assert fields["datasets"] == ["proteinea/solubility"]
    assert {"biology", "protein", "solubility", "jax", "equinox"} <= set(fields["tags"])
    found = {
        (result.dataset_name, result.metric_type): result.metric_value
        for result in card.data.eval_results
    }
    sets = record.facts["evaluation"]["sets"]
    assert len(found) == len(sets) * len(METRICS_THERE)
    for data in sets:
        for key, (kind, _) in METRICS_THERE.items():
            value = found[f"{data['name']}, {data['variant']}", kind]
            assert type(value) is float
            assert value == pytest.approx(data["rows"][0]["metrics"][key]["value"], abs=5e-5)


BASE = {"repository": "me/esmc", "revision": "a" * 40, "sha256": "b" * 64}


@pytest.mark.parametrize(
    ("form", "relation"), [("full", "finetune"), ("head", "finetune"), ("adapter", "adapter")]
)
def test_what_a_model_stands_on_is_told(form, relation):
    _, sections, record = read_default()
    encoder = {"type": "esmc", "layers": 2, "d_model": 64, "heads": 1, "d_ffn": 64}
    card = render_card({**sections, "form": form, "base": BASE, "encoder": encoder}, record)
    fields = front(card)
    assert (fields["base_model"], fields["base_model_relation"]) == ("me/esmc", relation)
    assert "esm" in fields["tags"]
    assert "ESM-C: ESM Team (2024)" in card
    assert "parity of the encoder's port with its PyTorch original is not recorded" in card
    assert ("it is fetched when the model is loaded" in card) == (form != "full")
    assert card.count("a" * 40) == 1


def test_the_licence_goes_on_from_the_encoder():
    _, sections, _ = read_default()
    source = {"source": "trained on top of biohub/ESMC-300M", "revision": "a" * 40,
              "sha256": [], "license": "mit"}  # fmt: skip
    fields = front(render_card({**sections, "provenance": source}))
    assert fields["license"] == "mit"
    assert fields["base_model"] == "biohub/ESMC-300M"
    assert fields["base_model_relation"] == "finetune"


def test_an_encoder_s_card_tells_its_parity(tmp_path):
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
    "facts",
    [{}, {"training": {}}, {"training": None}, {"evaluation": {"sets": [1]}}, {"parity": 3}],
)
def test_a_record_that_no_card_is_made_from(facts, tmp_path):
    """Such as one of another version, or one that somebody made up."""
    model = SolubilityModel.from_pretrained("default")
    with pytest.raises(InputError, match="not one that a card is made from"):
        model.save_pretrained(tmp_path / "model", {"summary": "x", **facts})
    assert not (tmp_path / "model").exists()


def test_a_record_of_another_kind_is_refused(tmp_path):
    SolubilityModel.from_pretrained("default").save_pretrained(tmp_path / "model")
    for text in ("[]", "{}", "{", '{"summary": 3}'):
        (tmp_path / "model" / "metrics.json").write_text(text)
        with pytest.raises(InputError, match=r"metrics\.json"):
            SolubilityModel.from_pretrained(tmp_path / "model")


# A person's words


def sections(*pairs: tuple[str, str]) -> str:
    return "\n".join(
        f"<!-- eqxesm:{name} -->\n{text}\n<!-- /eqxesm:{name} -->\n" for name, text in pairs
    )


def body(card: str) -> str:
    return card.split("---\n", 2)[2].strip()


NEW = "---\nlicense: mit\n---\n\n" + sections(("a", "A2"), ("b", "B2"), ("c", "C2"))


def words(card: str) -> list[str]:
    pieces = parse(card.split("---\n", 2)[2] if card.startswith("---") else card)
    return [piece.text.strip("\n") for piece in pieces if not piece.section and piece.text.strip()]


def check_renewed(merged: str) -> None:
    names = [piece.section for piece in parse(body(merged)) if piece.section]
    assert names == ["a", "b", "c"]
    for name in "abc":
        assert f"<!-- eqxesm:{name} -->\n{name.upper()}2\n<!-- /eqxesm:{name} -->" in merged
    assert merge_cards(NEW, merged) == merged


def test_words_stay_where_they_are():
    old = "before\n\n" + sections(("a", "A1"), ("b", "B1")) + "\nbehind\n"
    merged = merge_cards(NEW, old)
    parts = [merged.index(part) for part in ("before", "A2", "B2", "C2", "behind")]
    assert parts == sorted(parts)
    check_renewed(merged)


FENCED = "```python\ndef f(x):\n\n    return x\n```"
QUOTED = f"````\n{sections(('a', 'quoted'))}````"


@pytest.mark.parametrize(
    ("old", "kept"),
    [
        ("", []),
        ("---\nlicense: mit\n---\n", []),
        ("# A page of my own\n\nwith words", ["# A page of my own\n\nwith words"]),
        ("---\nOur words between rules\n---\nmore", ["---\nOur words between rules\n---\nmore"]),
        ("words\r\n\r\nof Windows\r\n", ["words\n\nof Windows"]),
        (sections(("a", "A1"), ("a", "twice")) + "words", ["words"]),
        (sections(("gone", "of an earlier version")) + "words", ["words"]),
        ("  <!--  eqxesm:a  -->  \nA1\n<!-- /eqxesm:a -->\t\nwords", ["words"]),
        (f"{FENCED}\n" + sections(("a", "A1")), [FENCED]),
        (f"{QUOTED}\n" + sections(("a", "A1")), [QUOTED]),
        (
            "Do not touch `<!-- eqxesm:use -->` please",
            ["Do not touch `<!-- eqxesm:use -->` please"],
        ),
        ("\n\ufeffwords", ["\ufeffwords"]),
    ],
)
def test_any_earlier_card_keeps_its_words_and_gets_the_sections(old, kept):
    merged = merge_cards(NEW, old)
    assert words(merged) == kept
    assert "of an earlier version" not in merged
    assert front(merged)["license"] == "mit"
    check_renewed(merged)


@pytest.mark.parametrize(
    ("old", "part"),
    [
        ("<!-- eqxesm:a -->\nan end that is missing", "has lost <!-- /eqxesm:a -->"),
        ("<!-- /eqxesm:a -->\na start that is missing", "has lost <!-- eqxesm:a -->"),
        ("<!-- eqxesm:a -->\nA1\n" + sections(("b", "B1")), "has lost <!-- /eqxesm:a -->"),
        ("a fence\n```\n<!-- eqxesm:b -->\n", "opens code with ``` and never closes it"),
        ("---\ntitle: our assay: second round\n---\nwords", "are no YAML"),
        ("---\nx: " + "[" * 5000 + "\n---\nwords", "are no YAML"),
        ("---\nx: &a [1]\ntags: [*a]\n---\nwords", "have aliases: spell them out"),
        ("---\n{license: mit}\n---\nwords", "in braces: write a field a line"),
    ],
)
def test_a_card_that_cannot_be_told_apart_is_refused(old, part):
    """Better than a section that is twice there, or words that are lost."""
    with pytest.raises(InputError) as caught:
        merge_cards(NEW, old)
    assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_words_from_both_sides_are_kept():
    here = NEW + "\nfrom here\n"
    there = sections(("a", "A1")) + "\nfrom there\n"
    assert words(merge_cards(here, there)) == ["from there\n\nfrom here"]
    more = NEW.replace("<!-- eqxesm:b", "from there\n\nand here\n\n<!-- eqxesm:b", 1)
    assert body(merge_cards(more, there)) == body(more)
    code = merge_cards(NEW + f"\n{FENCED}\n", there)
    assert FENCED in code


def test_a_name_is_put_in_where_the_machine_wrote_it():
    card = NEW.replace("A2", HERE) + f"\nAsk before you edit {HERE}.\n"
    named = rename(card, HERE, "me/x")
    assert "<!-- eqxesm:a -->\nme/x\n" in named
    assert f"Ask before you edit {HERE}." in named


def test_fields_of_both_sides():
    old = (
        "---\nlicense: apache-2.0\nlanguage: no # Norwegian\ndate: 2024-13-45\nversion: 1.10\n"
        "time: 12:30:00\nwidget:\n- text: MKV\ntags:\n- mine\n- jax\n---\n\nwords\n"
    )
    new = "---\nlicense: mit\ntags:\n- jax\n- protein\n---\n\n" + sections(("a", "A"))
    merged = merge_cards(new, old)
    for own in ("language: no # Norwegian\n", "date: 2024-13-45\n", "version: 1.10\n",
                "time: 12:30:00\n", "widget:\n- text: MKV\n"):  # fmt: skip
        assert own in merged
    assert "license: mit\ntags:\n- jax\n- protein\n- mine\n" in merged
    assert "apache" not in merged
    assert merge_cards(new, merged) == merged


@pytest.mark.parametrize("ahead", ["", "\ufeff", "\n\n"])
def test_figures_of_another_model_do_not_stay(ahead):
    """Neither in the sections nor in the metadata, where the Hub reads them."""
    _, sections, record = read_default()
    old = render_card({**sections, "form": "adapter", "base": BASE}, record)
    assert {"model-index", "metrics", "datasets", "base_model"} <= set(front(old))
    old = ahead + old.replace("tags:\n", "tags:\n- mine\n", 1).replace("license: a", "license: b")
    bare = {**sections, "provenance": None}
    merged = merge_cards(render_card(bare), old)
    fields = front(merged)
    assert set(fields) == {"library_name", "pipeline_tag", "tags", "license"}
    assert fields["tags"] == ["biology", "protein", "jax", "equinox", "solubility", "mine"]
    assert fields["license"] == "bpache-2.0", "a person changed it"
    assert "0.599" not in merged
    assert merged.count("## How well it does") == 1
    unchanged = merge_cards(render_card(bare), render_card(sections, record))
    assert set(front(unchanged)) == {"library_name", "pipeline_tag", "tags"}


def test_a_record_shows_little_of_itself():
    record = Record('{"summary": "short"}', (("calibration.png", b"x" * 1000),))
    assert repr(record) == "Record('short')"
