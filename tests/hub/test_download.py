"""Downloading: from a name to a folder, whatever goes wrong on the way."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from hub_models import ENCODER, LARGE, TENTHS, assert_same, refusal
from hub_server import environment

from eqxesm import ESMC, InputError
from eqxesm.checkpoint.folder import FILES
from eqxesm.hub.download import Access, commit_of, download, find_checkpoint

NAME = "me/encoder"


def refused(source, **options) -> str:
    return refusal(find_checkpoint, source, **options)


@pytest.fixture
def no_hub(monkeypatch):
    """The Hub must not be asked."""

    def fail(*_, **__):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("eqxesm.hub.download.download", fail)


# Names


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_folder_is_used_as_it_is(kind, tmp_path):
    assert find_checkpoint(kind(tmp_path)) == tmp_path


@pytest.mark.usefixtures("no_hub")
def test_a_folder_comes_before_a_repository_of_the_same_name(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    (tmp_path / NAME).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / find_checkpoint(NAME)).samefile(tmp_path / NAME)
    assert caplog.messages == ["me/encoder: read from the folder here, not from the Hub"]
    find_checkpoint(Path(NAME))  # a path is no name
    assert len(caplog.messages) == 1
    assert "is a folder, which has no revision. Leave out v1" in refused(NAME, revision="v1")


@pytest.mark.usefixtures("no_hub")
def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_checkpoint("~/model") == tmp_path / "model"


def test_refuses_a_file(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    assert refused(path) == f"{path}: is a file. Name the folder of the checkpoint."


@pytest.mark.parametrize(
    "name",
    ["nowhere", "./nowhere", "/nowhere/at/all", "a/b/c", "/owner", "owner/", "-a/b", "owner/na me",
     "https://huggingface.co/a/b", "a\n/b", "owner/name@main", "~/nowhere/at/all", "~nobody-of-this-name/model"],
)  # fmt: skip
@pytest.mark.usefixtures("no_hub")
def test_refuses_what_is_neither_a_folder_nor_a_repository(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "folder not found, and not the name of a Hub repository" in refused(name)


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000])
def test_refuses_names_that_the_system_refuses(name):
    assert "cannot be looked up" in refused(name)


def test_refuses_names_that_the_client_refuses():
    assert "not a valid repository name" in refused("nobody/two--dashes")


@pytest.mark.parametrize("token", ["hf_secret\n", "two words", "", "naïve"])
def test_refuses_a_token_that_cannot_be_sent_without_repeating_it(token):
    with pytest.raises(InputError, match="token is not valid") as caught:
        Access(token)
    assert "secret" not in str(caught.value)


def test_a_token_is_not_shown():
    assert "hf_secret" not in repr(Access("hf_secret"))


# What is fetched


def test_a_download_is_the_commit_that_was_pushed(published, tmp_path):
    folder = find_checkpoint(NAME)
    repository = published.repositories[NAME]
    assert commit_of(folder) == repository.names["main"]
    assert {file.name for file in folder.iterdir()} == set(repository.tree()) - {".gitattributes"}
    for file in folder.iterdir():
        assert file.read_bytes() == repository.tree()[file.name].content
    assert commit_of(tmp_path) is None


def test_revisions_are_commits_tags_and_branches(published):
    repository = published.repositories[NAME]
    first = repository.names["main"]
    repository.names["v1"] = first
    other = ESMC(ENCODER.config, key=jax.random.key(1))
    other.push_to_hub(NAME)
    other.push_to_hub(NAME, revision="a/branch")
    second = repository.names["main"]
    assert first != second
    assert commit_of(find_checkpoint(NAME)) == second
    assert commit_of(find_checkpoint(NAME, "v1")) == commit_of(find_checkpoint(NAME, first)) == first
    assert commit_of(find_checkpoint(NAME, "a/branch")) == repository.names["a/branch"]
    loaded = ESMC.from_pretrained(NAME, revision="v1")
    assert loaded.about.base is not None
    assert (loaded.about.base.repository, loaded.about.base.revision) == (NAME, first)
    assert_same(loaded, ENCODER)


def test_fetches_nothing_but_the_files_of_a_checkpoint_and_nothing_outside_the_folder(published):
    more = ["code.py", "pickle.pth", "../out.json", "sub/../../out.json", "/abs/config.json",
            "sub/config.json", "sub/model.safetensors", "model-00001-of-..safetensors",
            "..\\config.json", "*.json", "config.json/../../../out.json"]  # fmt: skip
    published.repositories[NAME].add(dict.fromkeys(more, b"{}"))
    folder = find_checkpoint(NAME)
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {"config.json", "README.md", "model.safetensors"}
    assert not [path for _, path in published.requests if "out.json" in path]
    assert not list(folder.parents[4].rglob("out.json"))


def test_a_pattern_with_a_star_fetches_nothing_outside_the_folder(published):
    more = ["../out.json", "sub/../../out.json", "/abs/out.json", "..\\out.json", "sub//out.json", "sub/in.json"]
    published.repositories[NAME].add(dict.fromkeys(more, b"{}"))
    folder = download(NAME, None, ["*.json"])
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {"config.json", "sub/in.json"}
    assert not [path for _, path in published.requests if "out.json" in path]
    assert not list(folder.parents[4].rglob("*out.json"))


@pytest.mark.parametrize(
    "lies",
    [
        {"sha": "../../../../evil"},
        {"sha": ""},
        {"X-Repo-Commit": "../../../../evil"},
        {"X-Repo-Commit": "main"},
        {"ETag": '"../../../../evil"'},
        {"ETag": "W/..\\evil"},
        {"X-Linked-Etag": "/evil"},
        {"X-Linked-Etag": "a" * 300},
    ],
    ids=str,
)
def test_a_hostile_hub_writes_nothing_outside_the_cache(lies, published, tmp_path):
    before = {path for path in tmp_path.rglob("*") if "evil" in path.name}
    published.lies = lies
    assert "the answer is not that of a Hub" in refused(NAME)
    assert {path for path in tmp_path.rglob("*") if "evil" in path.name} == before == set()
    assert not [path for path in (tmp_path / "hf").rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG"]
    published.lies = {}
    assert find_checkpoint(NAME).is_dir()


def test_patterns_match_files_of_a_checkpoint_alone():
    assert not [pattern for pattern in FILES if "*" in pattern or "/" in pattern]
    with pytest.raises(InputError):
        download(NAME, None, FILES)


def test_every_download_asks_for_the_configuration_by_which_the_hub_counts(published):
    find_checkpoint(NAME)
    assert any(path.endswith("/config.json") for _, path in published.requests)


def test_refuses_links_that_lead_out_of_the_folder(tmp_path):
    ENCODER.save_pretrained(tmp_path / "model")
    for name in ("config.json", "model.safetensors"):
        shutil.copytree(tmp_path / "model", tmp_path / name)
        (tmp_path / name / name).rename(tmp_path / f"moved-{name}")
        (tmp_path / name / name).symlink_to(tmp_path / f"moved-{name}")
        with pytest.raises(InputError, match="link that leads out of its folder"):
            ESMC.from_pretrained(tmp_path / name)


# What is not there


@pytest.mark.parametrize("login", ["token-owner", "token-other", "", "token-unknown"])
def test_refuses_a_repository_that_does_not_exist(login, hub, monkeypatch):
    assert hub.repositories == {}
    monkeypatch.setenv("HF_TOKEN", login)
    assert "me/nothing: no such repository on the Hub, or a private one" in refused("me/nothing")


@pytest.mark.parametrize("login", ["token-other", ""])
def test_a_private_repository_is_for_its_owner(login, hub, monkeypatch, tmp_path):
    ENCODER.push_to_hub(NAME, private=True)
    assert hub.repositories[NAME].private
    assert find_checkpoint(NAME).is_dir()
    assert find_checkpoint(NAME, access=Access(token="token-owner")).is_dir()
    monkeypatch.setenv("HF_TOKEN", login)
    message = refused(NAME, access=Access(cache_dir=tmp_path / "elsewhere"))
    assert "or a private one. Check the name, and log in with 'hf auth login'" in message


@pytest.mark.usefixtures("published")
def test_refuses_a_revision_that_does_not_exist():
    assert refused(NAME, revision="v9") == f"{NAME}@v9: no such revision in the repository"
    assert "no such revision" in refused(NAME, revision="0" * 40)


# The cache


@pytest.mark.usefixtures("published")
def test_without_a_network_the_cache_is_used_at_once(monkeypatch, delays, caplog):
    from huggingface_hub import constants

    folder = find_checkpoint(NAME)
    for offline in (True, False):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        # No server listens at this port.
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        caplog.clear()
        assert find_checkpoint(NAME) == find_checkpoint(NAME, "main") == find_checkpoint(NAME, folder.name) == folder
        assert caplog.text.count(f"using the cached {folder.name}") == 3
        message = refused("me/other")
        assert "the Hub cannot be reached" in message
        assert "It is not in the cache either" in message
        assert "cannot be reached" in refused(NAME, revision="v1")
    assert delays == []


def test_local_files_only_asks_no_hub(published):
    access = Access(local_files_only=True)
    assert "not in the cache, or not whole" in refused(NAME, access=access)
    assert published.requests == []
    folder = find_checkpoint(NAME)
    published.requests.clear()
    assert find_checkpoint(NAME, access=access) == folder
    assert published.requests == []


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_refuses_a_part_of_a_checkpoint_in_the_cache(name):
    (find_checkpoint(NAME) / name).unlink()
    assert "the cache" in refused(NAME, access=Access(local_files_only=True))
    assert ESMC.from_pretrained(NAME).config == ENCODER.config


@pytest.mark.usefixtures("hub")
def test_refuses_a_cache_that_lacks_a_shard():
    ENCODER.push_to_hub(NAME, shard_bytes=30_000)
    folder = find_checkpoint(NAME)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    shards[1].unlink()
    assert "the cache" in refused(NAME, access=Access(local_files_only=True))
    assert_same(ESMC.from_pretrained(NAME), ENCODER)


@pytest.mark.usefixtures("published")
def test_another_cache_can_be_named(tmp_path):
    folder = find_checkpoint(NAME, access=Access(cache_dir=tmp_path / "own"))
    assert folder.is_relative_to(tmp_path / "own")
    loaded = ESMC.from_pretrained(NAME, cache_dir=tmp_path / "own", local_files_only=True)
    assert loaded.config == ENCODER.config


FULL_DISK = """
import resource
from eqxesm.errors import InputError
from eqxesm.hub.download import find_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    find_checkpoint("me/encoder")
except InputError as error:
    print(error)
