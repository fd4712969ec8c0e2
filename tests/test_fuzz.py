"""Whatever people and programs feed it: an answer or a refusal in one line, never another error.

2,250 examples in all, of files, ids, sequences, labels, configurations and cards.
"""

import gzip
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from predictions import predict_proteins

from eqxesm import InputError, SolubilityModel
from eqxesm.checkpoint.card_edits import merge_cards, split_card
from eqxesm.checkpoint.folder import read_config
from eqxesm.data.labels import as_labels
from eqxesm.data.proteins import read_proteins
from eqxesm.forms import read_sections
from eqxesm.protein_model import locate_model
from eqxesm.sequences import as_sequence, as_text, is_missing
from eqxesm.tables import format_table, write_table
from eqxesm.training.recipe import read_recipe

fuzz = settings(
    max_examples=250, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

PIECES = st.sampled_from([
    "MKV", "ACDEFGHIKLMNPQRSTVWY", "acgtacgtacgt", "ACGU" * 5, "X" * 12, "H" * 8, "GSHM", "NA", "NaN", "None", "#N/A",
    "-", "*", ">", ">a", ">a b-1", "id", "sequence", "label", "Id", "seq", ",", ";", "\t", "|", '"', "'", "\n", "\r\n",
    "\r", "#", " ", "1", "0", "1.0", "True", "soluble", "yes", "2", "é", "\x1b[31m", "\u202e", "\ufeff", "\0", "\x85",
    "½", "🧬", "//", "LOCUS", "<?xml", "{", "}", "[", "]", "=", "\\", "..", "~", "%s", "{}",
])  # fmt: skip
TEXTS = st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=40)
TABLES = st.builds(lambda header, rest: f"{header}\n{rest}", st.sampled_from(
    ["id,sequence,label", "sequence\tlabel", "Name;Seq;label", "#id,sequence", "id,id,sequence,label", "aa,b"]
), TEXTS)  # fmt: skip
CONTENTS = (TEXTS | TABLES).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60)
ENDINGS = st.sampled_from([".fasta", ".csv", ".tsv", ".csv.gz", ".gb", ".xml", ".pdb", ".parquet", ""])


def refusal(call) -> str | None:
    """What a call refuses, in one printable line; nothing if it answers. Any other error passes through."""
    try:
        call()
    except InputError as error:
        message = str(error)
        assert message.isprintable()
        assert 0 < len(message) < 2100
        return message
    return None


@pytest.fixture(scope="module")
def model() -> SolubilityModel:
    return SolubilityModel.from_pretrained("default")


@fuzz
@given(content=CONTENTS, ending=ENDINGS, labelled=st.booleans(), compress=st.booleans())
def test_files_of_proteins(content, ending, labelled, compress, tmp_path):
    path = tmp_path / f"p{ending}"
    path.write_bytes(gzip.compress(content) if compress else content)
    refusal(lambda: list(read_proteins(path, labelled=labelled)))


@pytest.mark.slow
@fuzz
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), ending=ENDINGS)
def test_tables_of_predictions(texts, ending, tmp_path, model):
    path = tmp_path / f"p{ending}"
    path.write_bytes("".join(f">{text}\nMKVLA\n" for text in texts).encode("utf-8", "surrogatepass"))
    rows = []

    def run() -> None:
        proteins = [protein for protein in read_proteins(path) if len(protein.sequence) < 200]
        rows.extend(predict_proteins(model, proteins, "p"))

    if refusal(run) is None and rows:
        written = [{"id": row.id, "probability": row.probability, "note": row.note} for row in rows]
        shown = format_table(written)
        assert len(shown.split("\n")) == len(rows) + 1
        assert all(line.isprintable() for line in shown.split("\n"))
        write_table(tmp_path / "out.csv", written)


@fuzz
@given(
    values=st.lists(TEXTS | st.none() | st.floats() | st.binary(max_size=3) | st.lists(TEXTS, max_size=2), max_size=3)
)
def test_sequences_in_python(values, model):
    def run() -> None:
        for value in as_sequence(values, "sequences"):
            text = as_text(value, "sequence 1")
            if not is_missing(text):
                cleaned = model.clean(text)
                assert cleaned.sequence.isalpha()
                assert all(note.isprintable() for note in cleaned.notes)
                model.tokenize(cleaned)

    refusal(run)


