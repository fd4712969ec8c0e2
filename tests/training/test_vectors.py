"""Random vector residues in training: where they are put, how often, and again when a run goes on."""

import numpy as np
import pytest
from checkpoints import parameters
from training_sets import baseline, examples

from eqxesm import InputError, Tokenizer
from eqxesm.alphabet import CLS, PAD
from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.data.vectors import LONGEST_END
from eqxesm.training import Examples, RunState, TrainConfig, fit, loop
from eqxesm.training.examples import add_vectors


def test_vector_residues_are_added_at_the_ends_of_a_share():
    rng = np.random.default_rng(0)
    proteins = ["".join(rng.choice(list("CDEFW"), 40)) for _ in range(400)]
    data = Examples([Tokenizer().encode(each) for each in proteins], np.arange(400) % 2)
    inputs = add_vectors(data, 0.5)
    length = int(inputs.examples.lengths.max())
    rows = inputs.collate(np.arange(400), length, np.random.default_rng(1))
    again = inputs.collate(np.arange(400), length, np.random.default_rng(1))
    np.testing.assert_array_equal(rows, again)
    changed = {"before": 0, "behind": 0}
    for row, protein in zip(rows, proteins, strict=True):
        before, found, behind = Tokenizer().decode(row).partition(protein)
        assert found
        assert row[0] == CLS
        assert max(len(before), len(behind)) <= LONGEST_END
        changed["before"] += bool(before)
        changed["behind"] += bool(behind)
    for count in changed.values():
        assert abs(count - 200) < 4 * np.sqrt(400 / 4)


def test_vector_residues_differ_between_epochs_and_resume_with_the_run(tmp_path, monkeypatch):
    config = TrainConfig(epochs=3, patience=3, tokens_per_batch=512, vectors=0.5, checkpoint_steps=1)
    whole, _ = fit(baseline(), examples(40, 0), examples(10, 1), config)
    seen = []
    original = loop.train_step

    def stop(given, *rest):
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(np.asarray(given.inputs))
        return original(given, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(baseline(), examples(40, 0), examples(10, 1), config, state=RunState(tmp_path))
    resumed, _ = fit(baseline(), examples(40, 0), examples(10, 1), config, state=RunState(tmp_path))
    assert fingerprint(parameters(resumed)) == fingerprint(parameters(whole))
    tokens = [np.sort(batch[batch != PAD]) for batch in seen]
    assert len({each.tobytes() for each in tokens}) == len(tokens)


def test_vector_residues_need_an_encoder_that_reads_tokens():
    with pytest.raises(InputError, match="vectors needs strategy joint or lora"):
        TrainConfig(strategy="frozen", vectors=0.1)
