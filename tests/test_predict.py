"""Predicting the proteins of a file: one row per record, and a bad record harms no other."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from predictions import predict_proteins
from scipy.special import expit, logit

from eqxesm import ESMC, Calibration, ESMCConfig, InputError, OneHot, SolubilityModel
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.protein import Protein
from eqxesm.encoders import cast
from eqxesm.forms import Limits
from heads import CompositionMLP, CompositionMLPConfig, MeanPoolMLP, MeanPoolMLPConfig

GOOD = ["MKVLLAAG", "GSHMWWYYFFPPL", "mkv lla*", "MKVLAW" * 10, "MKJXUW", "C"]


def make(threshold: float = 0.5, **cleaning) -> SolubilityModel:
    config = CompositionMLPConfig(OneHot().d_model, (4,))
    head = CompositionMLP(config, key=jax.random.key(0))
    calibration = Calibration(0.2, threshold)
    return SolubilityModel(OneHot(), head, Cleaning(**cleaning), calibration, Limits(60))


def proteins(sequences) -> list[Protein]:
    return [Protein(f"p{number}", sequence) for number, sequence in enumerate(sequences)]


def test_good_records_get_what_predict_gives():
    model = make()
    expected = model.predict(GOOD)
    assert len(set(expected.tolist())) > 3
    rows = predict_proteins(model, proteins(GOOD), "file")
    assert [row.probability for row in rows] == expected.tolist()
    assert [row.id for row in rows] == [f"p{number}" for number in range(len(GOOD))]
    assert [row.length for row in rows] == [8, 13, 6, 60, 6, 1]
    notes = ["", "", "trailing * removed", "", "1 unknown letter (J) replaced by X", ""]
    assert [row.note for row in rows] == notes


def test_probabilities_of_a_bfloat16_model_are_floats():
    encoder = ESMC(ESMCConfig(1, 16, 1, 32, lm_head=False), key=jax.random.key(0))
    head = MeanPoolMLP(MeanPoolMLPConfig(16, (4,)), key=jax.random.key(1))
    model = cast(SolubilityModel(encoder, head), jnp.bfloat16)
    rows = predict_proteins(model, proteins(GOOD), "file")
    assert [row.probability for row in rows] == model.predict(GOOD).tolist()
    assert [type(row.probability) for row in rows] == [float] * len(GOOD)


def test_values_are_plain_python():
    row = predict_proteins(make(), proteins(GOOD), "file")[0]
    assert (type(row.probability), type(row.soluble), type(row.length)) == (float, bool, int)


def test_the_interval_is_the_margin_in_logits():
    model = make()
    assert {(row.interval_low, row.interval_high) for row in predict_proteins(model, proteins(GOOD), "file")} == {
        (None, None)
    }
    model = model.replace(calibration=Calibration(0.2, 0.5, margin=0.7))
    for row in predict_proteins(model, proteins(GOOD), "file"):
        expected = expit(logit(row.probability) + np.array([-0.7, 0.7]))
        np.testing.assert_allclose([row.interval_low, row.interval_high], expected, rtol=1e-6)


def test_a_protein_at_the_threshold_is_soluble():
    probabilities = make().predict(GOOD).tolist()
    for threshold in probabilities:
        rows = predict_proteins(make(threshold), proteins(GOOD), "file")
        assert [row.soluble for row in rows] == [value >= threshold for value in probabilities]


def test_stripped_tags_are_noted():
    sequence = "MGSSHHHHHHSSGLVPRGSHMKVLLAAGKVLLAAGKVLLAAGKV"
    model = make(strip_tags=True)
    (row,) = predict_proteins(model, [Protein("tagged", sequence)], "file")
    assert row.note.startswith("N-terminal tag of ")
    assert row.length == len(sequence)
    assert row.probability == model.predict([sequence])[0]
    assert row.probability != make().predict([sequence])[0]


BAD = {
    "": "empty sequence",
    "*": "empty sequence",
    "MK1V": "digit '1'",
    "MK-V": "gap '-'",
    "MK.V": "gap '.'",
    "MK*V": "stop '*' inside",
    "MKé": "character 'é'",
    "M:K": "character ':'",
    "M" * 61: "61 residues; this model accepts at most 60",
}


@pytest.mark.parametrize(("sequence", "part"), BAD.items(), ids=list(BAD.values()))
@pytest.mark.parametrize("place", [0, 2, 6])
def test_a_bad_record_is_noted_and_harms_no_other(sequence, part, place):
    sequences = [*GOOD[:place], sequence, *GOOD[place:]]
    rows = predict_proteins(make(), proteins(sequences), "file")
    assert [row.id for row in rows] == [f"p{number}" for number in range(7)]
    bad = rows.pop(place)
    assert (bad.probability, bad.soluble) == (None, None)
    assert bad.note.startswith(f"not predicted: {part}" if "position" not in bad.note else "not")
    assert part in bad.note
    assert "\n" not in bad.note
    assert bad.length == len(sequence.rstrip("*"))
    assert [row.probability for row in rows] == make().predict(GOOD).tolist()


@pytest.mark.parametrize(("sequence", "part"), BAD.items(), ids=list(BAD.values()))
def test_strict_names_the_record_and_its_problem(sequence, part):
    with pytest.raises(InputError) as caught:
        predict_proteins(make(), proteins([*GOOD, sequence]), "a.fasta", strict=True)
    message = str(caught.value)
    assert message.startswith("a.fasta, record 7 (p6): ")
    assert part in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("strict", [False, True])
def test_refuses_a_file_without_a_good_record(strict):
    with pytest.raises(InputError) as caught:
        predict_proteins(make(), proteins(["", "1", "2"]), "a.fasta", strict=strict)
    message = str(caught.value)
    assert message.startswith("a.fasta, record 1 (p0): empty sequence")
    assert message.endswith(" (2 more problems)")


def test_repeated_ids_are_noted_from_the_second_on():
    ids = ["a", "b", "a", "a", "c"]
    sequences = ["MKV", "MKV*", "MKVLL*", "1", "MKV"]
    repeating = [Protein(*pair) for pair in zip(ids, sequences, strict=True)]
    rows = predict_proteins(make(), repeating, "file")
    repeated = "duplicate id, first used by record 1"
    assert [row.note for row in rows[:3]] == [
        "", "trailing * removed", f"trailing * removed; {repeated}",
    ]  # fmt: skip
    assert rows[3].note.startswith("not predicted: position 1: digit '1'")
    assert rows[3].note.endswith(repeated)
    assert [row.probability is None for row in rows] == [False, False, False, True, False]
    with pytest.raises(InputError, match=r"record 3 \(a\): duplicate id.*\(2 more problems\)"):
        predict_proteins(make(), repeating, "file", strict=True)


def test_strict_changes_nothing_for_good_records():
    rows = predict_proteins(make(), proteins(GOOD), "f")
    assert predict_proteins(make(), proteins(GOOD), "f", strict=True) == rows


def test_many_lengths_keep_their_order():
    generator = np.random.default_rng(0)
    sequences = ["".join(generator.choice(list("MKVLAG"), n)) for n in generator.integers(1, 60, 90)]
    sequences[10] = sequences[50] = "bad-"
    rows = predict_proteins(make(), proteins(sequences), "file")
    good = [s for s in sequences if s != "bad-"]
    expected = iter(make().predict(good).tolist())
    for row, sequence in zip(rows, sequences, strict=True):
        assert row.probability == (None if sequence == "bad-" else next(expected))


def test_refuses_a_model_that_gives_nan():
    model = make()
    weight = model.head.mlp.layers[0].weight
    broken = eqx.tree_at(lambda m: m.head.mlp.layers[0].weight, model, weight * np.nan)
    with pytest.raises(InputError, match="the model gives NaN: its weights are damaged"):
        predict_proteins(broken, [Protein("a", "MKT")], "here")


def test_a_long_protein_is_predicted_in_windows():
    model = make()
    long = "MKVLAWDE" * 17  # 136 residues; the model accepts 60
    rows = predict_proteins(model, proteins([GOOD[0], long, GOOD[1], long[:60]]), "file", windows=True)
    windows = [long[start : start + 60] for start in (0, 25, 51, 76)]
    expected = [*model.predict(GOOD[:1]), np.mean(model.predict(windows)), *model.predict([GOOD[1], long[:60]])]
    np.testing.assert_allclose([row.probability for row in rows], expected, rtol=1e-6)
    assert [row.note for row in rows] == ["", "mean of 4 overlapping windows of 60 residues", "", ""]
