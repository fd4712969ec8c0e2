"""Unlabelled proteins for pretraining: streamed from files of any size, cropped, packed into rows, partly hidden."""

import logging
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import grain
import numpy as np
from annotated_types import MinLen
from grain.experimental import FirstFitPackIterDataset, ThreadPrefetchIterDataset, WindowShuffleIterDataset
from jaxtyping import Int
from pydantic import Strict

from eqxesm.alphabet import FIRST_RESIDUE, MASK, PAD, STANDARD_RESIDUES, Tokenizer, is_standard
from eqxesm.config import configuration
from eqxesm.data.cleaning import Cleaning
from eqxesm.data.protein import Protein
from eqxesm.data.proteins import read_proteins
from eqxesm.errors import InputError, at
from eqxesm.files import check_input, expand_user
from heads.fields import Count

SHUFFLED = 8192
"""Proteins of the window within which the stream is shuffled."""

BINS = 256
"""Rows that are filled at the same time. More of them leave less padding."""

NAMED = 5
"""Records that are named in the log for each reason to leave some out."""

Paths = Annotated[tuple[str, ...], Strict(False), MinLen(1)]
Tokens = Int[np.ndarray, " _"]

_log = logging.getLogger(__name__)


@configuration
class CorpusConfig:
    """Files of unlabelled proteins, in any format that `eqxesm predict` reads.

    Paths are relative to `root`, and `root` to the recipe's folder. Proteins of `validation`, and of the files in
    `exclude`, are not trained on.
    """

    training: Paths
    validation: Paths
    root: str = "."
    exclude: Annotated[tuple[str, ...], Strict(False)] = ()
    min_residues: Count = 30
    strict: bool = False  # refuse a file or record that cannot be read, where it would be left out and counted


class Corpus:
    """The proteins of some files, as tokens.

    What is left out is counted by reason: records with other letters than residues, proteins that are too
    short or excluded, files that are empty or cut short.
    """

    def __init__(self, config: CorpusConfig, files: tuple[str, ...], excluded: frozenset[str] = frozenset()):
        self.paths = [str(Path(config.root) / expand_user(name)) for name in files]
        self._config = config
        self._excluded = excluded
        for path in self.paths:
            check_input(path)

    def read(self, skip: int = 0, left_out: Counter[str] | None = None) -> Iterator[tuple[int, str, Tokens]]:
        """Number, cleaned sequence and tokens of every protein from record number `skip` on.

        What is left out is counted and named where a counter is given: once, and not in every pass.
        """
        number = -1
        for path in self.paths:
            try:
                for protein in read_proteins(path):
                    number += 1
                    if number >= skip and (sequence := self._clean(path, protein, left_out)):
                        yield number, sequence, Tokenizer().encode(sequence)
            except InputError as error:
                if self._config.strict:
                    raise
                self._leave_out("files not read to their end", left_out, str(error))

    def _clean(self, path: str, protein: Protein, left_out: Counter[str] | None) -> str | None:
        place = f"{path}, {protein.id}"
        try:
            sequence = Cleaning().clean(protein.sequence).sequence
        except InputError as error:
            if self._config.strict:
                raise InputError(f"{place}: {error}") from error
            self._leave_out("records that are no protein", left_out, f"{place}: {error}")
            return None
        if len(sequence) < self._config.min_residues:
            self._leave_out(f"shorter than {self._config.min_residues} residues", left_out)
        elif sequence in self._excluded:
            self._leave_out("in a file that is excluded, or in validation", left_out)
        else:
            return sequence
        return None

    def _leave_out(self, reason: str, left_out: Counter[str] | None, example: str | None = None) -> None:
        if left_out is None:
            return
        left_out[reason] += 1
        if example is not None and left_out[reason] <= NAMED:
            _log.warning("left out: %s", example)


