"""Calls of the Hub's client: tried again where that may help, and refused in words."""

import errno
import logging
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from eqxesm.checkpoint.reading import one_line
from eqxesm.errors import InputError

Result = TypeVar("Result")

WAITS = (1.0, 3.0, 9.0)
"""Seconds before each further try, where the Hub does not ask for others."""

LONGEST_WAIT = 60.0
"""Seconds that are waited at the Hub's request; a longer one is told."""

_NO_RIGHTS = (
    "your login lacks the rights for this: take a token that may read or write there, whichever "
    "you want"
)
_STATUS = {
    401: "the Hub knows no such login: 'hf auth login', or a valid HF_TOKEN in the environment",
    402: _NO_RIGHTS,
    403: _NO_RIGHTS,
    412: "somebody else has changed it in the meantime: look at it, and push again",
}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)


class UnreachableError(InputError):
    """The Hub gave no answer at all: no network, or one that is switched off."""


SILENCE = 60.0
"""Seconds without a word after which a connection counts as cut."""


def ask(
    call: Callable[[], Result],
    where: str,
    *,
    again: Callable[[], Result] | None = None,
    repeat: bool = True,
) -> Result:
    """Call the Hub's client; again after a rate limit, an error of the server or a cut connection.

    Args:
        call: makes the call.
        where: the repository, as an error names it.
        again: makes it once more, where that takes another call.
        repeat: whether it may be made again.

    Returns:
        What the call gives.

    Raises:
        UnreachableError: there was no answer.
        InputError: the Hub refused, or failed until the last try.
    """
    for tries, wait in enumerate((*WAITS, None), 1):
        try:
            with _quiet(), _bounded():
                return call()
        except InputError:
            raise
        except Exception as error:
            # Errors of the HTTP library come through too; which one that is depends on the version.
            pause = _pause(error, wait) if repeat else None
            if pause is None:
                raise explain(error, where, tries) from error
        time.sleep(pause)
        call = again or call
    raise AssertionError("the last try returns or raises")


def explain(error: Exception, where: str, tries: int = 1) -> InputError:
    """Say in one line what went wrong between here and the Hub, and what to do.

    Args:
        error: what the client raised.
        where: the repository.
        tries: how often it was asked.

    Returns:
        The error to raise.
    """
    from huggingface_hub import errors

    causes = list(_causes(error))
    status, headers = _response(error)

    def is_a(*kinds: type[Exception]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if is_a(errors.RevisionNotFoundError):
        return InputError(f"{where}: the repository has no such revision: check its branches")
    if is_a(errors.GatedRepoError):
        return InputError(
            f"{where}: its owner wants its terms accepted first: do so on its page, and log in "
            "with 'hf auth login'"
        )
    if is_a(errors.RepositoryNotFoundError):
        return InputError(
            f"{where}: no such repository on the Hub, or it is private: check the name, and log in "
            "with 'hf auth login' if it is yours"
        )
    if is_a(errors.HFValidationError):
        return InputError(f"{where}: the Hub gives no repository such a name: check it")
    if said := _say_status(status, headers, tries):
        return InputError(f"{where}: {said}")
    numbers = {getattr(cause, "errno", None) for cause in causes}
    if numbers & set(_NO_ROOM):
        return InputError(
            f"{where}: the disk is full: make room in the cache, or name another one (HF_HOME)"
        )
    if numbers & set(_NO_ACCESS):
        return InputError(
            f"{where}: the cache may not be written to: name another one with HF_HOME"
        )
    if is_a(errors.EntryNotFoundError) and status == 404:
        return InputError(f"{where}: the repository has no such file: check the revision")
    if status is not None:
        said = one_line(causes[0])[:200]
        return InputError(f"{where}: the Hub refuses (HTTP {status}: {said}): do as it says")
    if is_a(ConnectionError, errors.OfflineModeIsEnabled) or _is_network(causes):
        return UnreachableError(
            f"{where}: the Hub cannot be reached ({type(causes[-1]).__name__}): check the network, "
            "or fetch the repository elsewhere and name its folder"
        )
    told = f"{type(causes[-1]).__name__}: {one_line(causes[-1])[:120]}"
    return InputError(f"{where}: failed on the way ({told}): check the name and the network")


def _say_status(status: int | None, headers: Mapping[str, str], tries: int) -> str | None:
    """Put a status into words, where it says all that there is to say."""
    if status is None:
        return None
    if status == 429:
        later = _retry_after(headers)
        when = f"in {later:.0f} seconds" if later else "later"
        return f"the Hub limits how much one may ask of it: try again {when}"
    if status >= 500:
        asked = f", and did so each of {tries} times" if tries > 1 else ""
        return f"the Hub fails (HTTP {status}){asked}: try later"
    return _STATUS.get(status)


def _causes(error: BaseException | None) -> Iterator[Exception]:
    """Walk from an error to what led to it; the client wraps one in another."""
    seen = 0
    while isinstance(error, Exception) and seen < 10:
        yield error
        error = error.__cause__ or error.__context__
        seen += 1


def _response(error: Exception) -> tuple[int | None, dict[str, str]]:
    for cause in _causes(error):
        response: Any = getattr(cause, "response", None)
        if getattr(response, "status_code", None) is not None:
            return response.status_code, dict(response.headers)
    return None, {}


def _is_network(causes: list[Exception]) -> bool:
    """Tell the HTTP library's own errors, whichever it is, from those of this program."""
    return any(
        type(cause).__module__.partition(".")[0]
        in ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
        for cause in causes
    )


def _is_cut(causes: list[Exception]) -> bool:
    names = {type(cause).__name__ for cause in causes}
    return bool(
        names
        & {"RemoteProtocolError", "ReadError", "WriteError", "ReadTimeout", "ChunkedEncodingError",
           "ConnectionResetError", "IncompleteRead", "ProtocolError"}
    ) or any("Consistency check failed" in str(cause) for cause in causes)  # fmt: skip


def _pause(error: Exception, wait: float | None) -> float | None:
    """Say how long to wait before the next try, or that there is none."""
    if wait is None:
        return None
    status, headers = _response(error)
    if status == 429 or (status == 503 and _retry_after(headers)):
        later = _retry_after(headers)
        return wait if later is None else later if later <= LONGEST_WAIT else None
    if status is not None and status >= 500:
        return wait
    return wait if status is None and _is_cut(list(_causes(error))) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how long the Hub wants to be left alone, in either of the two ways that it says so."""
    named = {name.lower(): value.strip() for name, value in headers.items()}
    if re.fullmatch(r"[0-9]{1,6}", named.get("retry-after", "")):
        return float(named["retry-after"])
    limit = re.search(r";\s*t=([0-9]{1,6})", named.get("ratelimit", ""))
    return float(limit[1]) if limit else None


@contextmanager
def _bounded() -> Generator[None, None, None]:
    """Let the client wait for an answer, but not forever, as it does where nobody says how long."""
    from huggingface_hub.utils import get_session

    session: Any = get_session()
    # Until its 1.0 the client's sessions know no such setting.
    if not hasattr(session, "timeout"):
        yield
        return
    before = session.timeout
    session.timeout = SILENCE
    try:
        yield
    finally:
        session.timeout = before


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Keep the client from logging what is told here once, at the end; but not that it waits."""

    def is_wait(record: logging.LogRecord) -> bool:
        return "Rate limited" in record.getMessage()

    handlers = logging.getLogger("huggingface_hub").handlers
    for handler in handlers:
        handler.addFilter(is_wait)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_wait)
