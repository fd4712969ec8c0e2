"""The parity check passes a right port, fails a wrong one, and says what is missing.

It runs against whichever torch original the environment has.
"""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from originals import TINY
from safetensors.numpy import save_file

from conversion import parity
from conversion.compare import distance
from conversion.originals import installed
from conversion.panel import cases
from conversion.report import format_report, save_report
from eqxesm import ESMC, ESMCConfig, InputError
from eqxesm.alphabet import PAD, RESIDUES, VOCAB_SIZE
from eqxesm.checkpoint.format import named_leaves
from eqxesm.encoders import PRESETS

CONFIG = ESMCConfig(**TINY)

try:
    ORIGINAL = installed()
except InputError:
    pytest.skip("no torch original is installed", allow_module_level=True)


@pytest.fixture
def tiny(monkeypatch):
    """A 300M that is tiny, and a panel without its longest protein."""
    if ORIGINAL.layout == "legacy":
        pytest.importorskip("esm")
    monkeypatch.setitem(PRESETS, "esmc_300m", CONFIG)
    monkeypatch.setattr(parity, "cases", lambda: cases()[:4])


@pytest.fixture
def original():
    made = ORIGINAL(CONFIG)
    made.randomise(seed=0)
    return made


def test_the_bridge_shares_every_tensor(original):
    encoder, crossed = parity.bridge(original, CONFIG)
    state = original.module.state_dict()
    assert crossed == len(state)
    embedding = {"split": "esmc.embed_tokens.weight", "legacy": "embed.weight"}[original.layout]
    # A leaf of its own is the tensor itself; stacked ones are put together behind the bridge.
    assert encoder.embedding.unsafe_buffer_pointer() == state[embedding].data_ptr()
    wanted = eqx.filter_eval_shape(lambda: ESMC(CONFIG, key=jax.random.key(0)))
    assert {name: leaf.shape for name, leaf in named_leaves(encoder).items()} == {
        name: leaf.shape for name, leaf in named_leaves(wanted).items()
    }


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = parity.main(["esmc_300m", *(str(argument) for argument in arguments)])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_right_port_passes(capsys, tmp_path, dtype):
    status, out, _ = run(capsys, "--random-weights", "--dtype", dtype, "--out", tmp_path)
    assert status == 0, out
    assert "within tolerance" in out
    (file,) = tmp_path.glob("*.json")
    (plot,) = tmp_path.glob("*.png")
    assert plot.read_bytes().startswith(b"\x89PNG")
    report = json.loads(file.read_text())
    assert report["bridge"]["shared"] == report["bridge"]["tensors"] > 30
    assert [case["name"] for case in report["cases"]] == [case.name for case in cases()[:4]]
    rungs = [f"block {n}" for n in range(CONFIG.layers + 1)] + ["embedding", "logits"]
    for case in report["cases"]:
        assert list(case["rungs"]) == rungs
        assert case["argmax_agreement"] > 0.9
    perplexity = report["pseudo_perplexity"]
    assert perplexity["ours"] == pytest.approx(perplexity["theirs"], rel=1e-2)
    if dtype == "float32":
        assert perplexity["ours"] == pytest.approx(perplexity["theirs"], rel=1e-5)


def wrong_gelu(monkeypatch):
    """What two published ports did."""
    exact = jax.nn.gelu
    monkeypatch.setattr(jax.nn, "gelu", lambda x, **_: exact(x, approximate=True))


def no_padding_mask(monkeypatch):
    """What one published port did."""
    run_ours = parity.run_ours
    monkeypatch.setattr(
        parity,
        "run_ours",
        lambda encoder, case: run_ours(
            encoder, dataclasses.replace(case, sequence_id=np.zeros_like(case.sequence_id))
        ),
    )


def no_residue_scale(monkeypatch):
    monkeypatch.setattr(ESMCConfig, "residue_scale", 1.0)


def swapped_gate_and_up(monkeypatch):
    bridge = parity.bridge

    def swapped(original, config):
        encoder, crossed = bridge(original, config)
        ffn = encoder.blocks.ffn
        return eqx.tree_at(
            lambda e: (e.blocks.ffn.gate, e.blocks.ffn.up), encoder, (ffn.up, ffn.gate)
        ), crossed

    monkeypatch.setattr(parity, "bridge", swapped)