LABELS = st.lists(
    st.booleans() | st.integers(-1, 2) | st.floats() | st.none() | st.text(max_size=2) | st.just([1]), max_size=5
)


@fuzz
@given(values=LABELS, number=st.integers(0, 5))
def test_labels_in_python(values, number):
    answered = []
    try:
        np.asarray(values)
    except ValueError:
        # A ragged list is refused by numpy itself.
        return
    if refusal(lambda: answered.append(as_labels(values, number))) is None:
        (labels,) = answered
        assert labels.shape == (number,)
        assert labels.tolist() == [int(value) for value in values]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@fuzz
@given(data=st.data())
def test_configurations(data, tmp_path):
    config = read_config(locate_model("default"))
    config["schema_version"] = 1
    for _ in range(data.draw(st.integers(1, 3))):
        table = config
        key = data.draw(st.sampled_from(sorted(table)))
        if isinstance(table[key], dict) and table[key] and data.draw(st.booleans()):
            table = table[key]
            key = data.draw(st.sampled_from(sorted(table)) | TEXTS)
        table[key] = data.draw(JSON)
    (tmp_path / "config.json").write_bytes(json.dumps(config).encode("utf-8", "surrogatepass"))
    refusal(lambda: read_sections(tmp_path))


@fuzz
@given(content=CONTENTS)
def test_configurations_that_are_anything(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    assert refusal(lambda: read_sections(tmp_path))


CARD_PIECES = st.sampled_from([
    "---\n", "---", "license: mit\n", "license:\n- mit\n- apache-2.0\n", "tags:\n- a\n", "tags: [a, [b], {c: d}]\n",
    "tags: &x [*x]\n", "? [a]\n: b\n", "<<: *a\n", "!!python/object:os.system x\n", "a: b: c\n", "\t- x\n", "# words\n",
    "<!-- eqxesm:about -->\n", "<!-- /eqxesm:about -->\n", "<!-- eqxesm:use -->\n", "<!-- written by eqxesm: {",
    '"tags": ["a"]', '"license": [1]', "} -->\n", "words\n", "\n\n", "```\n", "\r\n", "\ufeff", "é", "\0", "\x85",
    "- \n",
])  # fmt: skip
CARDS = st.lists(CARD_PIECES, max_size=14).map("".join) | TEXTS
OURS = (
    "---\nlicense: mit\ntags:\n- a\n- b\n---\n\n<!-- eqxesm:about -->\n"
    '<!-- written by eqxesm: {"tags": ["a", "b"]} -->\n'
    "ours\n<!-- /eqxesm:about -->\n"
)


@fuzz
@given(card=CARDS)
def test_cards(card):
    merged = []
    if refusal(lambda: merged.append(merge_cards(OURS, card))) is None:
        assert "ours" in merged[0]
        assert ("words" in split_card(card)[1]) <= ("words" in merged[0])
        # What was renewed is renewed to the same.
        assert merge_cards(OURS, merged[0]) == merged[0]


@fuzz
@given(content=CONTENTS | CARDS.map(str.encode), changes=st.lists(TEXTS, max_size=2))
def test_recipes(content, changes, tmp_path):
    (tmp_path / "r.toml").write_bytes(content)
    assert refusal(lambda: read_recipe(tmp_path / "r.toml", changes))


RECIPE = """
[[data.training]]
path = "a.csv"
[[data.validation]]
path = "b.csv"
[model]
encoder = { type = "one_hot" }
head = { type = "composition_mlp" }
[training]
"""
KEYS = st.sampled_from(
    ["training.epochs", "training.learning_rate", "training", "data.training.0.path", "data.training.9.path", "name",
     "data.root", "data.too_long", "model.head", "model.encoder.pretrained", "a..b", "", ".", "data.training.-1.path"]
)  # fmt: skip


@fuzz
@given(
    changes=st.lists(
        st.builds("{}={}".format, KEYS, TEXTS | st.sampled_from(["inf", "nan", "-1", "[]", "{}", "1e999"]))
    )
)
def test_settings_of_a_recipe(changes, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    refusal(lambda: read_recipe(tmp_path / "r.toml", changes))