def open_corpus(config: CorpusConfig) -> tuple[Corpus, Corpus]:
    """The training and the validation proteins."""
    with at("data"):
        excluded = frozenset(sequence for _, sequence, _ in Corpus(config, config.exclude).read(left_out=Counter()))
        validation = Corpus(config, config.validation, excluded)
        held_out = excluded | {sequence for _, sequence, _ in validation.read()}
        return Corpus(config, config.training, held_out), validation


class Rows(NamedTuple):
    """Packed proteins: `targets` are the residues that were hidden, padding elsewhere."""

    tokens: Int[np.ndarray, "*rows length"]
    targets: Int[np.ndarray, "*rows length"]
    sequence_id: Int[np.ndarray, "*rows length"]


class Passes(grain.IterDataset):
    """Passes over a corpus, without end by default. Of a long protein each pass takes another piece."""

    def __init__(self, corpus: Corpus, length: int, seed: int, passes: int | None = None):
        super().__init__()
        self.corpus, self.length, self.start, self.passes = corpus, length, seed, passes

    def __iter__(self) -> grain.DatasetIterator:
        return _PassesIterator(self)


class _PassesIterator(grain.DatasetIterator):
    def __init__(self, passes: Passes):
        super().__init__()
        self._passes = passes
        self.set_state({"turn": 0, "record": 0})

    def __next__(self) -> dict[str, Tokens]:
        passes = self._passes
        while passes.passes is None or self._turn < passes.passes:
            for number, _, tokens in self._records:
                self._record = number + 1
                rng = np.random.default_rng((passes.start, self._turn, number))
                return {"tokens": crop(tokens, passes.length, rng)}
            if not self._record:
                raise InputError(f"{', '.join(passes.corpus.paths)}: no protein to train on")
            self.set_state({"turn": self._turn + 1, "record": 0})
        raise StopIteration

    def get_state(self) -> dict[str, Any]:
        return {"turn": self._turn, "record": self._record}

    def set_state(self, state: dict[str, Any]) -> None:
        self._turn, self._record = state["turn"], state["record"]
        self._records = self._passes.corpus.read(self._record)


def crop(tokens: Tokens, length: int, rng: np.random.Generator) -> Tokens:
    """A random piece of at most `length` tokens. It has `<cls>` and `<eos>` only where the protein ends."""
    start = rng.integers(max(len(tokens) - length, 0) + 1)
    return tokens[start : start + length]


def hide(row: dict[str, Any], rng: np.random.Generator, share: float, corrupt: bool) -> Rows:
    """Choose a share of the standard residues as targets, and hide them.

    Of those, 80% become a mask, 10% a random residue, and 10% stay (Devlin et al. 2018, arXiv:1810.04805); all
    become a mask unless `corrupt`.
    """
    tokens, chains = row["tokens"], row["tokens_segment_ids"] - 1
    chosen = is_standard(tokens) & (rng.random(tokens.shape) < share)
    fate = rng.random(tokens.shape) if corrupt else np.zeros(tokens.shape)
    letters = rng.integers(FIRST_RESIDUE, FIRST_RESIDUE + len(STANDARD_RESIDUES), tokens.shape)
    hidden = np.where(fate < 0.8, MASK, np.where(fate < 0.9, letters, tokens))
    targets = np.where(chosen, tokens, PAD)
    return Rows(*(each.astype(np.int32) for each in (np.where(chosen, hidden, tokens), targets, chains)))


def stream_rows(
    corpus: Corpus, length: int, rows: int, share: float, seed: int, *, passes: int | None = None, corrupt: bool = True
) -> grain.IterDataset:
    """Batches of `Rows`, the last one of a finite stream with fewer rows."""
    stream = WindowShuffleIterDataset(Passes(corpus, length, seed, passes), window_size=SHUFFLED, seed=seed)
    packed = FirstFitPackIterDataset(
        stream, length_struct={"tokens": length}, padding_struct={"tokens": PAD}, num_packing_bins=BINS, seed=seed
    )
    hidden = packed.random_map(partial(hide, share=share, corrupt=corrupt), seed=seed)
    return ThreadPrefetchIterDataset(hidden.batch(rows, drop_remainder=False), prefetch_buffer_size=4)
