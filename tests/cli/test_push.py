"""`eqxesm push` and `eqxesm pull`."""

import pytest
from commands import assert_refused
from hub_models import BASE, ENCODER, NAME, make_trained, predict_bits

from eqxesm import SolubilityModel
from eqxesm.cli.main import main


def test_a_pushed_model_is_pulled_the_same(base, hub, run, tmp_path):
    model = make_trained(base, "lora")
    model.save_pretrained(tmp_path / "run")
    status, out, _ = run("push", "run", NAME, "--form", "adapter", "--private")
    assert status == 0
    assert out.startswith(f"{hub.endpoint}/{NAME}/commit/")
    assert hub.repositories[NAME].private
    status, out, err = run("pull", NAME, "--out", "copy")
    assert status == 0
    assert "model, form adapter" in out
    assert f"based on {BASE} at {base.about.base.revision}" in err
    assert {file.name for file in (tmp_path / "copy").iterdir()} == {"config.json", "README.md", "model.safetensors"}
    assert predict_bits(SolubilityModel.from_pretrained(tmp_path / "copy")) == predict_bits(model)
    status, out, _ = run("info", NAME)
    assert status == 0
    assert "adapters" in out


def test_an_encoder_is_pushed_and_pulled_too(base, hub, run, tmp_path):
    base.save_pretrained(tmp_path / "encoder")
    words = ["--message", "Again", "--revision", "trial"]
    assert run("push", "encoder", "me/again", *words)[0] == 0
    assert set(hub.repositories["me/again"].tree("trial")) >= {"config.json", "README.md", "model.safetensors"}
    assert set(hub.repositories["me/again"].tree("main")) == {".gitattributes"}
    status, out, _ = run("push", "encoder", "me/again", "--create-pr")
    assert (status, out) == (0, f"{hub.endpoint}/me/again/discussions/1\n")
    status, out, _ = run("pull", "me/again", "--revision", "trial")
    assert status == 0
    assert "encoder" in out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["push", "nowhere", NAME], "nowhere: folder not found"),
        (["push", "run", "noname"], "not the name of a Hub repository"),
        (["push", "empty", NAME], "config.json is missing"),
        (["push", "encoder", NAME, "--form", "head"], "has no forms"),
        (["push", "encoder", NAME, "--base", BASE], "--base needs --form"),
        (["push", "encoder", NAME, "--form", "full", "--base", BASE], "--base needs --form"),
        (["pull", "noname"], "not the name of a Hub repository"),
        (["pull", NAME], "no such repository"),
        (["pull", NAME, "--out", "empty"], "exists already"),
    ],
)
def test_refuses_in_one_line(words, part, hub, run, tmp_path):
    (tmp_path / "empty").mkdir()
    ENCODER.save_pretrained(tmp_path / "encoder")
    assert_refused(run(*words), part)
    assert not hub.repositories


@pytest.mark.parametrize("command", ["push", "pull", "predict"])
def test_a_token_is_not_an_argument(command, capsys):
    """Arguments are seen by everybody on the machine, and kept by the shell."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "token" not in capsys.readouterr().out.lower().replace("hf_token", "")
