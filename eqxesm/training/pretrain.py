"""Pretraining: an encoder learns to guess the residues that are hidden from it."""

import hashlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree
from tqdm import tqdm

from eqxesm.alphabet import PAD
from eqxesm.checkpoint.leaves import fingerprint
from eqxesm.data.corpus import Corpus, Rows, open_corpus, stream_rows
from eqxesm.data.pipeline import ProcessRows
from eqxesm.encoders import AbstractLanguageModel, load_encoder
from eqxesm.errors import InputError
from eqxesm.evaluation.ngrams import NGrams
from eqxesm.files import expand_user, make_folder, write_file
from eqxesm.training import pretrain_report, run_folder
from eqxesm.training.config import PretrainConfig
from eqxesm.training.devices import is_first, make_mesh, shard, shard_batch, wait_for_all
from eqxesm.training.masked_lm import LossSums, PretrainState, pretrain_step, score_rows
from eqxesm.training.optimiser import clipped_adamw, make_schedule
from eqxesm.training.pretrain_recipe import PretrainRecipe, build_language_model
from eqxesm.training.pretrain_state import Look, PretrainProgress, best_look, to_scores
from eqxesm.training.recipe import Pretrained, check_pretrained
from eqxesm.training.run_folder import MODEL, REPORT, RESULT
from eqxesm.training.state import StateFolder


@dataclass(frozen=True)
class Survey:
    """What a corpus holds, and a hash of it."""

    proteins: int
    residues: int
    left_out: dict[str, int]
    digest: str


def survey(corpus: Corpus, ngrams: NGrams | None = None) -> Survey:
    """Read a corpus once, and count its residues between their neighbours if that is asked for."""
    left_out: Counter[str] = Counter()
    digest, proteins, residues = hashlib.sha256(), 0, 0
    for _, sequence, tokens in corpus.read(left_out=left_out):
        digest.update(f"{sequence}\n".encode())
        proteins, residues = proteins + 1, residues + len(sequence)
        if ngrams is not None:
            ngrams.add(tokens)
    if not proteins:
        raise InputError(f"{', '.join(corpus.paths)}: no protein is left. Left out: {dict(left_out)}")
    return Survey(proteins, residues, dict(left_out), digest.hexdigest())


def pretrain(
    recipe: PretrainRecipe,
    folder: str | os.PathLike,
    *,
    resume: bool = False,
    command: str = "",
    progress: bool = False,
) -> dict[str, Any]:
    """Pretrain an encoder by a recipe, and write down everything about it.

    On one device a run that was killed and goes on gives the same parameters to the bit.

    Args:
        folder: the run's folder, which must not hold another run.
        resume: go on with the run that is there.
        command: how the run was started, for the card.
        progress: print a line per look at the validation proteins, and show bars.

    Returns:
        What is in `report/metrics.json`; nothing in processes other than the first.
    """
    folder = Path(expand_user(folder))
    run_folder.check_run_folder(folder, recipe, resume)
    check_pretrained(recipe.encoder, "encoder")
    encoder = build_language_model(recipe)
    training, validation = open_corpus(recipe.data)
    ngrams = NGrams()
    surveys = {"training": survey(training, ngrams), "validation": survey(validation)}
    digests = {name: each.digest for name, each in surveys.items()}
    if isinstance(recipe.encoder, Pretrained):
        digests["encoder"] = fingerprint(encoder)
    run_folder.check_digests(folder, digests)
    wait_for_all("checked")
    if is_first():
        make_folder(folder / REPORT)
        write_file(folder / run_folder.RECIPE, recipe.to_toml())
        run_folder.write_digests(folder, digests)

    def say(text: str) -> None:
        if progress and is_first():
            print(text, flush=True)

    def report(looks: Sequence[Look]) -> None:
        say(pretrain_report.format_look(looks[-1]))
        run_folder.write_lines(folder / run_folder.EPOCHS, looks)

    config, state = recipe.training, StateFolder(folder, PretrainProgress)
    say(pretrain_report.format_surveys({name: asdict(each) for name, each in surveys.items()}))
    say(pretrain_report.HEAD)
    for look in state.progress().looks:
        say(pretrain_report.format_look(look))
    rows = read_rows(validation, config)
    looks = learn(encoder, training, rows, config, state, report, progress)
    trained = load_encoder(state.model)
    sums = score(trained, rows, config)
    result = {}
    if is_first():
        result = pretrain_report.describe(recipe, command, surveys, looks, rows, sums, ngrams)
        trained.save_pretrained(folder / MODEL, pretrain_report.card_facts(result), about=encoder.about)
        pretrain_report.draw_curve(folder / REPORT, looks, result)
        write_file(folder / REPORT / "table.md", pretrain_report.format_table(result))
        write_file(folder / REPORT / RESULT, json.dumps(result, indent=1) + "\n")
    wait_for_all("report")
    return result


