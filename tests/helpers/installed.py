"""The wheel and the sdist as their users have them: `python tests/helpers/installed.py dist`, or `make package`.

Each is installed in a fresh environment, away from the repository. README's Python runs there, `eqxesm predict` does,
and a type checker reads a script of a user against it.
"""

import csv
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """\
from pathlib import Path

import jax

from eqxesm import ESMC, InputError, SolubilityModel, Tokenizer

model: SolubilityModel = SolubilityModel.from_pretrained("default")
model.save_pretrained(Path("copy"), form="full")
tokens = Tokenizer().encode("MKTAYIAKQR")
embedding: jax.Array | None = ESMC.from_pretrained("esmc_300m")(tokens).embedding
"""
WRONG = """\
from eqxesm import SolubilityModel

number: int = SolubilityModel.from_pretrained("default")
"""


def run(*words: str | Path, folder: Path, status: int = 0) -> str:
    """What a command prints. It must end with the status."""
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode != status:
        sys.exit(
            f"{' '.join(map(str, words))}: status {done.returncode}, expected {status}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def scripts(environment: Path) -> Path:
    """The folder of an environment's programs."""
    return environment / ("Scripts" if sys.platform == "win32" else "bin")


def use(environment: Path, folder: Path) -> None:
    """Do in a folder what README says, with what is installed."""
    python = scripts(environment) / "python"
    where = run(python, "-c", "import eqxesm, heads; print(eqxesm.__file__, heads.__file__)", folder=folder)
    if str(ROOT) in where:
        sys.exit(f"the repository was imported, not what is installed: {where}")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    check = "\nassert 0 < float(probabilities[0]) < 1\nassert gradient.shape == soft.shape\n"
    (folder / "readme.py").write_text(code + check, encoding="utf-8")
    run(python, "readme.py", folder=folder)
    shutil.copy(ROOT / "examples" / "proteins.fasta", folder)
    run(scripts(environment) / "eqxesm", "predict", "proteins.fasta", "-o", "out.csv", folder=folder)
    with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != 20 or not all(0 < float(row["probability"]) < 1 for row in rows):
        sys.exit(f"eqxesm predict: {len(rows)} rows, expected 20 with a probability each")


def check_types(environment: Path, folder: Path) -> None:
    """A type checker accepts a right script, and finds the fault in a wrong one."""
    for name, text, status in (("right.py", SCRIPT, 0), ("wrong.py", WRONG, 1)):
        (folder / name).write_text(text, encoding="utf-8")
        checker = (sys.executable, "-m", "ty", "check", "--no-progress", "--python", environment, name)
        run(*checker, folder=folder, status=status)


def main(dist: Path) -> None:
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as made:
        environment = Path(made) / "environment"
        venv.create(environment, with_pip=True)
        for number, archive in enumerate((wheel, sdist)):
            folder = Path(made) / f"user{number}"
            folder.mkdir()
            # What it depends on is there the second time.
            again = ["--force-reinstall", "--no-deps"] if number else []
            run(scripts(environment) / "python", "-m", "pip", "install", "--quiet", *again, archive, folder=folder)
            use(environment, folder)
            check_types(environment, folder)
            print(f"{archive.name}: installed, README and eqxesm predict run, types are seen", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
