"""The parity check passes a right port, fails a wrong one, and says what is missing.

It runs against whichever torch original the environment has.
"""

import dataclasses
import json
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from originals import TINY, write_state
from paths import ROOT
from safetensors.numpy import load_file

from conversion import ladder, parity
from conversion.compare import compare, distance, find_failures
from conversion.originals import find_original
from conversion.panel import make_cases
from conversion.report import draw_report, format_report, save_report
from eqxesm import ESMC, ESMCConfig, InputError
from eqxesm.alphabet import PAD, RESIDUES, VOCAB_SIZE
from eqxesm.checkpoint.leaves import named_leaves
from eqxesm.encoders import PRESETS

try:
    ORIGINAL = find_original()
except InputError:
    pytest.skip("no torch original is installed", allow_module_level=True)


@pytest.fixture
def short_panel(monkeypatch, tiny_preset):  # noqa: ARG001
    """A tiny 300M, and the panel without its longest protein."""
    monkeypatch.setattr("conversion.check.make_cases", lambda: make_cases()[:4])


@pytest.fixture(scope="module")
def reference():
    """The original of this environment, tiny, with weights drawn at random."""
    made = ORIGINAL(TINY)
    made.randomise(seed=0)
    return made


@pytest.fixture(scope="module")
def reference_file(reference, tmp_path_factory):
    state = {name: tensor.numpy() for name, tensor in reference.module.state_dict().items()}
    return write_state(state, tmp_path_factory.mktemp("reference") / "x.safetensors")


@pytest.fixture
def check(command):
    """Run the command on esmc_300m."""
    return lambda *options: command(parity.main, "esmc_300m", *options)


@pytest.fixture
def refused(check):
    """The last line of a command that fails. Those before it say what was being done."""

    def run(*options) -> str:
        done = check(*options)
        assert done.status == 2
        assert done.out == ""
        *progress, message = done.err.splitlines()
        assert not any("error" in line for line in progress)
        assert message.startswith("conversion.parity: error: ")
        return message

    return run


def test_every_tensor_is_shared(reference):
    encoder, shared = ladder.share_weights(reference, TINY)
    state = reference.module.state_dict()
    assert shared == len(state)
    embedding = {"split": "esmc.embed_tokens.weight", "legacy": "embed.weight"}[reference.layout]
    # An unstacked leaf is the tensor itself. The others are stacked after they were shared.
    assert encoder.embedding.unsafe_buffer_pointer() == state[embedding].data_ptr()
    wanted = eqx.filter_eval_shape(lambda: ESMC(TINY, key=jax.random.key(0)))
    assert {name: leaf.shape for name, leaf in named_leaves(encoder).items()} == {
        name: leaf.shape for name, leaf in named_leaves(wanted).items()
    }


@pytest.mark.usefixtures("short_panel")
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_a_right_port_passes(check, tmp_path, dtype):
    done = check("--random-weights", "--dtype", dtype, "--out", tmp_path)
    assert done.status == 0, done.out
    assert "within tolerance" in done.out
    (file,) = tmp_path.glob("*.json")
    (plot,) = tmp_path.glob("*.png")
    assert plot.read_bytes().startswith(b"\x89PNG")
    report = json.loads(file.read_text())
    assert report["bridge"]["shared"] == report["bridge"]["tensors"] > 30
    assert [case["name"] for case in report["cases"]] == [case.name for case in make_cases()[:4]]
    rungs = [f"block {n}" for n in range(TINY.layers + 1)] + ["embedding", "logits"]
    for case in report["cases"]:
        assert list(case["rungs"]) == rungs
        assert case["argmax_agreement"] > 0.9
    perplexity = report["pseudo_perplexity"]
    assert perplexity["ours"] == pytest.approx(perplexity["theirs"], rel=1e-2)
    if dtype == "float32":
        assert perplexity["ours"] == pytest.approx(perplexity["theirs"], rel=1e-5)


