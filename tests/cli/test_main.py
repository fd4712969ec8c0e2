"""The `eqxesm` command: help, completion, errors in one line, and what it is as a process."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from commands import assert_refused, start
from paths import RECIPES, ROOT

from eqxesm import SolubilityModel
from eqxesm.cli.main import main
from eqxesm.cli.parser import COMMANDS, EXAMPLES, make_parser
from eqxesm.errors import InputError

FASTA = ">a one\nMKVLLAAG\n>b\nMKJ\nWW*\n>c,d\nGSHMWWYYFFPPL\n"


# Options


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--help"], ["eqxesm predict proteins.fasta", "eqxesm info", *COMMANDS]),
        (["predict", "--help"], ["eqxesm predict a.fasta.gz b.csv -o out.csv", "probability", "--strict"]),
        *(([name, "--help"], [f"eqxesm {name}"]) for name in COMMANDS),
    ],
)
def test_help_names_examples(words, parts, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    for part in parts:
        assert part in out


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"eqxesm {version('eqxesm')}\n"


@pytest.mark.parametrize("words", [[], ["predict"], ["nonsense"], ["predict", "p", "--nonsense"]])
def test_mistyped_commands_show_the_usage(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: eqxesm")


def test_every_example_is_a_command_that_parses():
    texts = [EXAMPLES, *(module.DESCRIPTION for module in COMMANDS.values())]
    found = [match[1].split() for text in texts for match in re.finditer(r"^ .*?eqxesm (.*?)(?:   |$)", text, re.M)]
    for words in found:
        if "COMMAND" not in words:
            assert callable(make_parser().parse_args(words).run)
    assert {words[0] for words in found} == {*COMMANDS, "COMMAND"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_prints_a_completion_script(shell, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--print-completion", shell])
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in (*COMMANDS, "sequence-column"):
        assert word in out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=out, text=True, check=True)


def test_bash_completes_commands_and_options(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    (tmp_path / "complete").write_text(capsys.readouterr().out)
    script = """
    source complete
    complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $function; echo "${COMPREPLY[@]}"; }
    function=$(complete -p eqxesm | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    complete_line eqxesm pred
    complete_line eqxesm predict --str
    """
    result = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["predict", "--strict"]


def test_help_and_usage_errors_load_no_jax():
    code = """
import sys
from eqxesm.cli.main import main
for words in (["--help"], ["predict", "--help"], ["train"], ["--print-completion", "bash"]):
    try:
        main(words)
    except SystemExit:
        pass
print(*sorted({"jax", "numpy", "huggingface_hub"} & set(sys.modules)), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stderr.splitlines()[-1] == ""


# Errors


def test_an_error_is_one_line_whatever_the_name(run, write):
    assert_refused(run("predict", "no\nsuch.fasta"))
    assert_refused(run("predict", write("p.fasta"), "--model", "no\nsuch"))
    assert str(InputError("a\nb\r\nc\u2028d")) == "a b c d"


MISSING = """
import json, sys
for package in sys.argv[1].split(","):
    sys.modules[package] = None
from eqxesm.cli.main import main
print("status", main(json.loads(sys.argv[2])))
"""


@pytest.mark.parametrize(
    ("words", "packages", "extra"),
    [
        (["evaluate", "p.csv", "--out", "report"], "sklearn", "evaluate"),
        (["explore", "p.csv", "--out", "report"], "matplotlib", "evaluate"),
        (["train", "recipe.toml", "--out", "run"], "optax", "train"),
        (["train", "recipe.toml", "--out", "run"], "sklearn", "train"),
        (["train", "recipe.toml", "--out", "run", "--mlflow"], "mlflow,mlflow.tracking", "mlflow"),
        (["predict", "p.fasta", "-o", "out.parquet"], "pyarrow", "parquet"),
        (["predict", "p.parquet"], "pyarrow", "parquet"),
        (["predict", "p.gb"], "Bio", "formats"),
    ],
)
def test_a_missing_extra_is_one_line_with_a_command_that_installs_it(words, packages, extra, tmp_path):
    (tmp_path / "p.fasta").write_text(FASTA)
    (tmp_path / "p.gb").write_text("LOCUS\n")
    (tmp_path / "p.parquet").write_bytes(b"PAR1")
    (tmp_path / "p.csv").write_text("sequence,label\nMKV,1\nMKL,0\n")
    (tmp_path / "recipe.toml").write_bytes((RECIPES / "tutorial-frequency.toml").read_bytes())
    result = subprocess.run(
        [sys.executable, "-c", MISSING, packages, json.dumps(words)],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == "status 2\n"
    package = packages.partition(",")[0].replace("Bio", "biopython")
    assert result.stderr == (
        f'eqxesm: error: {package} is not installed. Run: {sys.executable} -m pip install "eqxesm[{extra}]"\n'
    )
    assert extra in metadata("eqxesm").get_all("Provides-Extra")


# As a process


@pytest.mark.slow
def test_script_and_module_are_the_same(folder, tmp_path):
    script = Path(sys.executable).with_name("eqxesm")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    for words, status in ((["predict", "-", "--model", folder], 0), (["predict", "-", "--model", "nowhere"], 2)):
        results = []
        for command in ([script], [sys.executable, "-m", "eqxesm"]):
            child = start([*command, *words], cwd=tmp_path)
            results.append((*child.communicate(FASTA, timeout=120), child.returncode))
        assert results[0] == results[1]
        out, err, code = results[0]
        assert code == status
        assert len(out.splitlines()) == (4 if status == 0 else 0)
        assert len(err.splitlines()) == 1
        assert "Traceback" not in err


def test_a_closed_pipe_is_no_error(folder, tmp_path):
    command = [sys.executable, "-m", "eqxesm", "predict", "-", "--model", folder]
    text = "".join(f">protein-number-{i}\nMKV\n" for i in range(5000))
    with start(command, cwd=tmp_path) as child:
        child.stdout.close()
        child.stdin.write(text)
        child.stdin.close()
        err = child.stderr.read()
        assert child.wait(120) == 0
    assert err == ""


# Streams


def in_shell(line: str, folder, **environment: str) -> tuple[int, str, str]:
    """Run a line of bash in which `eqxesm` is the command."""
    script = f'eqxesm() {{ "{sys.executable}" -m eqxesm "$@"; }}; {line}'
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_compiled_programs_are_kept_for_the_next_command(tmp_path):
    (tmp_path / "p.fasta").write_text(FASTA)
    compiled = tmp_path / "cache" / "compiled"

    def predict(*options: str) -> tuple[int, str, str]:
        # The tests share a folder of compiled programs. Here it is the user's own.
        line = "unset JAX_COMPILATION_CACHE_DIR; " + shlex.join(["eqxesm", "predict", "p.fasta", *options])
        return in_shell(line, tmp_path, EQXESM_CACHE=str(tmp_path / "cache"), JAX_ENABLE_COMPILATION_CACHE="true")

    afresh = predict("--no-compilation-cache")
    assert not compiled.exists()
    assert predict() == afresh
    kept = {file.name: file.stat().st_mtime_ns for file in compiled.glob("*-cache")}
    assert kept
    assert predict() == afresh
    assert {file.name: file.stat().st_mtime_ns for file in compiled.glob("*-cache")} == kept


def test_a_cache_folder_that_cannot_be_made_is_no_reason_to_stop(tmp_path):
    (tmp_path / "p.fasta").write_text(FASTA)
    (tmp_path / "cache").write_text("")
    environment = {"EQXESM_CACHE": str(tmp_path / "cache"), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    line = "unset JAX_COMPILATION_CACHE_DIR; eqxesm predict p.fasta"
    status, _, err = in_shell(line, tmp_path, **environment)
    assert status == 0
    assert "arning" not in err


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("eqxesm predict p.fasta > /dev/full", "the output cannot be written (No space left on device)"),
        ("eqxesm predict p.fasta >&-", "standard output is closed. Name a file with --out."),
        ("eqxesm info >&-", "the output cannot be written (not writable)"),
        ("eqxesm predict - <&-", "standard input: no proteins found"),
        ("JAX_PLATFORMS=tpu eqxesm predict p.fasta", "JAX finds no device (JAX_PLATFORMS: tpu)."),
        ("touch r.csv; chmod 444 r.csv; mkfifo f.csv; eqxesm predict p.fasta -o f.csv", "is a named pipe"),
        ("eqxesm predict p.fasta -o /dev/null/out.csv", "cannot be read (Not a directory)"),
    ],
)
def test_streams_that_cannot_be_used_are_one_line(line, part, tmp_path):
    (tmp_path / "p.fasta").write_text(FASTA)
    assert_refused(in_shell(line, tmp_path), part)


def test_a_closed_standard_error_takes_nothing_from_the_output(tmp_path):
    (tmp_path / "p.fasta").write_text(FASTA)
    status, out, _ = in_shell("eqxesm predict p.fasta -o out.csv 2>&-; eqxesm predict p.fasta 2>&-", tmp_path)
    assert status == 0
    assert len(out.splitlines()) == 4
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4


def test_any_id_is_written_to_any_terminal(tmp_path):
    (tmp_path / "p.fasta").write_text(">Schlüssel\nMKV\n>red\x1b[31m\x07\u202eid\nMKL\n")
    status, out, _ = in_shell("eqxesm predict p.fasta", tmp_path, PYTHONIOENCODING="ascii")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["id", r"Schl\xfcssel", r"red\ufffd[31m\ufffd\ufffdid"]
    assert "\x1b" not in in_shell("eqxesm predict p.fasta --strict", tmp_path)[1]


def test_control_characters_of_a_model_do_not_reach_the_terminal(tmp_path):
    SolubilityModel.from_pretrained("default").save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["provenance"]["source"] = "lab\x1b]0;title\x07\x1b[2J\ngone"
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    status, out, err = in_shell("eqxesm info model", tmp_path)
    assert status == 0
    assert "lab\ufffd]0;title\ufffd\ufffd[2J gone" in " ".join(out.split())
    assert not set("\x1b\x07") & set(out + err)


DROPPED = """
import signal, time
from eqxesm.cli import main

def work():
    for _ in range(1000):
        time.sleep(0.01)

def run():
    for _ in range(2):
        try:
            work()
        except KeyboardInterrupt:
            pass
    work()

main.main = lambda: main.run_command("eqxesm", run)
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, 0.3)
main.start()
"""


def test_an_interrupt_that_a_library_drops_comes_again(tmp_path):
    with start([sys.executable, "-c", DROPPED], cwd=tmp_path) as child:
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (130, "", "eqxesm: interrupted, nothing was written\n")


INTERRUPTED = """
import signal, sys
from eqxesm.cli.main import start
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, float(sys.argv.pop(1)))
start()
"""


@pytest.mark.parametrize("seconds", [0.01, 0.1, 0.4, 0.9, 1.5])
def test_an_interrupt_at_any_moment_is_one_line(seconds, tmp_path):
    (tmp_path / "p.fasta").write_text("".join(f">p{i}\n{'MKVLAG' * (i % 400 + 1)}\n" for i in range(8000)))
    command = [sys.executable, "-c", INTERRUPTED, seconds, "predict", "p.fasta", "-o", "out.csv"]
    with start(command, cwd=tmp_path) as child:
        out, err = child.communicate(timeout=120)
    assert (child.returncode, out, err) == (130, "", "eqxesm: interrupted, nothing was written\n")
    assert os.listdir(tmp_path) == ["p.fasta"]
