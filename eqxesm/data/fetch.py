"""Files of data that a recipe names by their address, fetched once into the user's cache."""

import hashlib
import http.client
import logging
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from eqxesm.errors import InputError, one_line
from eqxesm.files import cache_folder, make_folder, replace_file

MAX_BYTES = 2**30
"""Largest file that is fetched."""

TIMEOUT = 60.0
"""Seconds without data after which a connection counts as cut."""

HUB = "https://huggingface.co/"
HINT = "Check the network, or name a folder that holds the file with --data."

_log = logging.getLogger(__name__)


def fetch(url: str, sha256: str | None) -> Path:
    """The file at an address, from the cache if it is there. Its SHA-256 is checked, if that is given."""
    path = _cached(url, sha256)
    if path.is_file() and sha256 in (None, hash_file(path)):
        return path
    make_folder(path.parent)
    _log.info("fetching %s", url)
    with replace_file(path) as partial:
        _download(url, partial)
        check_hash(partial, sha256, url)
    return path


def check_hash(path: Path, sha256: str | None, where: object) -> None:
    """Refuse a file that is not the one that a recipe means."""
    if sha256 is not None and (found := hash_file(path)) != sha256:
        raise InputError(
            f"{where}: not the file that the recipe means: its SHA-256 is {found[:12]}..., expected {sha256[:12]}.... "
            "Name a folder that holds the right one with --data, or change sha256 in the recipe."
        )


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _cached(url: str, sha256: str | None) -> Path:
    key = sha256 or hashlib.sha256(url.encode()).hexdigest()
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    # Readers tell the format by the ending.
    endings = "".join(Path("".join(each for each in name if each.isalnum() or each in "._-")).suffixes[-2:])
    return cache_folder("data") / f"{key[:32]}{endings}"


def _download(url: str, path: Path) -> None:
    try:
        with _opener().open(_on_hub(url), timeout=TIMEOUT) as answer, open(path, "wb") as file:
            size = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(2**20):
                size = max(size, file.tell() + len(block))
                if size > MAX_BYTES:
                    raise InputError(f"{url}: over the limit of {MAX_BYTES:,} bytes. Not fetched.")
                file.write(block)
            if file.tell() < size:
                raise http.client.IncompleteRead(b"", size - file.tell())
    except InputError:
        raise
    except HTTPError as error:
        raise InputError(f"{url}: cannot be fetched (HTTP {error.code}). {HINT}") from error
    except (URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        cause = getattr(error, "reason", None)
        reason = one_line(cause if isinstance(cause, BaseException) else error, 120) or type(error).__name__
        raise InputError(f"{url}: cannot be fetched ({reason}). {HINT}") from error


def _on_hub(url: str) -> str:
    """The address at the Hub that the environment names (HF_ENDPOINT)."""
    # Imported late: it takes half a second.
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{url.removeprefix(HUB)}" if url.startswith(HUB) else url


def _opener() -> request.OpenerDirector:
    """Talks HTTP and HTTPS alone: a redirection leads to no file and no FTP server."""
    opener = request.OpenerDirector()
    kinds: list[Any] = [request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPRedirectHandler]
    for kind in [*kinds, request.HTTPDefaultErrorHandler, request.HTTPErrorProcessor, request.UnknownHandler]:
        opener.add_handler(kind())
    return opener