def test_pictures_of_one_precision_share_an_axis(monkeypatch):
    figures = []
    monkeypatch.setattr("eqxesm.drawing.to_bytes", lambda figure, *_: figures.append(figure) or b"")
    for name in ("esmc_300m-float32-cpu-transformers", "esmc_600m-float32-gpu-transformers"):
        report = json.loads((ROOT / "model_cards" / "parity" / f"{name}.json").read_text())
        draw_report(report)
        axes, cases = figures[-1].axes[0], len(report["cases"])
        names = [text.get_text() for text in figures[-1].legends[0].get_texts()]
        assert names == [case["name"] for case in report["cases"]]
        drawn = [line for line in axes.lines if line.get_label() in names]
        assert len({(line.get_color(), line.get_marker()) for line in drawn}) == cases
    first, second = (figure.axes[0].get_ylim() for figure in figures)
    assert first == pytest.approx(second)
    assert first[0] < report["tolerance"] / 100
    assert first[1] > report["tolerance"]


def approximate_gelu(monkeypatch):
    """What two published ports did."""
    exact = jax.nn.gelu
    monkeypatch.setattr(jax.nn, "gelu", lambda x, **_: exact(x, approximate=True))
    # Another function, so that it is traced again.
    climb = ladder.climb.__wrapped__
    monkeypatch.setattr(ladder, "climb", eqx.filter_jit(lambda *inputs: climb(*inputs)))


def no_padding_mask(monkeypatch):
    """What one published port did."""

    def unmasked(encoder, case):
        return ladder.run_ours(encoder, dataclasses.replace(case, sequence_id=np.zeros_like(case.sequence_id)))

    monkeypatch.setattr("conversion.check.run_ours", unmasked)


def no_residue_scale(monkeypatch):
    monkeypatch.setattr(ESMCConfig, "residue_scale", 1.0)


def swapped_gate_and_up(monkeypatch):
    def swapped(original, config):
        encoder, shared = ladder.share_weights(original, config)
        ffn = encoder.blocks.ffn
        return eqx.tree_at(lambda e: (e.blocks.ffn.gate, e.blocks.ffn.up), encoder, (ffn.up, ffn.gate)), shared

    monkeypatch.setattr("conversion.check.share_weights", swapped)


def not_a_number(monkeypatch):
    def broken(encoder, case):
        return {name: rung * np.float32(np.nan) for name, rung in ladder.run_ours(encoder, case).items()}

    monkeypatch.setattr("conversion.check.run_ours", broken)


@pytest.mark.usefixtures("short_panel")
@pytest.mark.parametrize(
    "mistake", [approximate_gelu, no_padding_mask, no_residue_scale, swapped_gate_and_up, not_a_number]
)
def test_a_wrong_port_fails(check, monkeypatch, mistake):
    mistake(monkeypatch)
    done = check("--random-weights")
    assert done.status == 1
    assert "OVER TOLERANCE" in done.out


@pytest.mark.usefixtures("short_panel")
def test_weights_may_come_from_a_file(check, reference_file):
    done = check("--source", reference_file)
    assert done.status == 0, done.out
    assert f"weights: {reference_file.name}\n" in done.out


@pytest.mark.usefixtures("short_panel")
def test_weights_in_another_layout_are_converted_and_the_report_says_so(check, states, tmp_path):
    file = write_state(states["fused"], tmp_path / "x.safetensors")
    done = check("--source", file)
    assert done.status == 0, done.out
    assert f"weights: {file.name} (converted from fused to {ORIGINAL.layout} by the port's own table" in done.out


