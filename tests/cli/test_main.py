"""The `eqxesm` command: help, completion, errors in one line, and what it is as a process."""

import json
import re
import subprocess
import sys
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from commands import assert_refused, start
from paths import ROOT

from eqxesm.cli.main import COMMANDS, EXAMPLES, main, make_parser
from eqxesm.errors import InputError

FASTA = ">a one\nMKVLLAAG\n>b\nMKJ\nWW*\n>c,d\nGSHMWWYYFFPPL\n"


# Options


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--help"], ["eqxesm predict proteins.fasta", "eqxesm info", *COMMANDS]),
        (["predict", "--help"], ["eqxesm predict proteins.fasta.gz -o out.csv", "probability", "--strict"]),
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
    complete_line eqxesm pre
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
    (tmp_path / "recipe.toml").write_bytes((ROOT / "examples" / "recipes" / "frequency.toml").read_bytes())
    result = subprocess.run(
        [sys.executable, "-c", MISSING, packages, json.dumps(words)],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == "status 2\n"
    package = packages.partition(",")[0].replace("Bio", "biopython")
    assert result.stderr == (
        f"eqxesm: error: {package} is not installed. Run: pip install 'eqxesm[{extra}]' "
        f"(in a clone: pip install '.[{extra}]')\n"
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
