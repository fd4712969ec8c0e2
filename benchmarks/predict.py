"""The `eqxesm predict` command: the first result, and a thousand proteins.

    python -m benchmarks.predict [--device cpu|gpu] [--quick]

Every run is a process of its own. The first result is given in seconds beyond `import jax, equinox`,
which takes turns with it: with an empty cache of compiled programs, and with one that a run has filled.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.cases import draw_proteins
from benchmarks.measure import Row, measure_commands, parse_options, run_alone, save, take_turns, with_cache

EXAMPLES = Path(__file__).parents[1] / "examples" / "proteins.fasta"
IMPORT = [sys.executable, "-c", "import jax, equinox"]


def predict(proteins: Path, cache: Path) -> list[str]:
    """The command, with a cache of its own."""
    out = cache.parent / "out.csv"
    return with_cache(cache, "predict", proteins, "-o", out)


def measure_first_result(folder: Path, rounds: int) -> list[Row]:
    """Seconds beyond the imports, for the first and the second run."""
    cache = folder / "cache"

    def cold() -> float:
        shutil.rmtree(cache, ignore_errors=True)
        return run_alone(predict(EXAMPLES, cache))[0]

    warm = folder / "warm"
    run_alone(predict(EXAMPLES, warm))
    turns = {
        "import": lambda: run_alone(IMPORT)[0],
        "first run": cold,
        "second run": lambda: run_alone(predict(EXAMPLES, warm))[0],
    }
    seconds = take_turns(turns, rounds)
    rows = [Row("import jax, equinox", float(np.median(seconds["import"])))]
    for name in ("first run", "second run"):
        beyond = seconds[name] - seconds["import"]
        rows.append(Row(f"first result, {name}, beyond the imports", float(np.median(beyond))))
    return rows


def measure_thousand(folder: Path, count: int) -> Row:
    """A thousand proteins by the default model, compiled programs kept."""
    from eqxesm import Tokenizer

    path = folder / "proteins.fasta"
    tokenizer = Tokenizer()
    lines = [f">p{number}\n{tokenizer.decode(tokens)}\n" for number, tokens in enumerate(draw_proteins(count))]
    path.write_text("".join(lines))
    command = predict(path, folder / "cache")
    run_alone(command)
    return measure_commands(f"{count} proteins", [command] * 3)


def main() -> None:
    """Measure, print and write."""
    options = parse_options(__doc__)
    os.environ.pop("JAX_ENABLE_COMPILATION_CACHE", None)
    with tempfile.TemporaryDirectory() as name:
        rows = measure_first_result(Path(name), 3 if options.quick else 9)
        rows.append(measure_thousand(Path(name), 100 if options.quick else 1000))
    save("predict", options, rows)


if __name__ == "__main__":
    main()