def test_refuses_to_run_without_torch(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("conversion.check", "conversion.report"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert f'torch is not installed. Run: {sys.executable} -m pip install "eqxesm[convert]"' in refused(
        "--random-weights"
    )


def test_refuses_a_gpu_that_is_not_there(refused):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "torch sees no GPU" in refused("--random-weights", "--device", "gpu")


@pytest.mark.usefixtures("tiny_preset")
def test_refuses_a_source_that_is_not_there(refused, tmp_path):
    assert "not found" in refused("--source", tmp_path / "absent.pth")


def test_refuses_a_source_of_another_size(refused, reference_file, monkeypatch):
    # Not the real one, which takes a gigabyte.
    monkeypatch.setitem(PRESETS, "esmc_300m", dataclasses.replace(TINY, layers=2))
    assert "not esmc_300m but none of the published sizes" in refused("--source", reference_file)


@pytest.mark.usefixtures("tiny_preset")
def test_refuses_a_source_without_an_lm_head(refused, reference_file, tmp_path):
    head = ("lm_head.", "sequence_head.")
    bare = {name: x for name, x in load_file(reference_file).items() if not name.startswith(head)}
    message = refused("--source", write_state(bare, tmp_path / "x.safetensors"))
    assert "has no LM head, which parity needs" in message


def test_the_panel_is_what_its_names_say():
    panel = {case.name: case for case in make_cases()}
    lengths = (panel["unequal lengths"].tokens != PAD).sum(axis=1)
    assert len(set(lengths.tolist())) == 5
    assert set(panel["whole vocabulary"].tokens.ravel()) == set(range(VOCAB_SIZE)) - {PAD}
    rare = [RESIDUES.index(letter) + 4 for letter in "XBUZO"]
    assert np.isin(rare, panel["X B U Z O"].tokens).all()
    assert set(panel["two chains"].sequence_id.ravel()) == {-1, 0, 1}
    assert panel["2,048 residues"].tokens.shape == (1, 2050)


def test_distances_are_their_closed_forms():
    theirs = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32)
    ours = np.array([[3.0, 0.0], [0.0, 4.5]], np.float32)
    found = distance(ours, theirs)
    assert found["relative_l2"] == pytest.approx(0.1)
    assert found["maximum"] == 0.5
    assert found["cosine"] == pytest.approx((9 + 18) / (5 * np.sqrt(9 + 4.5**2)))
    assert 0.49 < found["p999"] <= 0.5


def test_a_report_names_what_failed(tmp_path):
    rung = {"relative_l2": 1.0, "p999": 1.0, "maximum": 1.0, "cosine": 0.0}
    rung |= {"ours_to_truth": 1.0, "theirs_to_truth": 0.1}
    case = {"name": "one", "argmax_agreement": 0.5, "rungs": dict.fromkeys(("block 0", "embedding", "logits"), rung)}
    lines = find_failures(case["rungs"], "bfloat16")
    assert len(lines) == 6
    report = {
        "size": "esmc_300m", "dtype": "bfloat16", "device": "CPU, x", "original": "esm 1",
        "weights": "random", "tolerance": 3e-2, "bridge": {"tensors": 1, "shared": 1},
        "cases": [case], "failures": lines,
        "pseudo_perplexity": dict.fromkeys(("ours", "theirs", "ours_one_pass", "theirs_one_pass"), 1.0),
    }  # fmt: skip
    text = format_report(report)
    assert "OVER TOLERANCE in 6 places" in text
    assert all(line in text for line in lines)
    save_report(report, tmp_path / "made")
    assert (tmp_path / "made" / "esmc_300m-bfloat16-cpu-esm.json").exists()


def test_shapes_of_the_6b():
    """Its arithmetic, without its memory."""
    preset = PRESETS["esmc_6b"]
    shapes = eqx.filter_eval_shape(lambda: ESMC(preset, key=jax.random.key(0)))
    count = sum(int(np.prod(leaf.shape)) for leaf in named_leaves(shapes).values())
    assert count * 4 == pytest.approx(25.4e9, rel=0.01)
    output = eqx.filter_eval_shape(
        lambda e, t: jax.vmap(lambda row: e(row, hidden_states=(40,)))(t),
        shapes,
        jax.ShapeDtypeStruct((2, 2050), jnp.int32),
    )
    assert output.logits.shape == (2, 2050, VOCAB_SIZE)
    assert output.hidden_states.shape == (2, 1, 2050, 2560)


@pytest.mark.slow
def test_two_blocks_of_the_6b_are_within_tolerance():
    config = dataclasses.replace(PRESETS["esmc_6b"], layers=2)
    original = ORIGINAL(config)
    original.randomise(seed=0)
    encoder, _ = ladder.share_weights(original, config)
    case = make_cases()[0]
    theirs = original.run(case.tokens, case.sequence_id)
    rungs = compare(ladder.run_ours(encoder, case), theirs, theirs, case.sequence_id >= 0)
    assert find_failures(rungs, "float32") == []