def read_rows(corpus: Corpus, config: PretrainConfig) -> Rows:
    """The first rows of the validation proteins, with every target masked: the same ones in every run."""
    stream = stream_rows(
        corpus, config.tokens_per_row, config.validation_rows, config.hidden, 0, passes=1, corrupt=False
    )
    return next(iter(stream))


def learn(
    encoder: AbstractLanguageModel,
    corpus: Corpus,
    validation: Rows,
    config: PretrainConfig,
    state: StateFolder[PretrainProgress],
    report: Callable[[Sequence[Look]], None],
    progress: bool = False,
) -> tuple[Look, ...]:
    """Take the steps that are left, and keep the best encoder by validation loss in `state`."""
    mesh, about = make_mesh(), encoder.about
    params, frozen = split(encoder, mesh)
    optimiser = optax.chain(*clipped_adamw(config, config.steps, params))
    schedule = make_schedule(config, config.steps)
    now, run = shard(PretrainState(params, optimiser.init(params)), mesh), PretrainProgress()
    if (kept := state.load(now)) is not None:
        now, run = shard(kept[0], mesh), kept[1]
    rows = max(1, config.tokens_per_batch // config.tokens_per_row)
    batches = iter(stream_rows(corpus, config.tokens_per_row, rows, config.hidden, config.seed))
    if run.stream is not None:
        batches.set_state(dict(run.stream))
    started, waiting = time.monotonic(), None
    with tqdm(
        total=config.steps,
        initial=run.step,
        unit=" steps",
        leave=False,
        disable=None if progress and is_first() else True,
    ) as bar:
        for step in range(run.step + 1, config.steps + 1):
            batch = next(batches)
            with jax.set_mesh(mesh):
                given = frozen, put_rows(batch, rows, mesh)
                now, sums, norm = pretrain_step(given, now, optimiser, config, mesh)
            # Read one step late, so that the devices never wait for this process.
            run, waiting = _add(run, waiting), (sums, norm, int((batch.sequence_id >= 0).sum()))
            bar.update()
            looks = step % config.validation_steps == 0 or step == config.steps
            if not looks and step % config.checkpoint_steps:
                continue
            run, waiting = replace(_add(run, waiting), stream=batches.get_state()), None
            if looks:
                trained = eqx.combine(now.params, frozen)
                scores = to_scores(score(trained, validation, config))
                seconds = time.monotonic() - started
                run, started = run.add_look(scores, np.asarray(schedule(step)).item(), seconds), time.monotonic()
                if best_look(run.looks) is run.looks[-1]:
                    state.keep(trained, about, mesh)
                if is_first():
                    report(run.looks)
            state.save(now, run, mesh)
    return run.looks


def _add(run: PretrainProgress, waiting: tuple[LossSums, Any, int] | None) -> PretrainProgress:
    if waiting is None:
        return run
    sums, norm, tokens = waiting
    if not (math.isfinite(loss := float(sums.loss)) and math.isfinite(float(norm))):
        raise InputError(
            f"training diverged at step {run.step + 1}: loss {loss}, gradient norm {float(norm)}. Try a lower "
            "training.learning_rate. The best encoder is kept."
        )
    return run.add(sums, float(norm), tokens)


def split(encoder: AbstractLanguageModel, mesh: Mesh) -> tuple[PyTree, PyTree]:
    """What is trained, float32 and a copy, since the steps reuse its memory; and the rest."""
    params, frozen = eqx.partition(encoder, eqx.is_inexact_array)
    return shard(jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), params), mesh), shard(frozen, mesh)


def put_rows(rows: Rows, count: int, mesh: Mesh) -> Rows:
    """Put this process's share of `count` rows on its devices. Empty ones make them a multiple of the devices."""
    count, own = ProcessRows.of(mesh).share(count)

    def fill(each: np.ndarray, value: int) -> np.ndarray:
        return np.pad(each, ((0, count - len(each)), (0, 0)), constant_values=value)[own]

    return shard_batch(Rows(fill(rows.tokens, PAD), fill(rows.targets, PAD), fill(rows.sequence_id, -1)), mesh)


def score(encoder: AbstractLanguageModel, rows: Rows, config: PretrainConfig) -> LossSums:
    """Loss sums of all rows for each standard residue. Every process has to take part."""
    mesh = make_mesh()
    params, frozen = split(encoder, mesh)
    size = max(1, config.tokens_per_batch // config.tokens_per_row)
    total = LossSums(*(np.zeros(1) for _ in LossSums._fields))
    for start in range(0, len(rows.tokens), size):
        part = put_rows(Rows(*(each[start : start + size] for each in rows)), size, mesh)
        with jax.set_mesh(mesh):
            sums = score_rows(params, frozen, part, config, mesh)
        total = LossSums(*(before + np.asarray(each, np.float64) for before, each in zip(total, sums, strict=True)))
    return total
