"""Files that a recipe names by their address: fetched whole, checked, kept, or refused in one line."""

import hashlib
from pathlib import Path

import pytest
from hub_server import put_repository

from eqxesm import InputError
from eqxesm.data import fetch as module
from eqxesm.data.fetch import fetch
from eqxesm.data.sources import Source, open_source

CONTENT = b"sequence,label\nMKV,1\nMKL,0\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "datasets/me/assay"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EQXESM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def url(hub) -> str:
    """The address of a table, on a server that is not the Hub of the environment."""
    put_repository(hub, NAME, "5" * 40, {"proteins.csv": CONTENT, "large.safetensors": b"x" * 100})
    return f"{hub.endpoint}/{NAME}/resolve/main/proteins.csv"


def refusal(url: str, sha256: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        fetch(url, sha256)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(url)
    return message


def test_a_file_is_fetched_once(url, hub, cache):
    path = fetch(url, SHA256)
    assert path.read_bytes() == CONTENT
    assert path.parent == cache
    assert path.suffix == ".csv"
    assert fetch(url, SHA256) == path
    assert len(hub.requests) == 1
    assert fetch(url, None).read_bytes() == CONTENT
    assert len(hub.requests) == 2


def test_a_damaged_file_in_the_cache_is_fetched_again(url, hub):
    path = fetch(url, SHA256)
    path.write_bytes(b"damaged")
    assert fetch(url, SHA256).read_bytes() == CONTENT
    assert len(hub.requests) == 2


def test_a_redirection_is_followed(url):
    """Large files of the Hub are in another place."""
    assert fetch(url.replace("proteins.csv", "large.safetensors"), None).read_bytes() == b"x" * 100


@pytest.mark.usefixtures("url")
def test_addresses_of_the_hub_are_fetched_from_that_of_the_environment(hub):
    assert fetch(f"https://huggingface.co/{NAME}/resolve/main/proteins.csv", SHA256).read_bytes() == CONTENT
    assert hub.requests == [("GET", f"/{NAME}/resolve/main/proteins.csv")]


def test_another_file_is_refused_and_not_kept(url, cache):
    assert "not the file that the recipe means: its SHA-256 is" in refusal(url, "0" * 64)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 404}, "cannot be fetched (HTTP 404)"),
        ({"status": 500}, "cannot be fetched (HTTP 500)"),
        ({"cut_at": 5}, "cannot be fetched (IncompleteRead"),
        ({"status": 302, "headers": {"Location": "file:///etc/hostname"}}, "cannot be fetched (HTTP 302)"),
        (
            {"status": 302, "headers": {"Location": "ftp://127.0.0.1/x"}},
            "cannot be fetched (<urlopen error unknown url type: ftp>)",
        ),
        (
            {"status": 200, "headers": {"Content-Length": str(2**31)}},
            "over the limit of 1,073,741,824 bytes. Not fetched.",
        ),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(fault, reason, url, hub, cache, monkeypatch):
    hub.fail("GET", "proteins.csv", **fault)
    monkeypatch.setattr(module, "TIMEOUT", 1.0)
    assert reason in refusal(url, SHA256)
    assert list(cache.iterdir()) == []


def test_no_more_than_the_limit_is_read(url, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    assert "over the limit of 10 bytes. Not fetched." in refusal(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x.csv", "http://no-such-host.invalid/x.csv"])
def test_a_server_that_is_not_there_is_one_line(url):
    assert "cannot be fetched" in refusal(url)
    assert refusal(url).endswith("Check the network, or name a folder that holds the file with --data.")


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "file:///etc/passwd", "a/b.csv", "https://", "https://a", "https://a/b c", "https:///b"]
)
def test_addresses_are_those_of_files_by_http(url):
    with pytest.raises(InputError, match=r"url is .*: expected an http or https address of a file"):
        Source("a.csv", url=url)


@pytest.mark.parametrize("fields", [{"url": "https://a/b"}, {"sha256": SHA256}])
def test_data_sets_of_the_hub_have_neither(fields):
    with pytest.raises(InputError, match="url and sha256 are of a file that path names"):
        Source("me/assay", file="a.csv", revision="5" * 40, **fields)


def test_a_source_is_read_where_it_is_and_fetched_otherwise(url, hub, tmp_path):
    source = Source("proteins.csv", url=url, sha256=SHA256)
    assert [protein.sequence for protein in open_source(source, tmp_path)] == ["MKV", "MKL"]
    assert len(hub.requests) == 1
    (tmp_path / "proteins.csv").write_bytes(CONTENT)
    assert [protein.label for protein in open_source(source, tmp_path)] == [1, 0]
    assert len(hub.requests) == 1
    (tmp_path / "proteins.csv").write_bytes(CONTENT + b"MKA,1\n")
    with pytest.raises(InputError, match=r"proteins\.csv: not the file that the recipe means"):
        open_source(source, tmp_path)


def test_a_source_may_be_limited_to_some_of_its_proteins(tmp_path):
    rows = "".join(f"MK{'A' * n},{n % 2}\n" for n in range(100))
    (tmp_path / "proteins.csv").write_text("sequence,label\n" + rows)
    every = open_source(Source("proteins.csv"), tmp_path)
    some = open_source(Source("proteins.csv", proteins=20), tmp_path)
    assert len(some) == 20
    assert list(some) == [protein for protein in every if protein in list(some)]
    assert {protein.label for protein in some} == {0, 1}
    assert list(open_source(Source("proteins.csv", proteins=20), tmp_path)) == list(some)
    assert list(open_source(Source("proteins.csv", proteins=1000), tmp_path)) == list(every)
