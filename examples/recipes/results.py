"""Run every recipe of this folder, and write the table of results.

    python examples/recipes/results.py --out RUNS

Each recipe has a run in RUNS, which is resumed if it is there. The table goes to `README.md` and `results.json` beside
the recipes. `--set data.root=FOLDER` and other settings apply to all of them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from eqxesm.training.recipe import read_recipe
from eqxesm.training.run import train

HERE = Path(__file__).parent
RECIPES = ("frequency", "convolution", "frozen", "lora", "joint")
METRICS = ("accuracy", "mcc", "auroc")
PREDICTORS = {"tag_rule": "tag rule", "composition": "composition regression"}

INTRODUCTION = """# Recipes, from simple to large

Each file is a recipe for `eqxesm train`: amino-acid frequencies, a convolution, and an encoder that is frozen,
adapted or trained as a whole. The table is written by `python examples/recipes/results.py --out RUNS`. In
parentheses: 95% bootstrap intervals over proteins (1,000 resamples). The models see proteins without expression
tags and initial Met. The tag rule and the composition regression, fitted on the same training proteins, see them as
published.

**frozen, lora and joint say nothing about ESM-C.** Their encoder here has two layers of width 64 and random
weights, since the published weights could not be reached where this was written. With weights, the same commands
are

```
python -m conversion.port esmc_300m
eqxesm train examples/recipes/frozen.toml --out run --set 'model.encoder={pretrained="esmc_300m"}'
eqxesm train examples/recipes/lora.toml --out run --set 'model.encoder={pretrained="esmc_300m"}'
eqxesm train examples/recipes/joint.toml --out run --set 'model.encoder={pretrained="esmc_300m"}'
```

Their scores are not measured.
"""


def main() -> None:
    """Run the recipes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    results = {}
    for name in RECIPES:
        print(f"== {name}", flush=True)
        recipe = read_recipe(HERE / f"{name}.toml", options.settings)
        command = f"eqxesm train examples/recipes/{name}.toml --out {name}"
        results[name] = train(recipe, options.out / name, resume=True, command=command, progress=True)
    write(results)


def write(results: dict[str, Any]) -> None:
    """Write the table, and its numbers as JSON, from what `train` returned by recipe."""
    numbers: dict[str, Any] = {}
    lines = [INTRODUCTION]
    for test in results[RECIPES[0]]["tests"]:
        numbers[test] = {}
        for part, title in (("all", "all"), ("untagged", "untagged, Met first")):
            first = results[RECIPES[0]]["tests"][test][part]
            rows = {name: results[name]["tests"][test][part]["model"] for name in results}
            rows |= {title: first[key] for key, title in PREDICTORS.items()}
            numbers[test][part] = {name: {metric: row[metric] for metric in METRICS} for name, row in rows.items()}
            lines.append(f"## {test}, {title} ({first['proteins']:,} proteins)\n")
            lines.append("| | accuracy | MCC | AUROC |\n|---|---|---|---|")
            for name, row in rows.items():
                cells = " | ".join(interval(row[metric]) for metric in METRICS)
                lines.append(f"| {name} | {cells} |")
            lines.append("")
    (HERE / "results.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (HERE / "README.md").write_text("\n".join(lines).rstrip() + "\n")


def interval(metric: dict[str, float]) -> str:
    """A metric and its interval as text."""
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


if __name__ == "__main__":
    main()
