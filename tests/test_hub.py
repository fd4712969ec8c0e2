import huggingface_hub
import pytest
from huggingface_hub import errors

from eqxesm.checkpoint.hub import fetch
from eqxesm.errors import InputError

# The library under the Hub's client, by the name that it has since huggingface_hub 2.
httpx2 = pytest.importorskip("httpx2")

REPOSITORY = "someone/solubility-esmc-300m"


def refusal(source, **options) -> str:
    with pytest.raises(InputError) as caught:
        fetch(source, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def response(status: int) -> httpx2.Response:
    request = httpx2.Request("GET", f"https://huggingface.co/api/models/{REPOSITORY}")
    return httpx2.Response(status, request=request)


@pytest.fixture
def download(monkeypatch):
    """Let the Hub's client raise or return something, and note how it was called."""
    calls = []

    def _download(outcome):
        def snapshot_download(*arguments, **options):
            calls.append((arguments, options))
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return calls

    return _download


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_folder_is_itself(kind, tmp_path, download):
    calls = download(RuntimeError("must not be asked"))
    assert fetch(kind(tmp_path)) == tmp_path
    assert calls == []


def test_a_folder_comes_before_a_repository_of_that_name(tmp_path, monkeypatch, download):
    calls = download(RuntimeError("must not be asked"))
    (tmp_path / REPOSITORY).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / fetch(REPOSITORY)).samefile(tmp_path / REPOSITORY)
    assert calls == []


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
def test_names_that_are_neither(name, tmp_path, monkeypatch, download):
    calls = download(RuntimeError("must not be asked"))
    monkeypatch.chdir(tmp_path)
    assert "no such folder, and no name of a Hub repository" in refusal(name)
    assert calls == []


@pytest.mark.parametrize("name", ["a" * 300, "~nobody-of-this-name/model", "a/" * 3000])
def test_names_that_the_system_refuses(name):
    assert "cannot be looked up" in refusal(name)


def test_a_download_gives_its_folder(tmp_path, download):
    calls = download(str(tmp_path))
    assert fetch(REPOSITORY, "v1", ("*.json",)) == tmp_path
    assert calls == [((REPOSITORY,), {"revision": "v1", "allow_patterns": ["*.json"]})]


def test_by_default_only_what_a_checkpoint_is_made_of_is_downloaded(tmp_path, download):
    calls = download(str(tmp_path))
    fetch(REPOSITORY)
    (_, options), *_ = calls
    assert options == {
        "revision": None,
        "allow_patterns": ["*.json", "*.safetensors", "README.md"],
    }


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (errors.RepositoryNotFoundError("a\nb", response=response(404)), "or it is private"),
        (errors.GatedRepoError("a\nb", response=response(403)), "log in"),
        (errors.RevisionNotFoundError("a\nb", response=response(404)), "no such revision"),
        (errors.RemoteEntryNotFoundError("a\nb", response=response(404)), "RemoteEntryNotFound"),
        (errors.LocalEntryNotFoundError("a\nb"), "LocalEntryNotFoundError"),
        (errors.IncompleteSnapshotError("a\nb", "folder"), "IncompleteSnapshotError"),
        (errors.EntryNotFoundError("a\nb"), "EntryNotFoundError"),
        (errors.HfHubHTTPError("a\nb", response=response(500)), "HfHubHTTPError"),
        (errors.HFValidationError("a\nb"), "HFValidationError"),
        (errors.OfflineModeIsEnabled("a\nb"), "OfflineModeIsEnabled"),
        (errors.RevisionResolutionError("a\nb"), "RevisionResolutionError"),
        (errors.XetDownloadError("a\nb"), "XetDownloadError"),
        (httpx2.ProxyError("a\nb"), "ProxyError"),
        (httpx2.ReadTimeout("a\nb"), "ReadTimeout"),
        (OSError(28, "No space left on device"), "OSError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
@pytest.mark.parametrize("revision", [None, "0123abc"])
def test_what_goes_wrong_is_one_line(error, part, revision, download):
    download(error)
    message = refusal(REPOSITORY, revision=revision)
    assert part in message
    assert message.startswith(f"{REPOSITORY}@{revision}: " if revision else f"{REPOSITORY}: ")


def test_an_interrupt_is_no_error_of_the_input(monkeypatch):
    def snapshot_download(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(KeyboardInterrupt):
        fetch(REPOSITORY)


@pytest.mark.parametrize("name", ["nobody-at-all/no-such-model", "nobody/two--dashes"])
def test_offline(name):
    message = refusal(name)
    assert message.startswith(f"{name}: no such folder here, and the Hub did not give it")
