"""Pulling: from a name to a folder, through the stock client, whatever goes wrong on the way."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from eqxesm import ESMC, ESMCConfig, InputError
from eqxesm.checkpoint import hub_calls
from eqxesm.checkpoint.hub import FILES, Access, commit_of, download, fetch

NAME = "me/encoder"
ENCODER = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(0))


def refusal(source, **options) -> str:
    with pytest.raises(InputError) as caught:
        fetch(source, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "token-" not in message
    return message


@pytest.fixture
def unasked(monkeypatch):
    """No Hub may be asked."""

    def fail(*_, **__):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("eqxesm.checkpoint.hub.download", fail)


@pytest.fixture
def naps(monkeypatch):
    """Sleep not at all, and note for how long it should have been."""
    taken = []
    monkeypatch.setattr("time.sleep", taken.append)
    return taken


@pytest.fixture
def published(hub):
    ENCODER.push_to_hub(NAME)
    hub.requests.clear()
    return hub


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_folder_is_itself(kind, tmp_path):
    assert fetch(kind(tmp_path)) == tmp_path


@pytest.mark.usefixtures("unasked")
def test_a_folder_comes_before_a_repository_of_that_name(tmp_path, monkeypatch):
    (tmp_path / NAME).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / fetch(NAME)).samefile(tmp_path / NAME)


def test_home_is_spelt_out(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch("~/model") == tmp_path / "model"


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    assert refusal(path) == f"{path}: is a file: name the checkpoint's folder"


@pytest.mark.parametrize(
    "name",
    ["nowhere", "./nowhere", "/nowhere/at/all", "a/b/c", "/owner", "owner/", "-a/b", "owner/na me",
     "https://huggingface.co/a/b", "a\n/b", "owner/name@main", "~/nowhere/at/all"],
)  # fmt: skip
@pytest.mark.usefixtures("unasked")
def test_names_that_are_neither(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no such folder, and no name of a Hub repository" in refusal(name)


@pytest.mark.parametrize("name", ["a" * 300, "~nobody-of-this-name/model", "a/" * 3000])
def test_names_that_the_system_refuses(name):
    assert "cannot be looked up" in refusal(name)


def test_a_download_is_the_commit_that_was_pushed(published, tmp_path):
    folder = fetch(NAME)
    repository = published.repositories[NAME]
    assert commit_of(folder) == repository.names["main"]
    assert {file.name for file in folder.iterdir()} == set(repository.tree()) - {".gitattributes"}
    for file in folder.iterdir():
        assert file.read_bytes() == repository.tree()[file.name].content
    assert commit_of(tmp_path) is None


def test_revisions_are_commits_tags_and_branches(published):
    first = published.repositories[NAME].names["main"]
    published.repositories[NAME].names["v1"] = first
    other = ESMC(ESMCConfig(1, 64, 1, 64), key=jax.random.key(1))
    other.push_to_hub(NAME)
    other.push_to_hub(NAME, revision="a/branch")
    second = published.repositories[NAME].names["main"]
    assert first != second
    assert commit_of(fetch(NAME)) == second
    assert commit_of(fetch(NAME, "v1")) == commit_of(fetch(NAME, first)) == first
    assert commit_of(fetch(NAME, "a/branch")) == published.repositories[NAME].names["a/branch"]
    loaded = ESMC.from_pretrained(NAME, revision="v1")
    assert loaded.base is not None
    assert (loaded.base.repository, loaded.base.revision) == (NAME, first)
    np.testing.assert_array_equal(loaded.embedding, ENCODER.embedding)


def test_what_is_no_part_of_a_checkpoint_is_left_where_it_is(published):
    more = ["code.py", "pickle.pth", "../out.json", "sub/../../out.json", "/abs/config.json",
            "sub/config.json", "sub/model.safetensors", "model-00001-of-..safetensors",
            "..\\config.json", "*.json", "config.json/../../../out.json"]  # fmt: skip
    published.repositories[NAME].add(dict.fromkeys(more, b"{}"))
    folder = fetch(NAME)
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {"config.json", "README.md", "model.safetensors"}
    assert not [path for _, path in published.requests if "out.json" in path]
    assert not list(folder.parents[4].rglob("out.json"))


def test_every_pull_asks_for_the_configuration_where_the_hub_counts_downloads(published):
    fetch(NAME)
    assert any(path.endswith("/config.json") for _, path in published.requests)


@pytest.mark.parametrize("login", ["token-owner", "token-other", "", "token-unknown"])
def test_a_repository_that_is_not_there(login, hub, monkeypatch):
    assert hub.repositories == {}
    monkeypatch.setenv("HF_TOKEN", login)
    assert "no such repository on the Hub, or it is private" in refusal("me/nothing")


@pytest.mark.parametrize("login", ["token-other", ""])
def test_a_private_repository(login, hub, monkeypatch):
    ENCODER.push_to_hub(NAME, private=True)
    assert hub.repositories[NAME].private
    assert fetch(NAME).is_dir()
    assert fetch(NAME, access=Access(token="token-owner")).is_dir()
    monkeypatch.setenv("HF_TOKEN", login)
    message = refusal(NAME, access=Access(cache_dir="elsewhere"))
    assert "or it is private: check the name, and log in with 'hf auth login'" in message


@pytest.mark.usefixtures("published")
def test_a_revision_that_is_not_there():
    assert "has no such revision" in refusal(NAME, revision="v9")
    assert f"{NAME}@v9: " in refusal(NAME, revision="v9")
    assert "has no such revision" in refusal(NAME, revision="0" * 40)


@pytest.mark.parametrize("headers", [{"Retry-After": "7"}, {"RateLimit": '"api";r=0;t=7'}])
@pytest.mark.parametrize("path", ["/api/models/", "/resolve/"])
def test_a_rate_limit_is_waited_for(path, headers, published, naps):
    published.fail("GET", path, times=2, status=429, headers=headers)
    assert fetch(NAME).is_dir()
    assert naps
    assert all(7 <= nap <= 8 for nap in naps)


def test_a_rate_limit_that_takes_long_is_told(published, naps):
    published.fail("GET", "/api/models/", times=99, status=429, headers={"Retry-After": "1800"})
    assert "limits how much one may ask of it: try again in 1800 seconds" in refusal(NAME)
    assert naps == []


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_of_the_server_passes(status, published, naps):
    published.fail("GET", "/api/models/", times=3, status=status)
    assert fetch(NAME).is_dir()
    assert naps[: len(hub_calls.WAITS)] == list(hub_calls.WAITS)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/models/"), ("HEAD", "/resolve/"), ("GET", "/resolve/")]
)
def test_an_error_of_the_server_is_told(method, path, published, naps):
    published.fail(method, path, times=9999, status=503)
    assert "the Hub fails (HTTP 503), and did so each of 4 times" in refusal(NAME)
    assert naps
    published.faults.clear()
    assert ESMC.from_pretrained(NAME).config == ENCODER.config


@pytest.mark.usefixtures("published")
def test_without_a_network(monkeypatch, naps, caplog):
    """What was fetched once is there; what was not is not, and nobody waits."""
    from huggingface_hub import constants

    folder = fetch(NAME)
    for name, value in (("HF_HUB_OFFLINE", True), ("HF_HUB_OFFLINE", False)):
        monkeypatch.setattr(constants, name, value)
        # A port that nobody listens at.
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        caplog.clear()
        assert fetch(NAME) == fetch(NAME, "main") == fetch(NAME, folder.name) == folder
        assert caplog.text.count(f"taken from the cache, {folder.name}") == 3
        message = refusal("me/other")
        assert "the Hub cannot be reached" in message
        assert "the cache does not hold all of it either" in message
        assert "cannot be reached" in refusal(NAME, revision="v1")
    assert naps == []


def test_files_that_are_here_only(published):
    access = Access(local_files_only=True)
    assert "the Hub was not to be asked" in refusal(NAME, access=access)
    folder = fetch(NAME)
    published.requests.clear()
    assert fetch(NAME, access=access) == folder
    assert published.requests == []


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_cache_that_holds_a_part(name):
    (fetch(NAME) / name).unlink()
    message = refusal(NAME, access=Access(local_files_only=True))
    assert "the cache" in message
    assert ESMC.from_pretrained(NAME).config == ENCODER.config


@pytest.mark.usefixtures("hub")
def test_a_cache_that_lacks_a_shard():
    ENCODER.push_to_hub(NAME, shard_bytes=30_000)
    folder = fetch(NAME)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    shards[1].unlink()
    assert "the cache" in refusal(NAME, access=Access(local_files_only=True))
    np.testing.assert_array_equal(ESMC.from_pretrained(NAME).embedding, ENCODER.embedding)


@pytest.mark.usefixtures("published")
def test_a_cache_of_ones_own(tmp_path):
    folder = fetch(NAME, access=Access(cache_dir=tmp_path / "own"))
    assert folder.is_relative_to(tmp_path / "own")
    loaded = ESMC.from_pretrained(NAME, cache_dir=tmp_path / "own", local_files_only=True)
    assert loaded.config == ENCODER.config


FULL = """
import resource, sys
from eqxesm.checkpoint.hub import fetch
from eqxesm.errors import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    fetch("me/encoder")
except InputError as error:
    print(error)