"""


def test_a_full_disk_is_named(published, tmp_path):
    """A limit on the size of files stands in for it: the weights are larger."""
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK], capture_output=True, text=True, timeout=120,
        env=environment(published, tmp_path / "home"), check=True,
    )  # fmt: skip
    assert result.stdout.startswith("me/encoder: file too large for this disk. Set HF_HOME")
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.usefixtures("published")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_without_permission_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "no permission to write to the cache" in refused(NAME, access=Access(cache_dir=tmp_path / "closed"))


# Cut connections


@pytest.fixture
def large(hub):
    LARGE.push_to_hub(NAME)
    hub.requests.clear()
    return hub


def stored_bytes(hub) -> int:
    return len(hub.repositories[NAME].tree()["model.safetensors"].content)


@pytest.mark.usefixtures("delays")
@pytest.mark.parametrize("tenth", TENTHS)
def test_a_cut_download_resumes(tenth, large):
    size = stored_bytes(large)
    assert 11e6 < size < 14e6
    large.fail("GET", "/store/", cut_at=size * tenth // 10)
    assert_same(ESMC.from_pretrained(NAME), LARGE)
    # The client writes, and resumes, in blocks of 10 MiB.
    assert any(large.resumed_at) == (tenth == 9)


@pytest.mark.usefixtures("delays")
@pytest.mark.parametrize("tenth", TENTHS)
def test_a_download_that_is_always_cut_leaves_nothing_to_load(tenth, large):
    large.fail("GET", "/store/", times=9999, cut_at=stored_bytes(large) * tenth // 100)
    # A download that resumes succeeds in the end, unless no byte ever comes.
    try:
        loaded = ESMC.from_pretrained(NAME)
    except InputError:
        with pytest.raises(InputError, match="the cache"):
            ESMC.from_pretrained(NAME, local_files_only=True)
        large.faults.clear()
        loaded = ESMC.from_pretrained(NAME)
    assert_same(loaded, LARGE)
