"""Design by gradients against design by chance, on insoluble proteins, and write the table of results.

    python examples/designs/table.py POOL.csv --out RUN

The proteins are drawn from the training proteins of the default model: insoluble, of 80 to 200 residues, each of
another family, without a tag. All methods have the same number of forward passes, mutations and least naturalness, by
the small ESM-C of `model_cards/encoder`. RUN holds a line of JSON for each protein that is done; a run goes on with
those that are missing. The table goes to `README.md` and `results.json` beside this file.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from scipy.stats import bootstrap, spearmanr

from eqxesm import ESMC, SolubilityModel, Tokenizer
from eqxesm.alphabet import STANDARD_RESIDUES
from eqxesm.data.cleaning import Cleaned
from eqxesm.data.tags import find_tags
from eqxesm.design import estimate_substitutions, score_substitutions
from eqxesm.design.constraints import Constraints, Rules
from eqxesm.design.optimise import design_by_chance, design_by_gradient
from eqxesm.design.search import Objective, Search
from eqxesm.inference import Mapper

HERE = Path(__file__).parent
PROTEINS, MUTATIONS, BUDGETS = 50, 5, (150, 600)


INTRODUCTION = """# Designs by gradients, and by chance

`python examples/designs/table.py POOL.csv --out RUN` designed {count} insoluble proteins with the default model: at
most {mutations} mutations, and a naturalness, by the small ESM-C, of at least the wild type's. A name ends with the
number of forward passes for a protein; a gradient counts for three. A gain is that of the logit of being soluble, by
the members of the model that the search did not see, or by those that it optimised: the median over proteins, with a
95% bootstrap interval. "regression alone" is the guided search without any gradient. A model's score is no experiment.

| | gain, members left out | gain, members optimised | more than evolution | better than evolution | less natural |\
 with a new tag |
|---|---:|---:|---:|---:|---:|---:|"""


class NoGradient(Search):
    """A search whose gradients are zero, and cost nothing: what the regression is worth alone."""

    def slope(self, soft: np.ndarray) -> np.ndarray:
        return np.zeros_like(soft)


METHODS = {
    "gradient": (Search, design_by_gradient),
    "regression alone": (NoGradient, design_by_gradient),
    "evolution": (Search, design_by_chance),
}


def choose_proteins(pool: Path) -> list[str]:
    """Proteins of the pool, by a fixed seed."""
    families: dict[str, str] = {}
    with open(pool, newline="") as file:
        for row in csv.DictReader(file):
            sequence = row["sequences"]
            if (
                (row["labels"], row["publish"], row["near_esol_test"]) == ("0", "yes", "no")
                and 80 <= len(sequence) <= 200
                and not set(sequence) - set(STANDARD_RESIDUES)
                and find_tags(sequence)[:2] == (0, len(sequence))
            ):
                families.setdefault(row["cluster30"], sequence)
    rng = np.random.default_rng(0)
    return [str(each) for each in rng.choice(sorted(families.values()), PROTEINS, replace=False)]


def design(sequence: str, number: int, objective: Objective) -> dict[str, Any]:
    """What every method finds for a protein with every budget."""
    found: dict[str, Any] = {}
    for budget in BUDGETS:
        for name, (kind, method) in METHODS.items():
            rules = Rules(Constraints(MUTATIONS), Cleaned(sequence, ()), sequence)
            search = kind(objective, rules, budget, np.random.default_rng(number), 0.0)
            method(search)
            best, before = max(search.known.values(), key=lambda each: each.value), search.before
            found[f"{name}, {budget}"] = {
                "mutations": ":".join(rules.name_changes(best.sequence)),
                "kept": best.kept - before.kept,
                "left_out": best.left_out - before.left_out,
                "likelihood": best.likelihood,
                "tags": find_tags(best.sequence)[:2] != (0, len(sequence)),
            }
    return found


def compare_orders(sequence: str, model: SolubilityModel, estimate: Mapper) -> float:
    """The rank correlation of first-order and exact changes by all substitutions."""
    tokens = Tokenizer().encode(sequence)
    (estimated,) = estimate([tokens], lambda _: None)
    exact = score_substitutions(model, tokens)
    others = np.array([[letter != residue for letter in STANDARD_RESIDUES] for residue in sequence])
    compared = (each[1 : len(sequence) + 1][others] for each in (exact, estimated))
    return float(spearmanr(*compared).statistic)


def median(values: np.ndarray) -> dict[str, float]:
    """The median with its 95% bootstrap interval over proteins."""
    interval = bootstrap((values,), np.median, method="percentile", rng=0).confidence_interval
    return {"value": float(np.median(values)), "low": float(interval.low), "high": float(interval.high)}


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over proteins."""

    def column(name: str, budget: int, what: str) -> np.ndarray:
        return np.array([row["designs"][f"{name}, {budget}"][what] for row in rows])

    methods: dict[str, Any] = {}
    for budget in BUDGETS:
        for name in METHODS:
            more = column(name, budget, "left_out") - column("evolution", budget, "left_out")
            methods[f"{name}, {budget}"] = {
                "left_out": median(column(name, budget, "left_out")),
                "kept": median(column(name, budget, "kept")),
                "more_than_evolution": median(more),
                "better_than_evolution": int((more > 0).sum()),
                "less_natural": int((column(name, budget, "likelihood") < 0).sum()),
                "tags": int(column(name, budget, "tags").sum()),
            }
    first_order = median(np.array([row["first_order"] for row in rows]))
    return {"proteins": len(rows), "methods": methods, "first_order": first_order}


def make_page(results: dict[str, Any]) -> str:
    """The page with the table."""
    count = results["proteins"]
    lines = [INTRODUCTION.format(count=count, mutations=MUTATIONS)]
    for name, row in results["methods"].items():
        evolution = name.startswith("evolution")
        more = "" if evolution else text(row["more_than_evolution"])
        better = "" if evolution else f"{row['better_than_evolution']} of {count}"
        gains = f"{text(row['left_out'])} | {text(row['kept'])}"
        lines.append(f"| {name} | {gains} | {more} | {better} | {row['less_natural']} | {row['tags']} |")
    first = text(results["first_order"])
    lines.append(f"\nOn the same proteins the median rank correlation of first-order and exact changes is {first}.")
    return "\n".join(lines) + "\n"


def text(metric: dict[str, float]) -> str:
    """A median and its interval as text."""
    return f"{metric['value']:.2f} ({metric['low']:.2f} to {metric['high']:.2f})"


def main() -> None:
    """Design what is not designed yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="file of what is done")
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    model = SolubilityModel.from_pretrained()
    encoder = ESMC.from_pretrained(HERE.parents[1] / "model_cards" / "encoder")
    objective, estimate = Objective(model, encoder), Mapper(eqx.Partial(estimate_substitutions, model))
    for number, sequence in enumerate(choose_proteins(options.pool)[len(done) :], len(done)):
        done.append({
            "sequence": sequence,
            "designs": design(sequence, number, objective),
            "first_order": compare_orders(sequence, model, estimate),
        })  # fmt: skip
        with open(options.out, "a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(f"{len(done)} of {PROTEINS}", flush=True)
    results = summarise(done)
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "README.md").write_text(make_page(results))


if __name__ == "__main__":
    main()