"""


def environment(hub, home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONWARNINGS": "ignore",
    }


def test_a_full_disk(published, tmp_path):
    """A limit on the size of files stands for it: the weights are larger."""
    result = subprocess.run(
        [sys.executable, "-c", FULL], capture_output=True, text=True, timeout=120,
        env=environment(published, tmp_path / "home"), check=True,
    )  # fmt: skip
    assert result.stdout.startswith("me/encoder: the disk is full: make room in the cache")
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.usefixtures("published")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_may_not_be_written(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "may not be written" in refusal(NAME, access=Access(cache_dir=tmp_path / "closed"))


LARGE = ESMC(ESMCConfig(2, 320, 5, 1120), key=jax.random.key(0))


@pytest.fixture
def large(hub):
    """About 12 MB."""
    LARGE.push_to_hub(NAME)
    hub.requests.clear()
    return hub


def stored_bytes(hub) -> int:
    return len(hub.repositories[NAME].tree()["model.safetensors"].content)


@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("tenth", range(10))
def test_a_download_that_is_cut_goes_on(tenth, large):
    size = stored_bytes(large)
    assert 11e6 < size < 14e6
    large.fail("GET", "/store/", cut_at=size * tenth // 10)
    loaded = ESMC.from_pretrained(NAME)
    np.testing.assert_array_equal(loaded.blocks.ffn.down.weight, LARGE.blocks.ffn.down.weight)


@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("tenth", range(10))
def test_a_download_that_is_always_cut_leaves_nothing_to_load(tenth, large):
    large.fail("GET", "/store/", times=9999, cut_at=stored_bytes(large) * tenth // 100)
    # What goes on where it was cut gets through in the end, unless nothing ever comes.
    try:
        loaded = ESMC.from_pretrained(NAME)
    except InputError:
        with pytest.raises(InputError, match="the cache"):
            ESMC.from_pretrained(NAME, local_files_only=True)
        large.faults.clear()
        loaded = ESMC.from_pretrained(NAME)
    np.testing.assert_array_equal(loaded.blocks.ffn.down.weight, LARGE.blocks.ffn.down.weight)


def test_a_name_that_the_hub_does_not_give():
    assert "the Hub gives no repository such a name" in refusal("nobody/two--dashes")


def test_an_interrupt_is_no_error_of_the_input(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(NAME)


def test_links_that_lead_out_are_refused(tmp_path):
    ENCODER.save_pretrained(tmp_path / "model")
    for name in ("config.json", "model.safetensors"):
        shutil.copytree(tmp_path / "model", tmp_path / name)
        (tmp_path / name / name).rename(tmp_path / f"moved-{name}")
        (tmp_path / name / name).symlink_to(tmp_path / f"moved-{name}")
        with pytest.raises(InputError, match="is a link that leads out of its folder"):
            ESMC.from_pretrained(tmp_path / name)


def test_patterns_are_of_our_files_alone():
    assert not [pattern for pattern in FILES if "*" in pattern or "/" in pattern]
    with pytest.raises(InputError):
        download(NAME, None, FILES)
