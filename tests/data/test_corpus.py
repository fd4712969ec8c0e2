"""Unlabelled proteins: what is read, left out, cropped, packed and hidden."""

import gzip
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from eqxesm import InputError, Tokenizer
from eqxesm.alphabet import CLS, EOS, MASK, PAD, is_standard
from eqxesm.data.corpus import Corpus, CorpusConfig, Passes, Rows, crop, hide, open_corpus, stream_rows

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")

pytestmark = pytest.mark.usefixtures("few_shuffled")


def write_fasta(path: Path, sequences: list[str]) -> str:
    path.write_text("".join(f">p{number}\n{sequence}\n" for number, sequence in enumerate(sequences)))
    return str(path)


def make_proteins(count: int, seed: int = 0, shortest: int = 30, longest: int = 90) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(LETTERS, rng.integers(shortest, longest))) for _ in range(count)]


def open_training(tmp_path: Path, sequences: list[str], **settings) -> Corpus:
    path = write_fasta(tmp_path / "training.fasta", sequences)
    return Corpus(CorpusConfig((path,), (path,), **settings), (path,))


def unpack(rows: Rows) -> list[np.ndarray]:
    """The proteins of packed rows, with their residues put back."""
    whole = np.where(rows.targets == PAD, rows.tokens, rows.targets)
    return [
        tokens[chains == chain]
        for tokens, chains in zip(whole, rows.sequence_id, strict=True)
        for chain in range(chains.max() + 1)
    ]


def count_proteins(proteins: list[np.ndarray]) -> Counter:
    return Counter(tuple(each.tolist()) for each in proteins)


def test_one_pass_gives_every_protein_once(tmp_path):
    sequences = make_proteins(300)
    corpus = open_training(tmp_path, sequences)
    batches = list(stream_rows(corpus, 128, 8, 0.15, 1, passes=1))
    found = [protein for rows in batches for protein in unpack(rows)]
    assert count_proteins(found) == count_proteins([Tokenizer().encode(each) for each in sequences])
    assert {rows.tokens.shape[1] for rows in batches} == {128}
    # Packing pays: one protein a row would take 300.
    assert sum(len(rows.tokens) for rows in batches) < 200


def test_passes_differ_in_order_and_agree_for_a_seed(tmp_path):
    corpus = open_training(tmp_path, make_proteins(40))

    def read(seed: int) -> list[tuple[int, ...]]:
        rows = next(iter(stream_rows(corpus, 128, 10, 0.15, seed)))
        return [tuple(each.tolist()) for each in unpack(rows)]

    assert read(1) == read(1)
    assert read(1) != read(2)


def test_long_proteins_give_another_piece_in_each_pass(tmp_path):
    [sequence] = make_proteins(1, shortest=400, longest=401)
    whole = Tokenizer().encode(sequence)
    pieces = list(zip(range(8), iter(Passes(open_training(tmp_path, [sequence]), 64, 0)), strict=False))
    starts = set()
    for _, piece in pieces:
        tokens = piece["tokens"]
        assert len(tokens) == 64
        [start] = [at for at in range(len(whole) - 63) if (whole[at : at + 64] == tokens).all()]
        starts.add(start)
    assert len(starts) > 4


def test_a_piece_has_the_marks_of_the_ends_only_at_the_ends():
    tokens = Tokenizer().encode("M" * 10)
    rng = np.random.default_rng(0)
    pieces = [crop(tokens, 5, rng) for _ in range(200)]
    assert {(piece[0] == CLS, piece[-1] == EOS) for piece in pieces} == {(True, False), (False, False), (False, True)}
    np.testing.assert_array_equal(crop(tokens, 12, rng), tokens)


