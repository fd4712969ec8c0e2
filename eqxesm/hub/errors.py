"""Calls of the Hub client: retried where that may help, and refused in one line."""

import errno
import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from eqxesm.errors import InputError, one_line
from eqxesm.hub.session import MAX_RETRY_AFTER, checked_session, retry_after

T = TypeVar("T")

RETRY_DELAYS = (1.0, 3.0, 9.0)
"""Seconds before each further try, unless the Hub asks for another delay."""

_EXPLANATIONS = {
    401: "the Hub does not know this login. Run 'hf auth login', or set HF_TOKEN.",
    402: "your login lacks the rights for this. Use a token that may read, or write, there.",
    403: "your login lacks the rights for this. Use a token that may read, or write, there.",
    412: "somebody changed the repository in the meantime. Look at it, and push again.",
    errno.ENOSPC: "disk full. Free space in the cache, or set HF_HOME.",
    errno.EDQUOT: "disk quota reached. Free space in the cache, or set HF_HOME.",
    errno.EFBIG: "file too large for this disk. Set HF_HOME to a folder on another one.",
    errno.EACCES: "no permission to write to the cache. Set HF_HOME to another folder.",
    errno.EPERM: "no permission to write to the cache. Set HF_HOME to another folder.",
    errno.EROFS: "no permission to write to the cache. Set HF_HOME to another folder.",
    "RevisionNotFoundError": "no such revision in the repository",
    "GatedRepoError": "gated. Accept its terms on its page, and log in with 'hf auth login'.",
    "RepositoryNotFoundError": "no such repository on the Hub, or a private one. Check the name, and log in with "
    "'hf auth login' if it is yours.",
    "HFValidationError": "not a valid repository name",
}
"""What errors mean, by the name of their class, HTTP status or `errno`."""

_UNREACHABLE = {"ConnectError", "ConnectTimeout", "ConnectionRefusedError", "NewConnectionError",
                "NameResolutionError", "OfflineModeIsEnabled", "SSLCertVerificationError", "gaierror"}  # fmt: skip
"""Errors that a retry does not help against, by name: they belong to libraries that vary."""

_HTTP_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
"""What the client's versions talk HTTP with."""


class UnreachableError(InputError):
    """The Hub gave no answer: no network, or offline mode."""


def ask(call: Callable[[], T], where: str, *, again: Callable[[], T] | None = None, retry: bool = True) -> T:
    """Call the Hub client, and again after a rate limit, a server error or a cut connection.

    `again` takes the place of `call` in further tries. Every error becomes an `InputError`.
    """
    for delay in (*RETRY_DELAYS, None):
        try:
            with _quiet(), checked_session(where):
                return call()
        except InputError:
            raise
        except Exception as error:
            pause = _retry_delay(error, delay) if retry else None
            if pause is None:
                raise explain(error, where) from error
        time.sleep(pause)
        call = again or call
    raise AssertionError("the last try returns or raises")


def explain(error: Exception, where: str) -> InputError:
    """Say in one line what went wrong between here and the Hub, and what to do."""
    causes = list(_causes(error))
    names = [kind.__name__ for cause in causes for kind in type(cause).__mro__]
    status, headers = _response(error)
    keys = [*names, status] if status is not None else [*names, *(getattr(each, "errno", None) for each in causes)]
    if found := next((_EXPLANATIONS[key] for key in keys if key in _EXPLANATIONS), None):
        return InputError(f"{where}: {found}")
    if status == 429:
        delay = retry_after(headers)
        when = f"in {delay:.0f} seconds" if delay else "later"
        return InputError(f"{where}: rate limit of the Hub reached. Try again {when}.")
    if status is not None and status >= 500:
        return InputError(f"{where}: the Hub fails (HTTP {status}). Try later.")
    if status is not None:
        return InputError(f"{where}: refused by the Hub (HTTP {status}: {one_line(causes[0])})")
    last = causes[-1]
    if not _is_network(causes):
        return InputError(f"{where}: failed ({type(last).__name__}: {one_line(last, 120)})")
    return UnreachableError(
        f"{where}: the Hub cannot be reached ({type(last).__name__}: {one_line(last, 120)}). Check the network, or "
        "fetch the repository elsewhere and name its folder."
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Walk from an error to what led to it: the client wraps one in another."""
    seen = 0
    while error is not None and seen < 10:
        yield error
        error = error.__cause__ or error.__context__
        seen += 1


def _response(error: Exception) -> tuple[int | None, dict[str, str]]:
    for cause in _causes(error):
        response: Any = getattr(cause, "response", None)
        if getattr(response, "status_code", None) is not None:
            return response.status_code, dict(response.headers)
    return None, {}


def _retry_delay(error: Exception, delay: float | None) -> float | None:
    """Seconds before the next try; None means to give up."""
    if delay is None:
        return None
    status, headers = _response(error)
    if status is not None:
        asked = retry_after(headers) if status in (429, 503) else None
        if asked is not None:
            return asked if asked <= MAX_RETRY_AFTER else None
        return delay if status == 429 or status >= 500 else None
    causes = list(_causes(error))
    # The older client checks the size of what it fetched.
    is_cut = _is_network(causes) or any("Consistency check failed" in str(cause) for cause in causes)
    is_local = any(getattr(cause, "errno", None) in _EXPLANATIONS for cause in causes)
    unreachable = {type(cause).__name__ for cause in causes} & _UNREACHABLE
    return delay if is_cut and not is_local and not unreachable else None


def _is_network(causes: list[BaseException]) -> bool:
    """Whether an HTTP library or the network failed, not the disk or a program."""
    return any(
        isinstance(cause, ConnectionError) or type(cause).__module__.partition(".")[0] in _HTTP_LIBRARIES
        for cause in causes
    )


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Silence the client's log, but for the line that says it is waiting."""

    def is_waiting(record: logging.LogRecord) -> bool:
        return "Rate limited" in record.getMessage()

    handlers = logging.getLogger("huggingface_hub").handlers
    for handler in handlers:
        handler.addFilter(is_waiting)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_waiting)