def not_a_number(monkeypatch):
    run_ours = parity.run_ours

    def broken(encoder, case):
        return {name: rung * np.float32(np.nan) for name, rung in run_ours(encoder, case).items()}

    monkeypatch.setattr(parity, "run_ours", broken)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "mistake", [wrong_gelu, no_padding_mask, no_residue_scale, swapped_gate_and_up, not_a_number]
)
def test_a_wrong_port_fails(capsys, monkeypatch, mistake):
    jax.clear_caches()
    mistake(monkeypatch)
    status, out, _ = run(capsys, "--random-weights")
    jax.clear_caches()
    assert status == 1
    assert "OVER TOLERANCE" in out


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("original_layout", [True, False])
def test_weights_from_a_file(capsys, tmp_path, original, original_layout):
    state = {k: v.numpy() for k, v in original.module.state_dict().items()}
    if not original_layout:
        if original.layout == "legacy":
            pytest.skip("the other layouts are made in the environment of transformers")
        from originals import three_layouts

        state = three_layouts(original.module)["fused"]
    save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, tmp_path / "x.safetensors")
    status, out, _ = run(capsys, "--source", tmp_path / "x.safetensors")
    assert status == 0, out
    assert f"weights: {tmp_path / 'x.safetensors'}" in out


def refused(capsys, *arguments) -> str:
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ""
    message = err.splitlines()[-1]
    assert message.startswith("conversion.parity: error: ")
    return message


def test_no_gpu(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "no GPU that torch sees" in refused(capsys, "--random-weights", "--device", "gpu")


def test_no_source(capsys, tmp_path):
    assert "no such file or folder" in refused(capsys, "--source", tmp_path / "absent.pth")


def test_a_source_of_another_size(capsys, tmp_path, original):
    state = {k: v.numpy() for k, v in original.module.state_dict().items()}
    save_file(state, tmp_path / "x.safetensors")
    message = refused(capsys, "--source", tmp_path / "x.safetensors")
    assert "which is not esmc_300m" in message


def test_the_panel_is_what_it_says():
    panel = {case.name: case for case in cases()}
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
    assert found.relative_l2 == pytest.approx(0.1)
    assert found.maximum == 0.5
    assert found.cosine == pytest.approx((9 + 18) / (5 * np.sqrt(9 + 4.5**2)))
    assert 0.49 < found.p999 <= 0.5


def test_a_report_names_what_failed(tmp_path):
    rung = {"relative_l2": 1.0, "p999": 1.0, "maximum": 1.0, "cosine": 0.0}
    rung |= {"ours_to_truth": 1.0, "theirs_to_truth": 0.1}
    case = {
        "name": "one",
        "argmax_agreement": 0.5,
        "rungs": dict.fromkeys(("block 0", "embedding", "logits"), rung),
    }
    lines = parity.failures(case["rungs"], "bfloat16")
    assert len(lines) == 6
    report = {
        "size": "esmc_300m", "dtype": "bfloat16", "device": "CPU, x", "original": "esm 1",
        "weights": "random", "tolerance": 3e-2, "bridge": {"tensors": 1, "shared": 1},
        "cases": [case], "failures": lines,
        "pseudo_perplexity": dict.fromkeys(
            ("ours", "theirs", "ours_one_pass", "theirs_one_pass"), 1.0
        ),
    }  # fmt: skip
    assert "OVER TOLERANCE in 6 places" in format_report(report)
    save_report(report, tmp_path / "made")
    assert (tmp_path / "made" / "esmc_300m-bfloat16-cpu-esm.json").exists()


def test_6b_by_its_shapes():
    """The arithmetic of the real one, and a skeleton of two of its blocks for real."""
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
def test_6b_skeleton():
    config = dataclasses.replace(PRESETS["esmc_6b"], layers=2)
    original = ORIGINAL(config)
    original.randomise(seed=0)
    encoder, _ = parity.bridge(original, config)
    case = cases()[0]
    theirs = original.run(case.tokens, case.sequence_id)
    rungs = parity.compare(parity.run_ours(encoder, case), theirs, theirs, case.sequence_id >= 0)
    assert parity.failures(rungs, "float32") == []