@pytest.mark.parametrize("steps", [0, 1, 5, 17])
def test_stream_goes_on_where_it_stopped(tmp_path, steps):
    corpus = open_training(tmp_path, make_proteins(50, longest=200))
    stream = iter(stream_rows(corpus, 96, 4, 0.15, 3))
    for _ in range(steps):
        next(stream)
    state = stream.get_state()
    expected = [next(stream) for _ in range(20)]
    again = iter(stream_rows(corpus, 96, 4, 0.15, 3))
    again.set_state(state)
    for rows in expected:
        for ours, theirs in zip(rows, next(again), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_hidden_residues_are_as_many_and_as_masked_as_they_should_be():
    rng = np.random.default_rng(0)
    tokens = Tokenizer().encode("".join(rng.choice([*LETTERS, "X", "U"], 40_000)))
    row = {"tokens": tokens, "tokens_segment_ids": np.ones(len(tokens), int)}
    rows = hide(row, np.random.default_rng(1), 0.15, corrupt=True)
    chosen = rows.targets != PAD
    assert is_standard(tokens[chosen]).all()
    np.testing.assert_array_equal(rows.targets[chosen], tokens[chosen])
    np.testing.assert_array_equal(rows.tokens[~chosen], tokens[~chosen])
    shown = rows.tokens[chosen]
    masked = shown == MASK
    kept = shown == tokens[chosen]
    # A random residue is the one that was there in 1 of 20.
    for share, number, of in (
        (0.15, chosen.sum(), is_standard(tokens).sum()),
        (0.8, masked.sum(), len(shown)),
        (0.1 + 0.1 / 20, kept.sum(), len(shown)),
    ):
        assert abs(number / of - share) < 4 * np.sqrt(share * (1 - share) / of)
    everything = hide(row, np.random.default_rng(1), 0.15, corrupt=False)
    assert (everything.tokens[everything.targets != PAD] == MASK).all()


FAULTY = ">good\n{good}\n>digits\nMKT4Y\n>empty\n\n>short\nMKT\n>taken\n{taken}\n"


@pytest.fixture
def faulty(tmp_path) -> tuple[CorpusConfig, str]:
    good, taken, held_out = make_proteins(3)
    (tmp_path / "faulty.fasta").write_text(FAULTY.format(good=good, taken=taken))
    (tmp_path / "nothing.fasta").write_text("")
    whole = gzip.compress("".join(f">{n}\n{s}\n" for n, s in enumerate(make_proteins(2000, 5))).encode())
    (tmp_path / "cut.fasta.gz").write_bytes(whole[: len(whole) // 2])
    write_fasta(tmp_path / "taken.fasta", [taken])
    write_fasta(tmp_path / "validation.fasta", [held_out])
    config = CorpusConfig(
        training=("faulty.fasta", "nothing.fasta", "cut.fasta.gz"),
        validation=("validation.fasta",),
        root=str(tmp_path),
        exclude=("taken.fasta",),
    )
    return config, good


def test_what_cannot_be_read_is_left_out_counted_and_named(faulty, caplog):
    config, good = faulty
    training, _ = open_corpus(config)
    left_out = Counter()
    with caplog.at_level(logging.WARNING):
        read = [sequence for _, sequence, _ in training.read(left_out=left_out)]
    assert read[0] == good
    assert 100 < len(read) < 2000
    assert left_out == {
        "records that are no protein": 2,
        "shorter than 30 residues": 1,
        "in a file that is excluded, or in validation": 1,
        "files not read to their end": 2,
    }
    for part in (
        "faulty.fasta, digits: position 4: digit '4'",
        "nothing.fasta: no proteins found",
        "cut.fasta.gz: gzip",
    ):
        assert part in caplog.text


def test_what_is_left_out_is_named_once_and_not_in_every_pass(faulty, caplog):
    config, _ = faulty
    training, _ = open_corpus(config)
    list(training.read(left_out=Counter()))
    named = len(caplog.records)
    assert named
    assert list(training.read())
    assert len(caplog.records) == named


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("faulty.fasta", "faulty.fasta, digits: position 4: digit '4'"),
        ("nothing.fasta", "nothing.fasta: no proteins found"),
        ("cut.fasta.gz", "cut.fasta.gz: gzip data are corrupt or cut short"),
    ],
)
def test_strict_refuses_what_cannot_be_read(faulty, name, message):
    config, _ = faulty
    strict = CorpusConfig((name,), config.validation, root=config.root, strict=True)
    with pytest.raises(InputError, match=message):
        list(open_corpus(strict)[0].read())


def test_validation_proteins_are_not_trained_on(tmp_path):
    sequences = make_proteins(10)
    for name, part in (("training", sequences), ("validation", sequences[:4])):
        write_fasta(tmp_path / f"{name}.fasta", part)
    training, validation = open_corpus(CorpusConfig(("training.fasta",), ("validation.fasta",), root=str(tmp_path)))
    assert [each for _, each, _ in training.read()] == sequences[4:]
    assert [each for _, each, _ in validation.read()] == sequences[:4]


def test_missing_file_is_refused_before_anything_is_read(tmp_path):
    path = write_fasta(tmp_path / "a.fasta", make_proteins(1))
    with pytest.raises(InputError, match=r"data: .*absent\.fasta: file not found"):
        open_corpus(CorpusConfig((path, "absent.fasta"), (path,), root=str(tmp_path)))


def test_a_corpus_without_a_protein_is_refused(tmp_path):
    path = write_fasta(tmp_path / "a.fasta", ["MKT"])
    with pytest.raises(InputError, match=r"a\.fasta: no protein to train on"):
        next(iter(Passes(Corpus(CorpusConfig((path,), (path,)), (path,)), 64, 0)))
