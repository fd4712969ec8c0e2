"""What people see of pretraining: lines as it goes, a table by residue, a curve, and facts for the card."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

from eqxesm.alphabet import FIRST_RESIDUE, PAD, STANDARD_RESIDUES
from eqxesm.data.corpus import Rows
from eqxesm.data.hygiene_report import format_counts
from eqxesm.drawing import MANY, new_figure, save_figure, style_series
from eqxesm.evaluation.ngrams import RESIDUE_KINDS, NGrams
from eqxesm.training.masked_lm import LossSums
from eqxesm.training.pretrain_recipe import PretrainRecipe
from eqxesm.training.pretrain_state import Look, best_look
from eqxesm.training.report import describe_hardware, describe_versions

HEAD = """                 training            validation
    step  residues  perplexity  accuracy  perplexity  accuracy   seconds"""

GUESSERS = {"model": "this encoder", "trigram": "both neighbours", "unigram": "frequencies"}
"""What guesses the hidden residues: the encoder, and what it is measured beside."""


def format_surveys(surveys: Mapping[str, Mapping[str, Any]]) -> str:
    """What the corpus holds, a line for each part."""
    lines = []
    for name, found in surveys.items():
        left_out = f"; left out: {format_counts(found['left_out'])}" if found["left_out"] else ""
        lines.append(f"{name}: {found['proteins']:,} proteins, {found['residues']:,} residues{left_out}")
    return "\n".join(lines)


def format_look(look: Look) -> str:
    """A line of the table as it goes."""
    scores = (f"{np.exp(each.loss):10.3f}  {each.accuracy:8.3f}" for each in (look.training, look.validation))
    return f"{look.step:8}  {look.tokens / 1e6:7.1f}M  {'  '.join(scores)}  {look.seconds:8.1f}"


def describe(
    recipe: PretrainRecipe,
    command: str,
    surveys: Mapping[str, Any],
    looks: Sequence[Look],
    rows: Rows,
    sums: LossSums,
    ngrams: NGrams,
) -> dict[str, Any]:
    """Everything that is worth knowing about a run, as JSON values."""
    seconds = sum(look.seconds for look in looks)
    return {
        "recipe": recipe.name,
        "summary": recipe.summary or f"Pretrained by the recipe {recipe.name}.",
        "data": {name: dataclasses.asdict(each) for name, each in surveys.items()},
        "best_step": best_look(looks).step,
        "steps": looks[-1].step,
        "tokens": looks[-1].tokens,
        "validation": _by_residue(rows, sums, ngrams),
        "made": {
            **({"Command": f"`{command}`"} if command else {}),
            "Task": f"guess {recipe.training.hidden:.0%} of the residues, of which 80% are masked, 10% replaced",
            "Optimiser": f"AdamW, peak learning rate {recipe.training.learning_rate}, {recipe.training.schedule} "
            f"schedule, weight decay {recipe.training.weight_decay}, {looks[-1].step:,} steps of "
            f"{recipe.training.tokens_per_batch:,} tokens, {looks[-1].tokens:,} tokens without padding",
            "Seed": recipe.training.seed,
            "Hardware": describe_hardware(),
            "Duration": f"{seconds:.0f} seconds",
            "Versions": describe_versions(),
        },
    }


def _by_residue(rows: Rows, sums: LossSums, ngrams: NGrams) -> list[dict[str, Any]]:
    """Perplexity and accuracy of every guesser: of all hidden residues first, then of each kind."""
    hidden = rows.targets[rows.targets != PAD] - FIRST_RESIDUE
    guesses = {"trigram": ngrams.trigram(rows), "unigram": np.tile(ngrams.unigram(), (len(hidden), 1))}
    all_sums = {"model": sums, **{name: _sum_by_kind(hidden, each) for name, each in guesses.items()}}

    def measure(residue: str, choose: Any) -> dict[str, Any]:
        chosen = {name: LossSums(*(float(choose(each)) for each in found)) for name, found in all_sums.items()}
        scores = {
            name: {"perplexity": float(np.exp(found.loss / found.count)), "accuracy": found.correct / found.count}
            for name, found in chosen.items()
        }
        return {"residue": residue, "hidden": int(chosen["model"].count), **scores}

    present = [kind for kind in range(RESIDUE_KINDS) if sums.count[kind]]
    return [
        measure("all", np.sum),
        *(measure(STANDARD_RESIDUES[kind], lambda each, kind=kind: each[kind]) for kind in present),
    ]


def _sum_by_kind(hidden: np.ndarray, probabilities: Float[np.ndarray, "hidden kinds"]) -> LossSums:
    losses = -np.log(probabilities[np.arange(len(hidden)), hidden])
    correct = probabilities.argmax(axis=-1) == hidden
    values = (losses, correct, np.ones(len(hidden)))
    return LossSums(*(np.bincount(hidden, each.astype(float), RESIDUE_KINDS) for each in values))


def format_table(result: Mapping[str, Any]) -> str:
    """The table of perplexity and accuracy in Markdown."""
    head = " | ".join(f"{title}: perplexity | accuracy" for title in GUESSERS.values())
    lines = [f"| residue | hidden | {head} |", "|---|---:|" + "---:|" * (2 * len(GUESSERS))]
    for row in result["validation"]:
        cells = [f"{row[name]['perplexity']:.2f} | {row[name]['accuracy']:.3f}" for name in GUESSERS]
        lines.append(f"| {row['residue']} | {row['hidden']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


EVEN_GUESS = len(STANDARD_RESIDUES)
"""Perplexity of a guess by nothing; the axis of the picture starts at 1 and goes at least as far."""


def draw_curve(folder: Path, looks: Sequence[Look], result: Mapping[str, Any]) -> None:
    """Draw perplexity by residues read, as `curve.png` and `curve.svg`."""
    figure, axes = new_figure(6.5, 4.4)
    tokens = [look.tokens / 1e6 for look in looks]
    marker = {} if len(looks) <= MANY else {"marker": ""}
    top = EVEN_GUESS
    for number, name in enumerate(("training", "validation")):
        values = [float(np.exp(getattr(look, name).loss)) for look in looks]
        top = max(top, *values)
        axes.plot(tokens, values, label=name, **{**style_series(number), "markersize": 4, **marker})
    for name, line in (("unigram", ":"), ("trigram", "--")):
        level = result["validation"][0][name]["perplexity"]
        axes.axhline(level, color="0.5", linewidth=1, linestyle=line, label=f"validation, by {GUESSERS[name]}")
    axes.set(xlabel="residues read (millions)", ylabel="perplexity of hidden residues", xlim=(0, None))
    axes.set_ylim(1, 1.05 * top)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="small")
    save_figure(figure, folder, "curve")


def card_facts(result: Mapping[str, Any]) -> dict[str, Any]:
    """Facts for the card of the encoder."""
    return {
        "summary": result["summary"],
        "pretraining": {
            "data": format_surveys(result["data"]).split("\n"),
            "made": result["made"],
            "validation": result["validation"][0],
            "guessers": GUESSERS,
        },
    }
