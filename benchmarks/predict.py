"""The `eqxesm predict` command: the first result, and a thousand proteins.

    python -m benchmarks.predict [--device cpu|gpu] [--quick]

Every run is a process of its own. The first result is given in seconds beyond `import jax, equinox`,
which takes turns with it: with an empty cache of compiled programs, and with one that a run has filled.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.cases import draw_proteins
from benchmarks.measure import Row, parse_options, save, take_turns, timed

EXAMPLES = Path(__file__).parents[1] / "examples" / "proteins.fasta"
IMPORT = [sys.executable, "-c", "import jax, equinox"]

# Run in a process of its own, so that peak memory is that of the command alone.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def predict(proteins: Path, cache: Path) -> list[str]:
    """The command, with a cache of its own."""
    out = cache.parent / "out.csv"
    command = [sys.executable, "-m", "eqxesm", "predict", str(proteins), "-o", str(out)]
    return ["env", f"EQXESM_CACHE={cache}", *command]


def run(command: list[str]) -> None:
    """Run a command without a word."""
    subprocess.run(command, check=True, capture_output=True)


def measure_first_result(folder: Path, rounds: int) -> list[Row]:
    """Seconds beyond the imports, for the first and the second run."""
    cache = folder / "cache"

    def cold() -> float:
        shutil.rmtree(cache, ignore_errors=True)
        return timed(run, predict(EXAMPLES, cache))

    warm = folder / "warm"
    run(predict(EXAMPLES, warm))
    turns = {
        "import": lambda: timed(run, IMPORT),
        "first run": cold,
        "second run": lambda: timed(run, predict(EXAMPLES, warm)),
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
    run(command)
    seconds = float(np.median([timed(run, command) for _ in range(3)]))
    done = subprocess.run([sys.executable, "-c", PEAK, *command], check=True, capture_output=True, text=True)
    return Row(f"{count} proteins", seconds, peak_memory_mb=float(done.stdout))


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
