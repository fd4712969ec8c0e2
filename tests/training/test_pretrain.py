"""Pretraining: its loss, its steps, runs that stop and go on, and what it writes."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import parameters

from eqxesm import ESMC, SSM, ESMCConfig, InputError, Tokenizer
from eqxesm.alphabet import FIRST_RESIDUE, MASK, PAD, STANDARD_RESIDUES
from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.cli.main import main
from eqxesm.data.corpus import CorpusConfig, Rows
from eqxesm.encoders import SSMConfig, load_encoder
from eqxesm.training import pretrain as module
from eqxesm.training import pretrain_report
from eqxesm.training.config import PretrainConfig
from eqxesm.training.devices import make_mesh
from eqxesm.training.masked_lm import measure, score_rows
from eqxesm.training.pretrain import pretrain, put_rows, split
from eqxesm.training.pretrain_recipe import PretrainRecipe
from eqxesm.training.pretrain_state import Look
from eqxesm.training.recipe import read_recipe
from eqxesm.training.state import Scores

pytestmark = pytest.mark.usefixtures("few_shuffled")

ENCODERS = {
    "esmc": ESMCConfig(layers=1, d_model=32, heads=1, d_ffn=32),
    "ssm": SSMConfig(layers=1, d_model=16, heads=2, d_state=4),
}
SETTINGS = {
    "steps": 6,
    "tokens_per_batch": 512,
    "tokens_per_row": 64,
    "validation_steps": 3,
    "validation_rows": 8,
    "checkpoint_steps": 2,
    "learning_rate": 0.01,
    "warmup": 0.0,
}


def write_corpus(folder: Path, sequences: list[str], name: str = "training") -> None:
    text = "".join(f">p{number}\n{sequence}\n" for number, sequence in enumerate(sequences))
    (folder / f"{name}.fasta").write_text(text)


def make_proteins(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACDEFGHIKL"), rng.integers(30, 100))) for _ in range(count)]


@pytest.fixture
def corpus(tmp_path) -> CorpusConfig:
    write_corpus(tmp_path, make_proteins(40, 0))
    write_corpus(tmp_path, make_proteins(10, 1), "validation")
    return CorpusConfig(("training.fasta",), ("validation.fasta",), root=str(tmp_path))


def make_recipe(corpus: CorpusConfig, encoder: str = "esmc", **settings) -> PretrainRecipe:
    return PretrainRecipe(corpus, ENCODERS[encoder], PretrainConfig(**{**SETTINGS, **settings}), name="small")


def make_rows() -> Rows:
    """Two proteins in one row and padding, with some residues hidden."""
    first, second = Tokenizer().encode("MKTAYIAKQR"), Tokenizer().encode("GSHMLED")
    whole = np.concatenate([first, second, np.full(3, PAD, np.int32)])[None]
    chains = np.repeat([0, 1, -1], [len(first), len(second), 3])[None].astype(np.int32)
    targets = np.full_like(whole, PAD)
    for position in (2, 5, 14):
        targets[0, position] = whole[0, position]
    return Rows(np.where(targets == PAD, whole, MASK), targets, chains)


@pytest.mark.parametrize("kind", ENCODERS)
def test_loss_is_that_of_each_protein_alone(kind):
    classes = {"esmc": ESMC, "ssm": SSM}
    encoder = classes[kind](ENCODERS[kind], key=jax.random.key(0))
    rows, config = make_rows(), PretrainConfig()
    params, frozen = split(encoder, make_mesh())
    sums = measure(params, frozen, rows, config)
    expected = np.zeros(rows.tokens.shape)
    for chain in (0, 1):
        chosen = np.flatnonzero(rows.sequence_id[0] == chain)
        logits = np.asarray(encoder.logits(rows.tokens[0, chosen]), np.float64)
        for position, own in zip(chosen, logits, strict=True):
            if (target := rows.targets[0, position]) != PAD:
                expected[0, position] = np.log(np.exp(own).sum()) - own[target]
    np.testing.assert_allclose(sums.loss, expected, atol=1e-5)
    by_kind = score_rows(params, frozen, rows, config, make_mesh())
    counts = {STANDARD_RESIDUES[k]: int(n) for k, n in enumerate(by_kind.count) if n}
    hidden = [STANDARD_RESIDUES[t - FIRST_RESIDUE] for t in rows.targets[rows.targets != PAD]]
    assert counts == {letter: hidden.count(letter) for letter in hidden}
    np.testing.assert_allclose(by_kind.loss.sum(), expected.sum(), rtol=1e-5)


def test_empty_rows_count_for_nothing():
    encoder = ESMC(ENCODERS["esmc"], key=jax.random.key(0))
    params, frozen = split(encoder, make_mesh())
    rows, mesh = make_rows(), make_mesh()
    filled = put_rows(rows, 4, mesh)
    assert filled.tokens.shape[0] == 4
    one, four = (score_rows(params, frozen, each, PretrainConfig(), mesh) for each in (rows, filled))
    for a, b in zip(one, four, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "stop"),
    [("esmc", 2), *(pytest.param(*each, marks=pytest.mark.slow) for each in [("esmc", 5), ("ssm", 3)])],
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(corpus, tmp_path, monkeypatch, kind, stop):
    recipe = make_recipe(corpus, kind)
    pretrain(recipe, tmp_path / "whole")
    step, calls = module.pretrain_step, []

    def stop_after(*arguments):
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(1)
        return step(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(module, "pretrain_step", stop_after)
        with pytest.raises(KeyboardInterrupt):
            pretrain(recipe, tmp_path / "stopped")
    pretrain(recipe, tmp_path / "stopped", resume=True)
    whole, resumed = (load_encoder(tmp_path / name / "model") for name in ("whole", "stopped"))
    assert fingerprint(parameters(whole)) == fingerprint(parameters(resumed))
    first, second = (
        [{**json.loads(line), "seconds": 0} for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "stopped")
    )
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENCODERS)
def test_it_learns_what_frequencies_do_not_tell(tmp_path, kind):
    # Every residue decides the next one, so a hidden one can be told from its neighbours.
    cycle = "ACDEFGHIKLMNPQRSTVWY"
    proteins = [(cycle * 5)[start : start + 60] for start in range(20)]
    write_corpus(tmp_path, proteins)
    write_corpus(tmp_path, [(cycle * 5)[start : start + 70] for start in range(20)], "validation")
    config = CorpusConfig(("training.fasta",), ("validation.fasta",), root=str(tmp_path))
    result = pretrain(
        make_recipe(config, kind, steps=150, validation_steps=50, tokens_per_batch=1024, learning_rate=0.02),
        tmp_path / "run",
    )
    overall = result["validation"][0]
    assert overall["unigram"]["perplexity"] == pytest.approx(20, rel=0.05)
    assert overall["model"]["perplexity"] < 2
    assert overall["model"]["accuracy"] > 0.9


@pytest.fixture
def run(corpus, tmp_path) -> Path:
    pretrain(make_recipe(corpus), tmp_path / "run", command="eqxesm pretrain small.toml")
    return tmp_path / "run"


def test_table_is_of_the_kept_encoder_by_kind_of_residue(run):
    result = json.loads((run / "report" / "metrics.json").read_text())
    overall, *kinds = result["validation"]
    assert overall["hidden"] == sum(row["hidden"] for row in kinds)
    for name in ("model", "trigram", "unigram"):
        mean = sum(row["hidden"] * np.log(row[name]["perplexity"]) for row in kinds) / overall["hidden"]
        assert np.log(overall[name]["perplexity"]) == pytest.approx(mean)
    looks = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = min(looks, key=lambda look: look["validation"]["loss"])
    assert result["best_step"] == best["step"]
    assert overall["model"]["perplexity"] == pytest.approx(np.exp(best["validation"]["loss"]), rel=1e-5)
    table = (run / "report" / "table.md").read_text().splitlines()
    assert len(table) == 3 + len(kinds)
    assert {path.name for path in (run / "report").iterdir()} == {"curve.png", "curve.svg", "metrics.json", "table.md"}


def test_card_tells_how_it_was_made(run):
    card = (run / "model" / "README.md").read_text()
    for part in ("## Pretraining", "40 proteins", "eqxesm pretrain small.toml", "| both neighbours |", "recipe small"):
        assert part in card
    assert "Parity with the PyTorch original" not in card


def test_a_finished_run_says_the_same_again(corpus, run):
    before = (run / "report" / "metrics.json").read_text()
    pretrain(make_recipe(corpus), run, resume=True, command="eqxesm pretrain small.toml")
    assert (run / "report" / "metrics.json").read_text() == before


@pytest.mark.slow
def test_pretraining_goes_on_from_a_trained_encoder(run, tmp_path):
    path = tmp_path / "more.toml"
    text = f"""
    encoder = {{ pretrained = "{run / "model"}" }}
    [data]
    training = ["training.fasta"]
    validation = ["validation.fasta"]
    [training]
    steps = 1
    learning_rate = 1e-30
    tokens_per_row = 64
    validation_rows = 8
    """
    path.write_text(text)
    pretrain(read_recipe(path, kind=PretrainRecipe), tmp_path / "more")
    before, after = (load_encoder(each / "model") for each in (run, tmp_path / "more"))
    for one, other in zip(*(jax.tree.leaves(eqx.filter(each, eqx.is_array)) for each in (before, after)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert after.about.provenance.source == "trained on top of eqxesm pretrain, recipe small"


def test_half_precision_keeps_parameters_in_single(corpus, tmp_path):
    pretrain(make_recipe(corpus, compute_dtype="bfloat16"), tmp_path / "run")
    assert load_encoder(tmp_path / "run" / "model").embedding.dtype == jnp.float32


def test_divergence_is_said_and_stops_the_run(corpus, tmp_path):
    with pytest.raises(InputError, match=r"training diverged at step \d+: loss .* Try a lower training.learning_rate"):
        pretrain(make_recipe(corpus, learning_rate=1e30, clip=float("inf")), tmp_path / "run")


def test_other_proteins_are_refused_on_resume(corpus, run, tmp_path):
    write_corpus(tmp_path, make_proteins(41, 0))
    with pytest.raises(InputError, match="Choose another folder"):
        pretrain(make_recipe(corpus), run, resume=True)


def test_other_settings_are_refused_on_resume(corpus, run):
    with pytest.raises(InputError, match=r"training\.steps was 6 and is 7"):
        pretrain(make_recipe(corpus, steps=7), run, resume=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[encoder]\ntype = 'one_hot'", "encoder"),
        ("[encoder]\ntype = 'esmc'\nlayers = 1\nd_model = 8\nheads = 1\nd_ffn = 8\nlm_head = false", "encoder.lm_head"),
        ("[encoder]\npretrained = '/absent'", "encoder.pretrained is '/absent': folder not found"),
        ("encoder = 3", "encoder"),
    ],
)
def test_recipe_is_refused_in_one_line(tmp_path, capsys, text, message):
    write_corpus(tmp_path, make_proteins(3, 0))
    path = tmp_path / "recipe.toml"
    path.write_text(f"{text}\n[data]\ntraining = ['training.fasta']\nvalidation = ['training.fasta']\n")
    assert main(["pretrain", str(path), "--out", str(tmp_path / "run"), "--no-compilation-cache"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("eqxesm: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_command_prints_a_table(corpus, tmp_path, capsys):
    (tmp_path / "recipe.toml").write_text(make_recipe(corpus).to_toml())
    arguments = ["pretrain", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--no-compilation-cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("training: 40 proteins, ")
    assert lines[1].startswith("validation: 10 proteins, ")
    assert [line.split()[0] for line in lines[4:]] == ["3", "6"]
    assert main([*arguments, "--no-compilation-cache"]) == 2
    assert "holds a run. Add --resume" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "top"), [(19.0, 21.0), (64.0, 67.2)])
def test_the_axis_of_the_curve_holds_every_guess(first, top, tmp_path, monkeypatch):
    looks = [
        Look(number, 1000 * number, Scores(float(np.log(first / number)), 0.1), Scores(2.9, 0.1), 1e-3, 1.0, 1.0)
        for number in (1, 2)
    ]
    figures = []
    monkeypatch.setattr(pretrain_report, "save_figure", lambda figure, *_: figures.append(figure))
    guesses = {name: {"perplexity": 17.0} for name in ("unigram", "trigram")}
    pretrain_report.draw_curve(tmp_path, looks, {"validation": [guesses]})
    assert figures[0].axes[0].get_ylim() == pytest.approx((1, top))
